"""Google's OAuth server: new access tokens for old refresh tokens."""

import asyncio
from datetime import UTC, datetime

import httpx2
import msgspec

from providers.errors import AccessLost, ProviderError, Rejected, Transient
from providers.google import resources
from providers.google.failures import error_code, failure, unavailable
from providers.model import Provider, Tokens

OPERATION = "oauth.refresh"
TIMEOUT_S = 10
# Only the user can mend these. A wrong client (`invalid_client`,
# `unauthorized_client`) is the operator's fault and no user's loss.
LOST = frozenset({"invalid_grant", "admin_policy_enforced", "org_internal"})
BUSY = frozenset({"server_error", "temporarily_unavailable"})

_token_decoder = msgspec.json.Decoder(resources.TokenAnswer, strict=False)


async def refresh(
    http: httpx2.AsyncClient,
    *,
    auth_url: str,
    client_id: str,
    client_secret: str,
    refresh_token: str,
) -> Tokens:
    """Ask for a new access token; it mostly comes without a new refresh token.

    Raises:
        AccessLost: the grant is gone: ask the user to reconnect.
        Transient: no answer, or Google's own trouble: the grant is as good as before.
        Rejected: this client may not ask: GOOGLE_CLIENT_ID or its secret is wrong.
    """
    # https://developers.google.com/identity/protocols/oauth2/web-server#offline
    form = {
        "grant_type": "refresh_token",
        "client_id": client_id,
        "client_secret": client_secret,
        "refresh_token": refresh_token,
    }
    try:
        async with asyncio.timeout(TIMEOUT_S):
            response = await http.post(
                f"{auth_url.rstrip('/')}/token", data=form, timeout=TIMEOUT_S
            )
    except (httpx2.RequestError, TimeoutError) as problem:
        raise unavailable(OPERATION, problem) from problem
    if not response.is_success:
        raise _failure(response)
    try:
        answer = _token_decoder.decode(response.content)
    except msgspec.DecodeError:
        # Not chained: the refusal would carry what it could not read.
        raise unavailable(OPERATION, "unreadableAnswer") from None
    return Tokens(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        expires_in_s=answer.expires_in,
        scope=answer.scope,
    )


def _failure(response: httpx2.Response) -> ProviderError:
    error = error_code(response.content)
    if error in BUSY:
        return unavailable(OPERATION, error)
    sorted_by_status = failure(response, OPERATION, now=datetime.now(UTC))
    if error not in LOST and isinstance(sorted_by_status, Transient):
        return sorted_by_status
    kind = AccessLost if error in LOST else Rejected
    return kind(Provider.GOOGLE, OPERATION, status=response.status_code, reason=error)
