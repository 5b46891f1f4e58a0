"""Microsoft's consent page, token endpoint and discovery document, over HTTP."""

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.guarded import Answer, Guarded
from local_stack.twins.microsoft.calls import told
from local_stack.twins.microsoft.errors import ApiError
from local_stack.twins.microsoft.http import GraphRoute
from local_stack.twins.microsoft.oauth import ALL_SCOPES, OAuth, OAuthError
from local_stack.twins.microsoft.state import Store
from local_stack.twins.sign_in_routes import SignInRoutes, form_of
from local_stack.twins.switchboard import FaultKind


class OAuthRoutes(SignInRoutes):
    """Routes of login.microsoftonline.com; the tenant is not looked at."""

    oauth: OAuth
    store: Store
    guarded = GraphRoute
    all_scopes = ALL_SCOPES

    def routes(self) -> list[Route]:
        base = "/{tenant}/oauth2/v2.0"
        return [
            self._route("consent", "GET", f"{base}/authorize", self._consent),
            self._route("token", "POST", f"{base}/token", self._token),
            self._route(
                "discovery",
                "GET",
                "/{tenant}/v2.0/.well-known/openid-configuration",
                self._discovery,
            ),
        ]

    async def _token(self, request: Request, guard: Guarded) -> Answer:
        form = await form_of(request)
        now = self.oauth.clock.now()
        try:
            if not await guard.meet_faults(request, form.get("client_id", "")):
                return Answer()
            fault = request.state.fault
            if fault is not None and fault.kind is FaultKind.REVOKE:
                self._revoke_behind(form.get("refresh_token", ""))
            return told(self.oauth.exchange(form))
        except OAuthError as error:
            return told(error.body(now), status=error.status)
        except ApiError as error:
            # The token endpoint does not know the API's envelope.
            said = {"error": "temporarily_unavailable", "error_codes": [90033]}
            content = msgspec.json.encode(said)
            return Answer(content, error.status, error.headers())

    def _revoke_behind(self, refresh_token: str) -> None:
        for grant in self.oauth.grants:
            if refresh_token in grant.refresh_tokens:
                self.oauth.revoke_account(grant.email)

    async def _discovery(self, request: Request, guard: Guarded) -> Answer:
        if not await guard.meet_faults(request):
            return Answer()
        root = f"{str(request.base_url).rstrip('/')}/{request.path_params['tenant']}"
        return told(
            {
                "issuer": f"{root}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "token_endpoint": f"{root}/oauth2/v2.0/token",
            }
        )
