"""What Graph thinks of each host by its answers, all subscriptions together."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from local_stack.twins.microsoft.behaviour import Behaviour
from runtime.clock import Clock

State: TypeAlias = Literal["normal", "slow", "drop"]


@dataclass
class Health:
    """One host: its last answers, and what was discarded for it."""

    answers: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    state: State = "normal"
    until: datetime | None = None
    missed: set[str] = field(default_factory=set)


@dataclass
class Hosts:
    """Every host that notifications go to."""

    behaviour: Behaviour
    wall: Clock
    by_name: dict[str, Health] = field(default_factory=dict)

    def of(self, address: str) -> Health:
        return self.by_name.setdefault(urlsplit(address).netloc, Health())

    def judge(self, host: str, state: State) -> None:
        """Let a host be slow or dropped from now on, as if it had earned that."""
        health = self.by_name.setdefault(host, Health())
        health.state = state
        health.until = self.wall.now() + timedelta(seconds=self.behaviour.drop_span_s)

    def state(self, address: str) -> State:
        """Return how a host is treated now."""
        health = self.of(address)
        if health.until is not None and self.wall.now() >= health.until:
            health.state, health.until = "normal", None
            health.answers.clear()
        return health.state

    def note(self, address: str, seconds: float) -> None:
        """Note how long an answer took, and judge by it."""
        behaviour, health = self.behaviour, self.of(address)
        health.answers.append(seconds)
        count = len(health.answers)
        if count < behaviour.judged_after or health.state != "normal":
            return
        slow = sum(1 for one in health.answers if one >= behaviour.answer_limit_s)
        dropped = sum(1 for one in health.answers if one >= behaviour.retry_limit_s)
        host = urlsplit(address).netloc
        if dropped / count > behaviour.drop_share:
            self.judge(host, "drop")
        elif slow / count > behaviour.slow_share:
            self.judge(host, "slow")
