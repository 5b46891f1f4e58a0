"""Google's token endpoint: consent, codes, access tokens, refusals, revocation."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from local_stack.twins.google.errors import ApiError, bad_credentials
from runtime.clock import Clock

SCOPE = "https://www.googleapis.com/auth/"
ALL_SCOPES = (f"{SCOPE}calendar", "openid", f"{SCOPE}userinfo.email")
ACCESS_TOKEN_LIFE = timedelta(seconds=3599)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CODE_LIFE = timedelta(minutes=10)
REFRESH_TOKENS_KEPT = 100  # per account and client; the oldest dies without a word


@dataclass(eq=False)
class Grant:
    """What a user allowed one client, with the tokens that speak for it."""

    email: str
    client_id: str
    scopes: tuple[str, ...]
    refresh_token: str
    access_token: str = ""
    expires_at: datetime = EPOCH

    def allows(self, *scopes: str) -> bool:
        return any(f"{SCOPE}{scope}" in self.scopes for scope in scopes)


@dataclass(frozen=True)
class Code:
    """An authorization code on its way from the browser to the token endpoint."""

    email: str
    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str | None
    expires_at: datetime


class OAuthError(Exception):
    """An answer of the token endpoint that is not a token."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "error_description": description}


def invalid_grant() -> OAuthError:
    """The grant is gone for good: only the user can make a new one."""
    return OAuthError("invalid_grant", "Token has been expired or revoked.")


@dataclass
class OAuth:
    """Grants of every account. With no registered clients any client is known."""

    clock: Clock
    clients: dict[str, str] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    access: dict[str, tuple[Grant, datetime]] = field(default_factory=dict)

    def sign_in(
        self,
        email: str,
        *,
        client_id: str = "supacal",
        scopes: tuple[str, ...] = ALL_SCOPES,
    ) -> Grant:
        """Grant a client access, as if the user had just consented."""
        grant = Grant(email, client_id, scopes, f"1//0{secrets.token_urlsafe(32)}")
        self.grants.append(grant)
        same = [g for g in self.grants if (g.email, g.client_id) == (email, client_id)]
        for oldest in same[:-REFRESH_TOKENS_KEPT]:
            self._drop(oldest)
        self.renew(grant)
        return grant

    def renew(self, grant: Grant) -> None:
        """Give a grant a fresh access token; older ones live on until they expire."""
        grant.access_token = f"ya29.a0{secrets.token_urlsafe(40)}"
        grant.expires_at = self.clock.now() + ACCESS_TOKEN_LIFE
        self.access[grant.access_token] = (grant, grant.expires_at)

    def consent(
        self,
        email: str,
        *,
        client_id: str,
        redirect_uri: str,
        scopes: tuple[str, ...] = ALL_SCOPES,
        challenge: str | None = None,
    ) -> str:
        """Return the code that the browser carries back to the client."""
        code = f"4/0{secrets.token_urlsafe(32)}"
        self.codes[code] = Code(
            email,
            client_id,
            redirect_uri,
            scopes,
            challenge,
            self.clock.now() + CODE_LIFE,
        )
        return code

    def grant_of(self, access_token: str | None) -> Grant:
        """Return who a call speaks for.

        Raises:
            ApiError: 401 authError.
        """
        grant, expires_at = self.access.get(access_token or "", (None, None))
        if grant is None or expires_at is None or self.clock.now() >= expires_at:
            raise bad_credentials()
        return grant

    def revoke_account(self, email: str, client_id: str | None = None) -> None:
        """End every grant of an account, for one client or for all."""
        for grant in list(self.grants):
            if grant.email == email and client_id in {None, grant.client_id}:
                self._drop(grant)

    def revoke(self, token: str) -> None:
        """Revoke by either token: the user's whole grant for this client ends."""
        for grant in self.grants:
            mine = self.access.get(token, (None, None))[0] is grant
            if mine or grant.refresh_token == token:
                self.revoke_account(grant.email, grant.client_id)
                return
        raise OAuthError("invalid_token", "Token expired or revoked")

    def exchange(self, form: dict[str, str]) -> dict[str, object]:
        """Answer the token endpoint."""
        self._check_client(form)
        match form.get("grant_type"):
            case "refresh_token":
                grant = self._refreshed(form)
                return _answer(grant)
            case "authorization_code":
                grant = self._from_code(form)
                return _answer(grant) | {"refresh_token": grant.refresh_token}
            case _:
                raise OAuthError(
                    "unsupported_grant_type", "Invalid grant_type: unsupported"
                )

    def _check_client(self, form: dict[str, str]) -> None:
        if not self.clients:
            return
        secret = self.clients.get(form.get("client_id", ""))
        if secret is None or not secrets.compare_digest(
            secret, form.get("client_secret", "")
        ):
            raise OAuthError("invalid_client", "The OAuth client was not found.", 401)

    def _refreshed(self, form: dict[str, str]) -> Grant:
        for grant in self.grants:
            if grant.refresh_token == form.get("refresh_token"):
                if self.clients and grant.client_id != form.get("client_id"):
                    raise OAuthError("unauthorized_client", "Unauthorized", 401)
                self.renew(grant)
                return grant
        raise invalid_grant()

    def _from_code(self, form: dict[str, str]) -> Grant:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None or self.clock.now() >= code.expires_at:
            raise OAuthError("invalid_grant", "Malformed auth code.")
        if code.redirect_uri != form.get("redirect_uri"):
            raise OAuthError("redirect_uri_mismatch", "Bad Request")
        if code.challenge and code.challenge != _challenge(form.get("code_verifier")):
            raise OAuthError("invalid_grant", "Invalid code verifier.")
        return self.sign_in(code.email, client_id=code.client_id, scopes=code.scopes)

    def _drop(self, grant: Grant) -> None:
        self.grants.remove(grant)
        self.access = {
            token: held for token, held in self.access.items() if held[0] is not grant
        }


def require_scope(grant: Grant, *scopes: str) -> None:
    """Refuse a call that the user did not allow."""
    if not grant.allows("calendar", *scopes):
        raise ApiError(
            403,
            "insufficientPermissions",
            "Request had insufficient authentication scopes.",
        )


def _answer(grant: Grant) -> dict[str, object]:
    return {
        "access_token": grant.access_token,
        "expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
        "scope": " ".join(grant.scopes),
        "token_type": "Bearer",
    }


def _challenge(verifier: str | None) -> str:
    digest = hashlib.sha256((verifier or "").encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
