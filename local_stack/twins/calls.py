"""What was asked of a twin."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from runtime.clock import Clock, SystemClock

LOG_LENGTH = 20_000


@dataclass(frozen=True)
class CallRecord:
    """One call as it went, in real time whatever the twin's clock says."""

    operation: str
    subject: str | None
    status: int | None
    at: datetime
    duration_ms: float


@dataclass
class CallLog:
    """What was asked of the twin, for tours, tests and counting."""

    wall: Clock = field(default_factory=SystemClock)
    records: deque[CallRecord] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    listeners: list[Callable[[CallRecord], None]] = field(default_factory=list)

    def note(self, record: CallRecord) -> None:
        self.records.append(record)
        for listener in self.listeners:
            listener(record)

    def count(self, operation: str | None = None) -> int:
        """Return how many calls came, of one operation or in all."""
        return sum(1 for r in self.records if operation in {None, r.operation})
