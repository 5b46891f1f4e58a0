"""What Google's refusals mean, sorted by what the caller does about them.

https://developers.google.com/workspace/calendar/api/guides/errors
"""

import re
from datetime import datetime
from typing import Any

import httpx2
import msgspec

from providers.calls import retry_after_s
from providers.errors import (
    AccessExpired,
    AccessLost,
    CursorExpired,
    Gone,
    PreconditionFailed,
    ProviderError,
    RateLimited,
    Rejected,
    Transient,
    Unavailable,
    Unwatchable,
)
from providers.model import Provider

LIST_EVENTS = "events.list"

# A 403 with one of these is about speed, not about permission.
RATE_REASONS = frozenset({
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "quotaExceeded",
    "dailyLimitExceeded",
})  # fmt: skip
# The user left out a scope: consenting again mends it.
SCOPE_REASONS = frozenset({"insufficientPermissions", "insufficientScopes"})
UNWATCHABLE_REASON = "pushNotSupportedForRequestedResource"
# What is shown of a refusal: a word, so that no address or title comes with it.
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REQUEST_ID_HEADERS = ("x-goog-request-id", "x-request-id")
BY_STATUS: dict[int, type[ProviderError]] = {
    401: AccessExpired,
    404: Gone,
    408: Unavailable,
    410: Gone,
    412: PreconditionFailed,
    429: RateLimited,
}


def failure(
    response: httpx2.Response, operation: str, *, now: datetime
) -> ProviderError:
    """Make the error of an answer that is none of the 2xx."""
    reason = _reason(response.content)
    kind = _kind(response.status_code, reason, operation)
    error = kind(
        Provider.GOOGLE,
        operation,
        status=response.status_code,
        reason=reason,
        request_id=_request_id(response),
    )
    if isinstance(error, Transient):
        asked = response.headers.get("retry-after")
        error.retry_after_s = retry_after_s(asked, now=now)
    return error


def unavailable(operation: str, problem: Exception | str) -> Unavailable:
    """Make the error of a call that got no answer, or one that cannot be read."""
    reason = problem if isinstance(problem, str) else type(problem).__name__
    return Unavailable(Provider.GOOGLE, operation, reason=reason)


def error_code(content: bytes) -> str:
    """Read OAuth's `error`, which is a word and not an envelope."""
    error = _document(content).get("error")
    return error if isinstance(error, str) and WORD.fullmatch(error) else ""


def _kind(status: int, reason: str, operation: str) -> type[ProviderError]:
    if status >= 500:
        return Unavailable
    if reason == UNWATCHABLE_REASON:
        return Unwatchable
    # Google refuses our address with 401; no new access token would help.
    if reason.startswith("push."):
        return Rejected
    if status == 403:
        return _kind_of_forbidden(reason)
    if status == 410 and operation == LIST_EVENTS:
        return CursorExpired
    return BY_STATUS.get(status, Rejected)


def _kind_of_forbidden(reason: str) -> type[ProviderError]:
    if reason in RATE_REASONS:
        return RateLimited
    return AccessLost if reason in SCOPE_REASONS else Rejected


def _reason(content: bytes) -> str:
    """Read the first reason of the envelope, leniently: front ends vary it."""
    error = _document(content).get("error")
    if not isinstance(error, dict):
        return error_code(content)
    errors = error.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    told = first.get("reason") if isinstance(first, dict) else None
    for word in (told, error.get("status")):
        if isinstance(word, str) and WORD.fullmatch(word):
            return word
    return ""


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _request_id(response: httpx2.Response) -> str | None:
    for name in REQUEST_ID_HEADERS:
        request_id = response.headers.get(name, "")
        if WORD.fullmatch(request_id):
            return str(request_id)
    return None
