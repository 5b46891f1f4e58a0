"""Microsoft's OAuth server: new tokens for old refresh tokens."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import httpx2
import msgspec

from providers.errors import AccessLost, ProviderError, Rejected, Transient
from providers.microsoft import resources
from providers.microsoft.failures import document, failure, unavailable, word
from providers.model import Provider, Tokens

OPERATION: Final = "oauth.refresh"
TIMEOUT_S: Final = 10
# Only the user can mend these. A wrong secret (`invalid_client`,
# `unauthorized_client`) is the operator's fault and no user's loss.
LOST: Final = frozenset(
    {"invalid_grant", "interaction_required", "consent_required", "login_required"}
)
BUSY: Final = frozenset({"server_error", "temporarily_unavailable"})
# A client's own faults come as invalid_grant too, now and then.
OPERATORS: Final = frozenset({7000215, 7000222, 700016, 90002, 70011, 700025})

_token_decoder = msgspec.json.Decoder(resources.TokenAnswer, strict=False)


async def refresh(
    http: httpx2.AsyncClient,
    *,
    auth_url: str,
    tenant: str,
    client_id: str,
    client_secret: str,
    refresh_token: str,
) -> Tokens:
    """Ask for a new access token; a new refresh token comes with it: keep that one.

    Raises:
        AccessLost: the grant is gone: ask the user to reconnect.
        Transient: no answer, or Microsoft's trouble: the grant is as good as before.
        Rejected: this client may not ask: MICROSOFT_CLIENT_ID, its secret or
            MICROSOFT_TENANT is wrong.
    """
    # https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
    form = {
        "grant_type": "refresh_token",
        "client_id": client_id,
        "client_secret": client_secret,
        "refresh_token": refresh_token,
    }
    url = f"{auth_url.rstrip('/')}/{tenant}/oauth2/v2.0/token"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            response = await http.post(url, data=form, timeout=TIMEOUT_S)
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
    told = document(response.content)
    error, numbers = word(told.get("error")), told.get("error_codes")
    known = [one for one in numbers or () if isinstance(one, int)]
    if error in BUSY:
        return unavailable(OPERATION, error)
    sorted_by_status = failure(response, OPERATION, now=datetime.now(UTC))
    if error not in LOST and isinstance(sorted_by_status, Transient):
        return sorted_by_status
    lost = error in LOST and not OPERATORS.intersection(known)
    kind = AccessLost if lost else Rejected
    reason = f"{error} AADSTS{known[0]}" if known else error
    return kind(
        Provider.MICROSOFT, OPERATION, status=response.status_code, reason=reason
    )
