"""Google's consent page, token endpoint and user info, over HTTP."""

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calls import CallLog
from local_stack.twins.google.api import Answer
from local_stack.twins.google.errors import ApiError
from local_stack.twins.google.http import Guarded, Work, access_token
from local_stack.twins.google.oauth import ALL_SCOPES, OAuth, OAuthError, invalid_grant
from local_stack.twins.google.state import Store
from local_stack.twins.switchboard import FaultKind, Switchboard


@dataclass
class OAuthRoutes:
    """Routes of accounts.google.com, oauth2.googleapis.com and the user info."""

    oauth: OAuth
    store: Store
    switchboard: Switchboard
    log: CallLog

    def routes(self) -> list[Route]:
        return [
            self._route("consent", "GET", "/o/oauth2/v2/auth", self._consent),
            self._route("token", "POST", "/token", self._token),
            self._route("revoke", "POST", "/revoke", self._revoke),
            self._route("userinfo", "GET", "/oauth2/v2/userinfo", self._userinfo),
            self._route("userinfo", "GET", "/v1/userinfo", self._userinfo),
        ]

    def _route(self, name: str, method: str, path: str, work: Work) -> Route:
        guard = Guarded(name, work, self.switchboard, self.log)
        return Route(path, guard, methods=[method])

    async def _token(self, request: Request, guard: Guarded) -> Answer:
        form = await _form(request)
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
        form = await _form(request)
        if not await guard.meet_faults(request):
            return Answer()
        try:
            self.oauth.revoke(
                form.get("token") or request.query_params.get("token", "")
            )
        except OAuthError as error:
            return Answer(msgspec.json.encode(error.body), error.status)
        return Answer(b"{}")

    async def _consent(self, request: Request, guard: Guarded) -> Answer:
        """Consent at once as the account in login_hint, and send the browser back."""
        asked = request.query_params
        email = asked.get("login_hint") or next(iter(self.store.accounts), "")
        redirect_uri = asked.get("redirect_uri", "")
        back = {"state": asked.get("state", "")}
        if not await guard.meet_faults(request, email):
            return Answer()
        fault = request.state.fault
        if email not in self.store.accounts or fault is not None:
            back["error"] = "access_denied"
        else:
            scopes = tuple(asked.get("scope", "").split()) or ALL_SCOPES
            back["scope"] = " ".join(scopes)
            back["code"] = self.oauth.consent(
                email,
                client_id=asked.get("client_id", ""),
                redirect_uri=redirect_uri,
                scopes=scopes,
                challenge=asked.get("code_challenge"),
            )
        location = f"{redirect_uri}?{urlencode(back)}"
        return Answer(status=302, headers={"Location": location})

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


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
