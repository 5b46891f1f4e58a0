"""Calendly's OAuth server: refresh tokens that work once."""

import asyncio
from typing import Final

import httpx2
import msgspec

from providers.calendly import resources
from providers.calendly.failures import error_code, failure
from providers.errors import (
    AccessLost,
    ProviderError,
    Rejected,
    Transient,
    Unavailable,
)
from providers.model import Provider, Tokens

OPERATION: Final = "oauth.refresh"
TIMEOUT_S: Final = 10
LOST_ANSWER: Final = "lostAnswer"
# Before one of these nothing was sent.
NOT_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
# Something in between says so, and does not know what became of the request.
IN_BETWEEN: Final = frozenset({502, 504})
LOST: Final = frozenset({"invalid_grant"})

_token_decoder = msgspec.json.Decoder(resources.TokenAnswer, strict=False)


async def refresh(
    http: httpx2.AsyncClient,
    *,
    auth_url: str,
    client_id: str,
    client_secret: str,
    refresh_token: str,
) -> Tokens:
    """Ask for a new pair of tokens, one caller at a time; store it before using it.

    A refresh token is spent by its use. Where the answer was lost, so is the grant: it
    is not asked again, for that could only be refused.

    Raises:
        AccessLost: the grant is gone, or `lostAnswer`: ask the user to reconnect.
        Transient: it was not asked, or not done: the token is as good as before.
        Rejected: this client may not ask: CALENDLY_CLIENT_ID or its secret is wrong.
    """
    # https://developer.calendly.com/api-docs/get-access-token
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    try:
        async with asyncio.timeout(TIMEOUT_S):
            response = await http.post(
                f"{auth_url.rstrip('/')}/token",
                data=form,
                auth=(client_id, client_secret),
                headers={"User-Agent": "supacal"},
                timeout=TIMEOUT_S,
            )
    except NOT_SENT as problem:
        reason = type(problem).__name__
        raise Unavailable(Provider.CALENDLY, OPERATION, reason=reason) from problem
    except (httpx2.RequestError, TimeoutError) as problem:
        raise _lost() from problem
    if not response.is_success:
        raise _failure(response)
    return _tokens(response.content)


def _tokens(content: bytes) -> Tokens:
    try:
        answer = _token_decoder.decode(content)
    except msgspec.DecodeError:
        # Not chained: the refusal would carry what it could not read.
        raise _lost() from None
    return Tokens(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        expires_in_s=answer.expires_in,
        scope=answer.scope,
    )


def _lost() -> AccessLost:
    return AccessLost(Provider.CALENDLY, OPERATION, reason=LOST_ANSWER)


def _failure(response: httpx2.Response) -> ProviderError:
    if response.status_code in IN_BETWEEN:
        return _lost()
    error = error_code(response.content)
    sorted_by_status = failure(response, OPERATION)
    if error not in LOST and isinstance(sorted_by_status, Transient):
        return sorted_by_status
    kind = AccessLost if error in LOST else Rejected
    return kind(Provider.CALENDLY, OPERATION, status=response.status_code, reason=error)
