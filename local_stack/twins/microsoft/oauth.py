"""Microsoft's token endpoint: consent, codes, rotating refresh tokens, refusals."""

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from local_stack.twins.grants import Allowed, Grants
from local_stack.twins.microsoft.errors import ApiError, bad_token
from local_stack.twins.microsoft.state import Json

ALL_SCOPES = ("offline_access", "openid", "profile", "User.Read", "Calendars.ReadWrite")
ACCESS_TOKEN_LIFE = timedelta(seconds=3_900)
REFRESH_TOKEN_LIFE = timedelta(days=90)
GRAPH = "https://graph.microsoft.com/"
TEXTS = {
    700082: "The refresh token has expired due to inactivity.",
    50173: "The provided grant has expired due to it being revoked.",
    9002313: "Invalid request. Request is malformed or invalid.",
    70008: "The provided authorization code or refresh token has expired.",
    54005: "OAuth2 Authorization code was already redeemed.",
    7000215: "Invalid client secret provided.",
    700016: "Application was not found in the directory.",
    65001: "The user or administrator has not consented to use the application.",
    501481: "The Code_Verifier does not match the code_challenge.",
}


@dataclass(eq=False)
class Grant(Allowed):
    """A grant of Microsoft's: each renewal adds a refresh token."""

    # Every refresh token still good, and since when: an old one is not revoked by use.
    refresh_tokens: dict[str, datetime] = field(default_factory=dict)
    revoked: bool = False

    def allows(self, *scopes: str) -> bool:
        mine = {scope.removeprefix(GRAPH) for scope in self.scopes}
        return bool(mine & set(scopes))


class OAuthError(Exception):
    """An answer of the token endpoint that is not a token."""

    def __init__(self, error: str, number: int, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.number, self.status = error, number, status

    def body(self, at: datetime) -> Json:
        trace, correlation = str(uuid4()), str(uuid4())
        stamp = at.strftime("%Y-%m-%d %H:%M:%SZ")
        text = TEXTS.get(self.number, "An error occurred.")
        return {
            "error": self.error,
            "error_description": f"AADSTS{self.number}: {text} Trace ID: {trace} "
            f"Correlation ID: {correlation} Timestamp: {stamp}",
            "error_codes": [self.number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={self.number}",
        }


class OAuth(Grants[Grant]):
    """Grants of every account at Microsoft."""

    code_prefix = "0.AQ"

    def sign_in(
        self,
        email: str,
        *,
        client_id: str = "supacal",
        scopes: tuple[str, ...] = ALL_SCOPES,
    ) -> Grant:
        """Grant a client access, as if the user had just consented."""
        grant = Grant(email, client_id, scopes)
        self.grants.append(grant)
        self.renew(grant)
        return grant

    def renew(self, grant: Grant) -> None:
        """Give a grant a fresh access token and, as always, a new refresh token."""
        token = f"EwB{secrets.token_urlsafe(48)}"
        self._give_access(grant, token, ACCESS_TOKEN_LIFE)
        if "offline_access" in grant.scopes:
            grant.refresh_token = f"0.AX{secrets.token_urlsafe(40)}"
            grant.refresh_tokens[grant.refresh_token] = self.clock.now()

    def revoke_account(self, email: str, client_id: str | None = None) -> None:
        """End every sign-in of an account: all tokens die, whoever holds them."""
        for grant in self.grants:
            if grant.email == email and client_id in {None, grant.client_id}:
                grant.revoked = True
        self.access = {
            token: held for token, held in self.access.items() if not held[0].revoked
        }

    def exchange(self, form: dict[str, str]) -> Json:
        """Answer the token endpoint."""
        self._check_client(form)
        match form.get("grant_type"):
            case "refresh_token":
                return _answer(self._refreshed(form))
            case "authorization_code":
                return _answer(self._from_code(form))
            case _:
                raise OAuthError("unsupported_grant_type", 70003)

    def _check_client(self, form: dict[str, str]) -> None:
        if not self.clients:
            return
        secret = self.clients.get(form.get("client_id", ""))
        if secret is None:
            raise OAuthError("unauthorized_client", 700016)
        if not secrets.compare_digest(secret, form.get("client_secret", "")):
            raise OAuthError("invalid_client", 7000215, 401)

    def _refreshed(self, form: dict[str, str]) -> Grant:
        token = form.get("refresh_token", "")
        for grant in self.grants:
            since = grant.refresh_tokens.get(token)
            if since is None:
                continue
            if grant.client_id != form.get("client_id") and self.clients:
                raise OAuthError("invalid_grant", 70000)
            if grant.revoked:
                raise OAuthError("invalid_grant", 50173)
            if self.clock.now() - since > REFRESH_TOKEN_LIFE:
                raise OAuthError("invalid_grant", 700082)
            self.renew(grant)
            return grant
        raise OAuthError("invalid_grant", 9002313)

    def _from_code(self, form: dict[str, str]) -> Grant:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None:
            raise OAuthError("invalid_grant", 54005)
        if self.clock.now() >= code.expires_at:
            raise OAuthError("invalid_grant", 70008)
        if code.redirect_uri != form.get("redirect_uri"):
            raise OAuthError("invalid_grant", 500112)
        if not code.is_proven_by(form.get("code_verifier")):
            raise OAuthError("invalid_grant", 501481)
        return self.sign_in(code.email, client_id=code.client_id, scopes=code.scopes)

    def _bad_token(self) -> ApiError:
        return bad_token()


def require_scope(grant: Grant, *scopes: str) -> None:
    """Refuse a call that the user did not allow."""
    if not grant.allows(*scopes):
        raise ApiError(403, "ErrorAccessDenied", "Access is denied. Check credentials.")


def _answer(grant: Grant) -> Json:
    answer: Json = {
        "token_type": "Bearer",
        "scope": " ".join(s for s in grant.scopes if s != "offline_access"),
        "expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
        "ext_expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
        "access_token": grant.access_token,
    }
    if "offline_access" in grant.scopes:
        answer["refresh_token"] = grant.refresh_token
    if "openid" in grant.scopes:
        answer["id_token"] = _id_token(grant)
    return answer


def _id_token(grant: Grant) -> str:
    """Return an unsigned token: enough for those who read it over TLS."""
    claims = f'{{"preferred_username":"{grant.email}","aud":"{grant.client_id}"}}'
    parts = (b'{"alg":"none","typ":"JWT"}', claims.encode(), b"")
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts
    )
