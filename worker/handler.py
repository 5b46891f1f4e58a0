"""What the dispatcher hands to a handler, and what it wants back.

A handler does one run of one task. It returns an Outcome, or raises:

* TaskFailed        it did not work: again after back-off
* providers.errors  the same; ``retry_after_s`` of a Transient holds back the connection
* LeaseLost         the task is another worker's now: nothing is written any more
                    (the database says so by CS001, which may be raised as it is)

Anything else that a handler raises is a fault of ours: logged by type and place, and
the task is tried again after back-off.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

NO_STEPS: Mapping[str, float] = {}


class TaskFailed(Exception):
    """This run did not work; the reason is shown to people and holds no content.

    With ``retry_after_s`` the connection as a whole is left alone for so long.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(reason)


class LeaseLost(Exception):
    """Another worker holds the task now: drop what was done, write nothing."""


@dataclass(slots=True, eq=False)
class Task:
    """One run of a task, as it was claimed."""

    id: int
    kind: str
    subject_id: UUID
    connection_id: UUID | None
    lane: int
    attempt: int
    lease: UUID
    due_at: datetime
    claimed_at: datetime
    # On time.monotonic(). The first moves on with each renewal.
    lease_ends: float
    claimed: float = field(default_factory=time.monotonic)

    @property
    def fence(self) -> dict[str, Any]:
        """What every write names: it is refused once the task is another worker's."""
        return {"task_id": self.id, "lease": self.lease}

    def lease_remaining(self) -> float:
        """How many seconds the lease is ours for certain, unless renewed meanwhile.

        Ask before writing to a provider: what could outlast this is not begun.
        """
        return self.lease_ends - time.monotonic()

    def now(self) -> datetime:
        """What the database's clock says: the measure for ``Outcome.next_at``."""
        return self.claimed_at + timedelta(seconds=time.monotonic() - self.claimed)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run changed; ``+`` joins the counts of several pages."""

    created: int = 0
    updated: int = 0
    cancelled: int = 0
    unchanged: int = 0
    set_aside: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.created + other.created,
            self.updated + other.updated,
            self.cancelled + other.cancelled,
            self.unchanged + other.unchanged,
            self.set_aside + other.set_aside,
        )


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended well.

    ``next_at`` is when the task is due again (the database's time); None ends it.
    ``steps`` are milliseconds by name. An idle run found nothing to do: it is counted
    and leaves no row in ``sync.runs``.
    """

    next_at: datetime | None
    counts: Counts = NOTHING
    api_calls: int = 0
    steps: Mapping[str, float] = field(default_factory=lambda: NO_STEPS)
    idle: bool = False


class Handler(Protocol):
    """Does the work of one kind of task.

    It is cancelled when its lease is lost and when the worker must stop; what it was
    doing is then done again by whoever claims the task next.
    """

    async def __call__(self, task: Task) -> Outcome: ...
