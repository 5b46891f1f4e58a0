"""Google's token endpoint: consent, codes, access tokens, refusals, revocation."""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from local_stack.twins.google.errors import ApiError, bad_credentials
from local_stack.twins.grants import Allowed, Grants

SCOPE = "https://www.googleapis.com/auth/"
ALL_SCOPES = (f"{SCOPE}calendar", "openid", f"{SCOPE}userinfo.email")
ACCESS_TOKEN_LIFE = timedelta(seconds=3599)
REFRESH_TOKENS_KEPT = 100  # per account and client; the oldest dies without a word


@dataclass(eq=False)
class Grant(Allowed):
    """A grant of Google's: it has one refresh token for as long as it lives."""

    def allows(self, *scopes: str) -> bool:
        return any(f"{SCOPE}{scope}" in self.scopes for scope in scopes)


class OAuthError(Exception):
    """An answer of the token endpoint that is not a token."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error, "error_description": description}


def invalid_grant() -> OAuthError:
    """The grant is gone for good: only the user can make a new one."""
    return OAuthError("invalid_grant", "Token has been expired or revoked.")


class OAuth(Grants[Grant]):
    """Grants of every account at Google."""

    code_prefix = "4/0"

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
        token = f"ya29.a0{secrets.token_urlsafe(40)}"
        self._give_access(grant, token, ACCESS_TOKEN_LIFE)

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
        if not code.is_proven_by(form.get("code_verifier")):
            raise OAuthError("invalid_grant", "Invalid code verifier.")
        return self.sign_in(code.email, client_id=code.client_id, scopes=code.scopes)

    def _bad_token(self) -> ApiError:
        return bad_credentials()

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
