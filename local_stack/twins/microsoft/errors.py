"""Graph's way of saying no: one envelope, and a code that decides what it means."""

from datetime import datetime

import msgspec


class ApiError(Exception):
    """An answer in Graph's error envelope."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self._headers = headers or {}

    def body(self, at: datetime, request_id: str, client_request_id: str) -> bytes:
        """Return the envelope."""
        inner = {
            "date": at.strftime("%Y-%m-%dT%H:%M:%S"),
            "request-id": request_id,
            "client-request-id": client_request_id or request_id,
        }
        return msgspec.json.encode(
            {"error": {"code": self.code, "message": self.message, "innerError": inner}}
        )

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this answer."""
        if self.retry_after_s is None:
            return self._headers
        return {**self._headers, "Retry-After": str(max(1, round(self.retry_after_s)))}


def not_found() -> ApiError:
    """Gone, never was, or not yours: Graph does not say which."""
    return ApiError(
        404, "ErrorItemNotFound", "The specified object was not found in the store."
    )


def invalid(message: str, code: str = "ErrorInvalidRequest") -> ApiError:
    """The request itself is wrong."""
    return ApiError(400, code, message)


def denied() -> ApiError:
    """Understood, and refused for good."""
    return ApiError(
        403, "ErrorAccessDenied", "Access is denied. Check credentials and try again."
    )


def bad_token() -> ApiError:
    """The access token is old, revoked or invented."""
    return ApiError(
        401,
        "InvalidAuthenticationToken",
        "Lifetime validation failed, the token is expired.",
        headers={"WWW-Authenticate": 'Bearer realm="", error="invalid_token"'},
    )


def conflict(status: int) -> ApiError:
    """Somebody else wrote first."""
    return ApiError(
        status,
        "ErrorIrresolvableConflict",
        "The send or update operation could not be performed because the change key "
        "passed in the request does not match the current change key for the item.",
    )


def state_lost(status: int = 410) -> ApiError:
    """The delta token is worth nothing any more: read everything again."""
    return ApiError(
        status,
        "SyncStateNotFound" if status == 410 else "syncStateNotFound",
        "The sync state generation is not found; generation=41;[highest=57].",
    )


def bad_delta_token() -> ApiError:
    """This was never a delta token."""
    return ApiError(400, "InvalidDeltaToken", "The delta token is malformed.")


def throttled(retry_after_s: float | None, limit: str) -> ApiError:
    """Too many calls, or too many at a time."""
    return ApiError(
        429,
        "ApplicationThrottled",
        f"Application is over its {limit} limit.",
        retry_after_s=retry_after_s,
    )


USUAL = {
    400: ("ErrorInvalidRequest", "The request is invalid."),
    403: ("ErrorAccessDenied", "Access is denied. Check credentials and try again."),
    404: ("ErrorItemNotFound", "The specified object was not found in the store."),
    423: ("ErrorItemLocked", "The item is locked."),
    429: ("TooManyRequests", "Too many requests."),
    500: ("ErrorInternalServerTransientError", "An internal server error occurred."),
    503: ("serviceNotAvailable", "The service is unavailable."),
    504: ("UnknownError", "The gateway timed out."),
}


def as_ordered(
    status: int, reason: str | None, retry_after_s: float | None
) -> ApiError:
    """Make the error that a fault asks for, as Graph itself would word it."""
    if reason is None and status == 401:
        return bad_token()
    if reason is None and status == 410:
        return state_lost()
    if reason is None and status in {409, 412}:
        return conflict(status)
    code, message = USUAL.get(status, ("UnknownError", "Something went wrong."))
    return ApiError(status, reason or code, message, retry_after_s=retry_after_s)
