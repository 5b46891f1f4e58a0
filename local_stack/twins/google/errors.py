"""Google's way of saying no: one envelope, and a reason that decides what it means."""

import msgspec


class ApiError(Exception):
    """An answer in Google's error envelope."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: str | None = None,
        location_type: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.location = location
        self.location_type = location_type
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """Return the envelope, fields in Google's order."""
        detail = {"domain": self.domain, "reason": self.reason, "message": self.message}
        if self.location is not None:
            detail["locationType"] = self.location_type or "parameter"
            detail["location"] = self.location
        return msgspec.json.encode(
            {
                "error": {
                    "errors": [detail],
                    "code": self.status,
                    "message": self.message,
                }
            }
        )

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this answer."""
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after_s)))}


def not_found() -> ApiError:
    """Gone, never was, or not yours: Google does not say which."""
    return ApiError(404, "notFound", "Not Found")


def deleted() -> ApiError:
    """Deleted before; for whoever wants it deleted, that is a success."""
    return ApiError(410, "deleted", "Resource has been deleted")


def duplicate() -> ApiError:
    """The id is taken, if only by a deleted event."""
    return ApiError(409, "duplicate", "The requested identifier already exists.")


def invalid(message: str, location: str | None = None) -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, "invalid", message, location=location)


def required(message: str) -> ApiError:
    """Something that must be there is not."""
    return ApiError(400, "required", message)


def time_range_empty() -> ApiError:
    """An end that does not follow its start."""
    return ApiError(
        400,
        "timeRangeEmpty",
        "The specified time range is empty.",
        domain="calendar",
    )


def sync_token_gone() -> ApiError:
    """The sync token is worth nothing any more: read everything again."""
    return ApiError(
        410,
        "fullSyncRequired",
        "Sync token is no longer valid, a full sync is required.",
        domain="calendar",
        location="syncToken",
    )


def condition_not_met() -> ApiError:
    """Somebody else wrote first."""
    return ApiError(
        412,
        "conditionNotMet",
        "Precondition Failed",
        location="If-Match",
        location_type="header",
    )


def bad_credentials() -> ApiError:
    """The access token is old, revoked or invented."""
    return ApiError(
        401,
        "authError",
        "Invalid Credentials",
        location="Authorization",
        location_type="header",
    )


def forbidden(message: str = "Forbidden", reason: str = "forbidden") -> ApiError:
    """Understood, and refused for good."""
    domain = "calendar" if reason in CALENDAR_REASONS else "global"
    return ApiError(403, reason, message, domain=domain)


CALENDAR_REASONS = frozenset({"forbiddenForNonOrganizer", "requiredAccessLevel"})
USAGE_REASONS = frozenset(
    {
        "userRateLimitExceeded",
        "rateLimitExceeded",
        "quotaExceeded",
        "dailyLimitExceeded",
    }
)
USUAL_REASONS = {
    400: "badRequest",
    401: "authError",
    403: "userRateLimitExceeded",
    404: "notFound",
    409: "duplicate",
    410: "fullSyncRequired",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
}
USUAL_MESSAGES = {
    "userRateLimitExceeded": "User Rate Limit Exceeded",
    "rateLimitExceeded": "Rate Limit Exceeded",
    "quotaExceeded": "Calendar usage limits exceeded.",
    "dailyLimitExceeded": "Daily Limit Exceeded",
    "backendError": "Backend Error",
}


def as_ordered(
    status: int, reason: str | None, retry_after_s: float | None
) -> ApiError:
    """Make the error that a fault asks for, as Google itself would word it."""
    made = {
        (401, None): bad_credentials,
        (404, None): not_found,
        (410, None): sync_token_gone,
        (410, "deleted"): deleted,
        (412, None): condition_not_met,
    }.get((status, reason))
    if made is not None:
        return made()
    reason = reason or USUAL_REASONS.get(status, "backendError")
    return ApiError(
        status,
        reason,
        USUAL_MESSAGES.get(reason, reason),
        domain="usageLimits" if reason in USAGE_REASONS else "global",
        retry_after_s=retry_after_s,
    )
