"""What Cal.com's refusals mean, sorted by what the caller does about them."""

import re
from datetime import datetime
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

WATCH: Final = "webhooks.create"
# What is shown of a refusal is a word, so that no name comes with it.
WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KNOWN: Final = (
    (re.compile(r"already.{0,20}cancell?ed", re.IGNORECASE), "alreadyCancelled"),
    (re.compile(r"already (ended|finished|past)", re.IGNORECASE), "alreadyEnded"),
    (re.compile(r"already exists|unique constraint", re.IGNORECASE), "alreadyExists"),
    (
        re.compile(r"(private|internal) address|not allowed", re.IGNORECASE),
        "notAllowed",
    ),
    (re.compile(r"scope", re.IGNORECASE), "insufficientScope"),
)
BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    401: AccessExpired,
    404: Gone,
    408: Unavailable,
    410: Gone,
    429: RateLimited,
}
BLOCK_S: Final = 60  # how long Cal.com blocks who asked too often
EPOCHS_BEGIN: Final = 1_000_000_000


def failure(
    response: httpx2.Response, operation: str, *, now: datetime
) -> ProviderError:
    """Make the error of an answer that is none of the 2xx."""
    reason = _reason(response.content)
    kind = _kind(response.status_code, reason, operation)
    error = kind(
        Provider.CALCOM,
        operation,
        status=response.status_code,
        reason=reason,
        request_id=_request_id(response),
    )
    if isinstance(error, Transient):
        error.retry_after_s = _retry_after_s(response, now)
    return error


def _kind(status: int, reason: str, operation: str) -> type[ProviderError]:
    if status >= 500:
        return Unavailable
    if status == 403 and reason == "insufficientScope":
        return AccessLost
    if status == 403 and operation == WATCH:
        return Unwatchable
    return BY_STATUS.get(status, Rejected)


def _reason(content: bytes) -> str:
    try:
        document: Any = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return ""
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return ""
    told = str(error.get("message"))
    known = next((word for form, word in KNOWN if form.search(told)), None)
    code = error.get("code")
    return known or (code if isinstance(code, str) and WORD.fullmatch(code) else "")


def _retry_after_s(response: httpx2.Response, now: datetime) -> float | None:
    """Return how long to wait; the name of the limit is a part of the header's."""
    for name, value in response.headers.items():
        is_told = name == "retry-after" or name.startswith("x-ratelimit-reset")
        if is_told and value.isascii() and value.isdigit() and len(value) < 13:
            told = float(value)
            # Some say seconds, some say when.
            return max(0.0, told - now.timestamp()) if told > EPOCHS_BEGIN else told
    return BLOCK_S if response.status_code == 429 else None


def _request_id(response: httpx2.Response) -> str | None:
    request_id = response.headers.get("x-request-id", "")
    return str(request_id) if WORD.fullmatch(request_id) else None
