"""The quota: a sliding minute, for the project and for each user of it."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.errors import ApiError
from runtime.clock import Clock

MINUTE = timedelta(minutes=1)
UNITS = {"events.patch": 3}


@dataclass
class Quota:
    """Counts calls, and refuses them now with 403, now with 429, as Google does."""

    clock: Clock
    behaviour: Behaviour
    _spent: dict[str, deque[datetime]] = field(default_factory=dict)
    _refused: int = 0

    def spend(self, operation: str, email: str) -> None:
        """Count a call.

        Raises:
            ApiError: over the quota of the project or of this user.
        """
        limits = (
            ("", self.behaviour.requests_per_minute, "rateLimitExceeded"),
            (email, self.behaviour.user_requests_per_minute, "userRateLimitExceeded"),
        )
        now = self.clock.now()
        for who, limit, reason in limits:
            if limit is None:
                continue
            spent = self._spent.setdefault(who, deque())
            while spent and now - spent[0] >= MINUTE:
                spent.popleft()
            units = UNITS.get(operation, 1)
            if len(spent) + units > limit:
                raise self._refusal(reason)
            spent.extend([now] * units)

    def _refusal(self, reason: str) -> ApiError:
        self._refused += 1
        if self._refused % 2:
            status, message = 403, "Rate Limit Exceeded"
        else:
            status, reason, message = 429, "rateLimitExceeded", "Rate Limit Exceeded"
        return ApiError(
            status,
            reason,
            message,
            domain="usageLimits",
            retry_after_s=self.behaviour.quota_retry_after_s,
        )
