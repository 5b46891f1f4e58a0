"""Throttling: so many calls in ten minutes, and so many at a time, for each mailbox."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.errors import throttled
from local_stack.twins.microsoft.oauth import Grant
from runtime.clock import Clock

SPAN = timedelta(minutes=10)


@dataclass
class Quota:
    """Counts calls of one app to one mailbox."""

    clock: Clock
    behaviour: Behaviour
    _spent: dict[tuple[str, str], deque[datetime]] = field(default_factory=dict)
    _under_way: dict[tuple[str, str], int] = field(default_factory=dict)

    @contextmanager
    def spend(self, grant: Grant) -> Iterator[None]:
        """Let a call through.

        Raises:
            ApiError: 429.
        """
        who = (grant.client_id, grant.email)
        self._count(who)
        under_way = self._under_way.get(who, 0)
        most = self.behaviour.mailbox_concurrency
        if most is not None and under_way >= most:
            wait = self.behaviour.throttle_retry_after_s
            raise throttled(wait, "MailboxConcurrency")
        self._under_way[who] = under_way + 1
        try:
            yield
        finally:
            self._under_way[who] -= 1

    def _count(self, who: tuple[str, str]) -> None:
        most = self.behaviour.requests_per_ten_minutes
        if most is None:
            return
        now, spent = self.clock.now(), self._spent.setdefault(who, deque())
        while spent and now - spent[0] >= SPAN:
            spent.popleft()
        if len(spent) >= most:
            raise throttled(self.behaviour.throttle_retry_after_s, "request rate")
        spent.append(now)
