"""Calendly's tokens: access for two hours, refresh tokens that work once."""

import base64
import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.routing import Route

from local_stack.twins.calendly.behaviour import Behaviour
from local_stack.twins.calendly.state import Grant, Store, refusal
from local_stack.twins.rest import Answer, Call, Refusal, Rest


class OAuth:
    """Issues tokens and takes them back. With no registered clients any is known."""

    def __init__(self, store: Store, behaviour: Behaviour) -> None:
        self._store = store
        self._behaviour = behaviour
        self.clients: dict[str, str] = {}

    def routes(self, rest: Rest) -> list[Route]:
        return [
            rest.route(
                "consent", "GET", "/oauth/authorize", self._consent, anybody=True
            ),
            rest.route("token", "POST", "/oauth/token", self._token, anybody=True),
            rest.route("revoke", "POST", "/oauth/revoke", self._revoke, anybody=True),
        ]

    def issue(self, grant: Grant) -> tuple[str, str]:
        """Return a fresh pair for a grant."""
        known = self._store.known
        access, refresh = (secrets.token_urlsafe(32) for _ in range(2))
        life = timedelta(seconds=self._behaviour.access_token_life_s)
        expires_at = self._store.clock.now() + life
        known.access[access] = Grant(
            grant.email, grant.client_id, grant.scopes, expires_at
        )
        known.refresh[refresh] = Grant(grant.email, grant.client_id, grant.scopes)
        return access, refresh

    def personal(self, email: str) -> str:
        """Return a personal access token."""
        token = f"pat-{secrets.token_urlsafe(32)}"
        self._store.known.access[token] = Grant(email, None, "all")
        return token

    def who(self, token: str) -> str:
        """Return whom a call speaks for.

        Raises:
            Refusal: 401.
        """
        grant = self._store.known.access.get(token)
        now = self._store.clock.now()
        if grant is None or (grant.expires_at is not None and now >= grant.expires_at):
            raise refusal(401, "Unauthenticated", "The access token is invalid")
        return grant.email

    def is_app(self, token: str) -> bool:
        """Tell an app's token from a personal one."""
        return self._store.known.access[token].client_id is not None

    def revoke_account(self, email: str) -> None:
        """End every grant of an account; without a name those of all."""
        with self._store.exclusive() as known:
            for tokens in (known.access, known.refresh):
                gone = [t for t, g in tokens.items() if email in {"", g.email}]
                for token in gone:
                    del tokens[token]

    def _token(self, call: Call) -> Answer:
        form = _form(call)
        client_id = self._client(call, form)
        with self._store.exclusive() as known:
            if form.get("grant_type") == "refresh_token":
                # Spent by its use, whether or not the answer arrives.
                grant = known.refresh.pop(form.get("refresh_token", ""), None)
            elif form.get("grant_type") == "authorization_code":
                grant = known.codes.pop(form.get("code", ""), None)
            else:
                raise _oauth_error("unsupported_grant_type")
            if grant is None or grant.client_id != client_id:
                raise _oauth_error("invalid_grant")
            access, refresh = self.issue(grant)
            user = self._store.user(grant.email)
        return Answer(
            {
                "token_type": "Bearer",
                "access_token": access,
                "refresh_token": refresh,
                "expires_in": self._behaviour.access_token_life_s,
                "created_at": int(self._store.clock.now().timestamp()),
                "scope": grant.scopes,
                "owner": user.uri,
                "organization": user.organization,
            }
        )

    def _client(self, call: Call, form: dict[str, str]) -> str:
        """Return the client: by Basic for web apps, in the form for native ones."""
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if scheme.lower() == "basic":
            pair = base64.b64decode(value).decode()
            client_id, _, secret = pair.partition(":")
        if self.clients and self.clients.get(client_id) != secret:
            raise _oauth_error("invalid_client", status=401)
        return client_id

    def _consent(self, call: Call) -> Answer:
        """Consent at once as the account in `login_hint`, and send the browser back."""
        email = call.query.get("login_hint") or next(iter(self._store.known.users), "")
        back = {"state": call.query.get("state", "")}
        if email in self._store.known.users:
            code = secrets.token_urlsafe(24)
            client_id = call.query.get("client_id", "")
            self._store.known.codes[code] = Grant(email, client_id, "default")
            back["code"] = code
        else:
            back["error"] = "access_denied"
        to = f"{call.query.get('redirect_uri', '')}?{urlencode(back)}"
        return Answer(status=302, headers={"Location": to})

    def _revoke(self, call: Call) -> Answer:
        token = _form(call).get("token", "")
        with self._store.exclusive() as known:
            grant = known.access.get(token) or known.refresh.get(token)
        if grant is None:
            raise _oauth_error("invalid_token", status=403)
        self.revoke_account(grant.email)
        return Answer({})


def _form(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.raw.decode("utf-8", "replace")))


def _oauth_error(error: str, *, status: int = 400) -> Refusal:
    body: dict[str, Any] = {"error": error, "error_description": "Refused."}
    return Refusal(status, body)
