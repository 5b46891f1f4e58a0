"""What Graph's refusals mean, sorted by what the caller does about them.

https://learn.microsoft.com/graph/errors
"""

import re
from datetime import datetime
from typing import Any, Final

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

DELTA: Final = "events.delta"
VIEW: Final = "events.view"
SUBSCRIBE: Final = "subscriptions.create"
READS: Final = frozenset({DELTA, VIEW, "events.instances", "events.get"})

# Codes are written now with a capital, now without.
LOST_STATE: Final = frozenset(
    {"syncstatenotfound", "resyncrequired", "syncstateinvalid", "invaliddeltatoken"}
)
# The account as a whole cannot be used, or not with this sign-in.
LOST_ACCESS: Final = frozenset(
    {
        "insufficient_claims",
        "authorization_requestdenied",
        "mailboxnotenabledforrestapi",
    }
)
CONFLICT: Final = "errorirresolvableconflict"
# What is shown of a refusal: a word, so that no address or title comes with it.
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    401: AccessExpired,
    404: Gone,
    408: Unavailable,
    410: Gone,
    412: PreconditionFailed,
    423: Unavailable,
    429: RateLimited,
}


def failure(
    response: httpx2.Response, operation: str, *, now: datetime
) -> ProviderError:
    """Make the error of an answer that is none of the 2xx."""
    reason = _reason(response.content)
    claims = "claims=" in response.headers.get("www-authenticate", "")
    kind = _kind(response.status_code, reason.lower(), operation, claims=claims)
    error = kind(
        Provider.MICROSOFT,
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
    return Unavailable(Provider.MICROSOFT, operation, reason=reason)


def document(content: bytes) -> dict[str, Any]:
    """Read an answer's JSON, leniently; nothing where it is none."""
    try:
        read = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def word(value: object) -> str:
    """Return a value that is safe to show, or nothing."""
    return value if isinstance(value, str) and WORD.fullmatch(value) else ""


def _kind(
    status: int, code: str, operation: str, *, claims: bool
) -> type[ProviderError]:
    if code in LOST_STATE or (status == 410 and operation == DELTA):
        return CursorExpired
    if status >= 500:
        return Unavailable
    # A claims challenge is met by signing in again, not by a fresh token.
    if code in LOST_ACCESS or (status == 401 and claims):
        return AccessLost
    # Delegated tokens subscribe to the user's own mailbox only.
    if operation == SUBSCRIBE and status in {403, 404}:
        return Unwatchable
    if status in {409, 412} and code == CONFLICT:
        # It also happens to plain reads, and passes.
        return Unavailable if operation in READS else PreconditionFailed
    if status == 403:
        return Gone if operation in {DELTA, VIEW} else Rejected
    return BY_STATUS.get(status, Rejected)


def _reason(content: bytes) -> str:
    """Read the innermost code: Graph nests them, the outer one says little."""
    error = document(content).get("error")
    if not isinstance(error, dict):
        return word(error)
    known = word(error.get("code"))
    if known.lower() in LOST_STATE:
        return known
    inner = error.get("innerError") or error.get("innererror")
    nested = word(inner.get("code")) if isinstance(inner, dict) else ""
    return nested or known


def _request_id(response: httpx2.Response) -> str | None:
    return word(response.headers.get("request-id")) or None
