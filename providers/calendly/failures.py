"""What Calendly's refusals mean, sorted by what the caller does about them.

Its titles and messages are documented under the wrong statuses: the status decides, and
of a 403 the few words that are known.
"""

import re
from typing import Any, Final

import httpx2
import msgspec

from providers.errors import (
    AccessExpired,
    AccessLost,
    Gone,
    ProviderError,
    RateLimited,
    Rejected,
    Transient,
    Unavailable,
    Unwatchable,
)
from providers.model import Provider

WATCH: Final = "webhook_subscriptions.create"
SCOPE: Final = "insufficientScope"
# What is shown of a refusal is one of these words, so that no name comes with it.
KNOWN: Final = (
    (re.compile(r"insufficient scope", re.IGNORECASE), SCOPE),
    (re.compile(r"upgrade", re.IGNORECASE), "planTooSmall"),
    (re.compile(r"already cancell?ed", re.IGNORECASE), "alreadyCanceled"),
    (re.compile(r"in the past", re.IGNORECASE), "eventInThePast"),
    (re.compile(r"already exists", re.IGNORECASE), "alreadyExists"),
    (re.compile(r"permission", re.IGNORECASE), "permissionDenied"),
    (re.compile(r"not allowed", re.IGNORECASE), "permissionDenied"),
)
BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    401: AccessExpired,
    404: Gone,
    408: Unavailable,
    410: Gone,
    429: RateLimited,
}
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def failure(response: httpx2.Response, operation: str) -> ProviderError:
    """Make the error of an answer that is none of the 2xx."""
    reason = _reason(response.content)
    kind = _kind(response.status_code, reason, operation)
    error = kind(
        Provider.CALENDLY,
        operation,
        status=response.status_code,
        reason=reason,
        request_id=_request_id(response),
    )
    if isinstance(error, Transient):
        error.retry_after_s = _seconds_until_reset(response)
    return error


def error_code(content: bytes) -> str:
    """Read OAuth's `error`, which is a word."""
    error = _document(content).get("error")
    return error if isinstance(error, str) and WORD.fullmatch(error) else ""


def _kind(status: int, reason: str, operation: str) -> type[ProviderError]:
    if status >= 500:
        return Unavailable
    if status == 403 and reason == SCOPE:
        return AccessLost
    if status == 403 and operation == WATCH:
        # The plan has no webhooks, or this member may make none.
        return Unwatchable
    return BY_STATUS.get(status, Rejected)


def _reason(content: bytes) -> str:
    document = _document(content)
    told = f"{document.get('title')} {document.get('message')}"
    return next((word for form, word in KNOWN if form.search(told)), "")


def _seconds_until_reset(response: httpx2.Response) -> float | None:
    """Return how long the minute's quota is spent: seconds, and no point in time."""
    for name in ("retry-after", "x-ratelimit-reset"):
        value = response.headers.get(name, "").strip()
        if value.isascii() and value.isdigit() and len(value) < 6:
            return float(value)
    return None


def _request_id(response: httpx2.Response) -> str | None:
    request_id = response.headers.get("x-request-id", "")
    return str(request_id) if WORD.fullmatch(request_id) else None


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
