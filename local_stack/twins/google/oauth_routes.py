"""Google's consent page, token endpoint and user info, over HTTP."""

import hashlib

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.google.errors import ApiError
from local_stack.twins.google.http import GoogleRoute, access_token
from local_stack.twins.google.oauth import ALL_SCOPES, OAuth, OAuthError, invalid_grant
from local_stack.twins.google.state import Store
from local_stack.twins.guarded import Answer, Guarded
from local_stack.twins.sign_in_routes import SignInRoutes, form_of
from local_stack.twins.switchboard import FaultKind


class OAuthRoutes(SignInRoutes):
    """Routes of accounts.google.com, oauth2.googleapis.com and the user info."""

    oauth: OAuth
    store: Store
    guarded = GoogleRoute
    all_scopes = ALL_SCOPES

    def routes(self) -> list[Route]:
        return [
            self._route("consent", "GET", "/o/oauth2/v2/auth", self._consent),
            self._route("token", "POST", "/token", self._token),
            self._route("revoke", "POST", "/revoke", self._revoke),
            self._route("userinfo", "GET", "/oauth2/v2/userinfo", self._userinfo),
            self._route("userinfo", "GET", "/v1/userinfo", self._userinfo),
        ]

    async def _token(self, request: Request, guard: Guarded) -> Answer:
        form = await form_of(request)
        try:
            if not await guard.meet_faults(request, form.get("client_id", "")):
                return Answer()
            fault = request.state.fault
            if fault is not None and fault.kind is FaultKind.REVOKE:
                self._revoke_behind(form.get("refresh_token"))
                raise invalid_grant()
            return Answer(msgspec.json.encode(self.oauth.exchange(form)))
        except OAuthError as error:
            return Answer(msgspec.json.encode(error.body), error.status)
        except ApiError as error:
            # The token endpoint does not know the API's envelope.
            said = {"error": "internal_failure", "error_description": error.message}
            return Answer(msgspec.json.encode(said), error.status, error.headers())

    def _revoke_behind(self, refresh_token: str | None) -> None:
        for grant in self.oauth.grants:
            if grant.refresh_token == refresh_token:
                self.oauth.revoke_account(grant.email, grant.client_id)
                return

    async def _revoke(self, request: Request, guard: Guarded) -> Answer:
        form = await form_of(request)
        if not await guard.meet_faults(request):
            return Answer()
        try:
            self.oauth.revoke(
                form.get("token") or request.query_params.get("token", "")
            )
        except OAuthError as error:
            return Answer(msgspec.json.encode(error.body), error.status)
        return Answer(b"{}")

    def _granted(self, scopes: tuple[str, ...]) -> dict[str, str]:
        return {"scope": " ".join(scopes)}

    async def _userinfo(self, request: Request, guard: Guarded) -> Answer:
        grant = self.oauth.grant_of(access_token(request))
        if not await guard.meet_faults(request, grant.email):
            return Answer()
        account = self.store.accounts[grant.email]
        digest = hashlib.blake2b(grant.email.encode(), digest_size=8).digest()
        subject = str(int.from_bytes(digest))
        return Answer(
            msgspec.json.encode(
                {
                    "sub": subject,
                    "id": subject,
                    "email": account.email,
                    "email_verified": True,
                    "verified_email": True,
                    "name": account.name,
                }
            )
        )
