"""A quota: so many calls of one account in a sliding minute."""

from collections import deque
from datetime import datetime, timedelta

from runtime.clock import Clock

MINUTE = timedelta(minutes=1)


class Quota:
    """Counts calls."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: dict[str, deque[datetime]] = {}

    def spend(self, who: str, limit: int) -> tuple[int, int]:
        """Count a call; return how many are left, and seconds until more are.

        Fewer than none are left where the call is one too many; it is not counted then.
        """
        now = self._clock.now()
        spent = self._spent.setdefault(who, deque())
        while spent and now - spent[0] >= MINUTE:
            spent.popleft()
        reset_s = 60
        if spent:
            reset_s = max(1, round((spent[0] + MINUTE - now).total_seconds()))
        if len(spent) >= limit:
            return -1, reset_s
        spent.append(now)
        return limit - len(spent), reset_s
