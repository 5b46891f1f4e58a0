"""The quota: a sliding minute, for the project and for each user of it."""

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.errors import ApiError
from local_stack.twins.quota import Quota
from runtime.clock import Clock

UNITS = {"events.patch": 3}


class ProjectQuota:
    """Counts calls, and refuses them now with 403, now with 429, as Google does."""

    def __init__(self, clock: Clock, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._quota = Quota(clock)
        self._refused = 0

    def spend(self, operation: str, email: str) -> None:
        """Count a call.

        Raises:
            ApiError: over the quota of the project or of this user.
        """
        units = UNITS.get(operation, 1)
        limits = (
            ("", self._behaviour.requests_per_minute, "rateLimitExceeded"),
            (email, self._behaviour.user_requests_per_minute, "userRateLimitExceeded"),
        )
        for who, limit, reason in limits:
            if limit is None:
                continue
            left, _ = self._quota.spend(who, limit, units=units)
            if left < 0:
                raise self._refusal(reason)

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
            retry_after_s=self._behaviour.quota_retry_after_s,
        )
