"""Throttling: so many calls in ten minutes, and so many at a time, for each mailbox."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.errors import throttled
from local_stack.twins.microsoft.oauth import Grant
from local_stack.twins.quota import Quota
from runtime.clock import Clock

SPAN = timedelta(minutes=10)


class MailboxQuota:
    """Counts calls of one app to one mailbox."""

    def __init__(self, clock: Clock, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._quota = Quota(clock, SPAN)
        self._under_way: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def spend(self, grant: Grant) -> Iterator[None]:
        """Let a call through.

        Raises:
            ApiError: 429.
        """
        who = (grant.client_id, grant.email)
        self._count(who)
        most = self._behaviour.mailbox_concurrency
        if most is not None and self._under_way[who] >= most:
            wait = self._behaviour.throttle_retry_after_s
            raise throttled(wait, "MailboxConcurrency")
        self._under_way[who] += 1
        try:
            yield
        finally:
            self._under_way[who] -= 1

    def _count(self, who: tuple[str, str]) -> None:
        most = self._behaviour.requests_per_ten_minutes
        if most is None:
            return
        left, _ = self._quota.spend(who, most)
        if left < 0:
            raise throttled(self._behaviour.throttle_retry_after_s, "request rate")
