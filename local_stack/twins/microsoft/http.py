"""The API over HTTP: authentication, faults, quota, preferences, envelopes, a log."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.calls import CallLog
from local_stack.twins.guarded import Answer, Guarded, Work
from local_stack.twins.microsoft.calls import Call, Operation
from local_stack.twins.microsoft.errors import (
    ApiError,
    as_ordered,
    bad_token,
    denied,
    invalid,
)
from local_stack.twins.microsoft.oauth import OAuth, require_scope
from local_stack.twins.microsoft.presentation import read_preferences
from local_stack.twins.microsoft.quota import MailboxQuota
from local_stack.twins.microsoft.state import Store
from local_stack.twins.switchboard import Fault, FaultKind, Switchboard

PREFIX = "/v1.0"


class GraphRoute(Guarded):
    """One route, which answers as Graph does."""

    refusal = ApiError

    def _refused(self, refusal: ApiError, request: Request, at: datetime) -> Answer:
        body = refusal.body(at, request.state.id, _client_id(request))
        return Answer(body, refusal.status, refusal.headers())

    def _ordered(self, fault: Fault) -> ApiError:
        return as_ordered(fault.status, fault.reason, fault.retry_after_s)

    def _response(self, answer: Answer, request: Request) -> Response:
        headers = {
            "Cache-Control": "private",
            "request-id": request.state.id,
            "client-request-id": _client_id(request) or request.state.id,
        }
        if answer.content:
            headers["Content-Type"] = (
                "application/json; odata.metadata=minimal; charset=utf-8"
            )
        return Response(
            answer.content, status_code=answer.status, headers=headers | answer.headers
        )


@dataclass
class ApiRoutes:
    """Routes of the API, below `/v1.0`, and for each `/me` its `/users/{user}`."""

    store: Store
    oauth: OAuth
    quota: MailboxQuota
    switchboard: Switchboard
    log: CallLog
    use_running_loop: Callable[[], None]

    def routes(
        self, of_mailboxes: list[Operation], others: list[Operation]
    ) -> list[Route]:
        return [
            *(self._route(PREFIX + one.path, one) for one in others),
            *(
                self._route(f"{PREFIX}{root}{one.path}", one)
                for root in ("/me", "/users/{user}")
                for one in of_mailboxes
            ),
        ]

    def _route(self, path: str, operation: Operation) -> Route:
        work = self._work(operation)
        guard = GraphRoute(operation.name, work, self.switchboard, self.log)
        return Route(path, guard, methods=[operation.method])

    def _work(self, operation: Operation) -> Work:
        async def work(request: Request, guard: Guarded) -> Answer:
            self.use_running_loop()
            grant = self.oauth.grant_of(_access_token(request))
            path = dict(request.path_params)
            subjects = (path.get("calendar_id", ""), path.get("event_id", ""))
            with self.quota.spend(grant):
                if not await guard.meet_faults(request, grant.email, *subjects):
                    return Answer()
                fault: Fault | None = request.state.fault
                if fault is not None and fault.kind is FaultKind.REVOKE:
                    self.oauth.revoke_account(grant.email)
                    raise bad_token()
                require_scope(grant, *operation.scopes)
                self._require_own_mailbox(path.get("user"), grant.email)
                wishes = read_preferences(request.headers.get("prefer"))
                call = Call(
                    grant,
                    str(request.base_url).rstrip("/"),
                    str(request.url.replace(query="")),
                    path,
                    dict(request.query_params),
                    wishes,
                    request.headers.get("if-match"),
                    await _json_body(request),
                )
                answer = await self._run(operation, call)
            applied = {"Preference-Applied": ", ".join(wishes.applied)}
            more = applied if wishes.applied else {}
            return Answer(answer.content, answer.status, answer.headers | more)

        return work

    async def _run(self, operation: Operation, call: Call) -> Answer:
        if inspect.iscoroutinefunction(operation.run):
            answer: Answer = await operation.run(call)
            return answer
        with self.store.exclusive():
            done = operation.run(call)
        assert isinstance(done, Answer)  # noqa: S101 - none but coroutines are awaited
        return done

    def _require_own_mailbox(self, user: str | None, email: str) -> None:
        account = self.store.accounts[email]
        if user is not None and user.lower() not in {email, account.id}:
            raise denied()


def _access_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def _json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if not raw:
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError as problem:
        raise invalid("Unable to read JSON request payload.", "BadRequest") from problem


def _client_id(request: Request) -> str:
    """Return what the client calls its request."""
    return request.headers.get("client-request-id", "")
