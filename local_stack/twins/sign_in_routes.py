"""A calendar provider's consent page, and what its other sign-in routes share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calls import CallLog
from local_stack.twins.grants import Grants
from local_stack.twins.guarded import Answer, Guarded, Work
from local_stack.twins.switchboard import Switchboard


class Accounts(Protocol):
    """Who can sign in."""

    @property
    def accounts(self) -> Mapping[str, Any]: ...


@dataclass
class SignInRoutes(ABC):
    """Routes of a provider's OAuth server."""

    oauth: Grants[Any]
    store: Accounts
    switchboard: Switchboard
    log: CallLog

    guarded: ClassVar[type[Guarded]]
    all_scopes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def routes(self) -> list[Route]: ...

    def _route(self, name: str, method: str, path: str, work: Work) -> Route:
        guard = self.guarded(name, work, self.switchboard, self.log)
        return Route(path, guard, methods=[method])

    async def _consent(self, request: Request, guard: Guarded) -> Answer:
        """Consent at once as the account in login_hint, and send the browser back."""
        asked = request.query_params
        email = asked.get("login_hint") or next(iter(self.store.accounts), "")
        redirect_uri = asked.get("redirect_uri", "")
        back = {"state": asked.get("state", "")}
        if not await guard.meet_faults(request, email):
            return Answer()
        if email not in self.store.accounts or request.state.fault is not None:
            back["error"] = "access_denied"
        else:
            scopes = tuple(asked.get("scope", "").split()) or self.all_scopes
            back |= self._granted(scopes)
            back["code"] = self.oauth.consent(
                email,
                client_id=asked.get("client_id", ""),
                redirect_uri=redirect_uri,
                scopes=scopes,
                challenge=asked.get("code_challenge"),
            )
        location = f"{redirect_uri}?{urlencode(back)}"
        return Answer(status=302, headers={"Location": location})

    def _granted(self, _: tuple[str, ...]) -> dict[str, str]:
        """Return what the browser is told beside the code."""
        return {}


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form."""
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
