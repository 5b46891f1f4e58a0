"""A quota: so many calls in a sliding span of time, of one account or of all."""

from collections import deque
from collections.abc import Hashable
from datetime import datetime, timedelta

from runtime.clock import Clock

MINUTE = timedelta(minutes=1)


class Quota:
    """Counts calls."""

    def __init__(self, clock: Clock, span: timedelta = MINUTE) -> None:
        self._clock = clock
        self._span = span
        self._spent: dict[Hashable, deque[datetime]] = {}

    def spend(self, who: Hashable, limit: int, *, units: int = 1) -> tuple[int, int]:
        """Count a call; return how many are left, and seconds until more are.

        Fewer than none are left where the call is one too many; it is not counted then.
        """
        now = self._clock.now()
        spent = self._spent.setdefault(who, deque())
        while spent and now - spent[0] >= self._span:
            spent.popleft()
        oldest = spent[0] if spent else now
        reset_s = max(1, round((oldest + self._span - now).total_seconds()))
        if len(spent) + units > limit:
            return -1, reset_s
        spent.extend([now] * units)
        return limit - len(spent), reset_s
