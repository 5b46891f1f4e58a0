"""The API over HTTP: authentication, faults, quota, envelopes, and a log of calls."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.calls import CallLog
from local_stack.twins.google.api import Api, Call, Greeted, Operation
from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.errors import ApiError, as_ordered, bad_credentials
from local_stack.twins.google.oauth import OAuth
from local_stack.twins.google.push import Message
from local_stack.twins.google.quota import ProjectQuota
from local_stack.twins.guarded import Answer, Guarded, Work
from local_stack.twins.switchboard import Fault, FaultKind, Switchboard

PREFIX = "/calendar/v3"


class GoogleRoute(Guarded):
    """One route, which answers as Google does."""

    refusal = ApiError

    def _refused(self, refusal: ApiError, _: Request, __: datetime) -> Answer:
        return Answer(refusal.body(), refusal.status, refusal.headers())

    def _ordered(self, fault: Fault) -> ApiError:
        return as_ordered(fault.status, fault.reason, fault.retry_after_s)

    def _response(self, answer: Answer, _: Request) -> Response:
        headers = {"Cache-Control": "private, max-age=0, must-revalidate"}
        if answer.content:
            headers["Content-Type"] = "application/json; charset=UTF-8"
        return Response(
            answer.content, status_code=answer.status, headers=headers | answer.headers
        )


@dataclass
class ApiRoutes:
    """Routes of the Calendar API."""

    api: Api
    oauth: OAuth
    quota: ProjectQuota
    behaviour: Behaviour
    switchboard: Switchboard
    log: CallLog

    def routes(self) -> list[Route]:
        return [
            Route(
                PREFIX + operation.path,
                GoogleRoute(
                    operation.name, self._work(operation), self.switchboard, self.log
                ),
                methods=[operation.method],
            )
            for operation in self.api.operations()
        ]

    def _work(self, operation: Operation) -> Work:
        async def work(request: Request, guard: Guarded) -> Answer:
            self.api.sender.use_running_loop()
            grant = self.oauth.grant_of(access_token(request))
            path = dict(request.path_params)
            subjects = (path.get("calendar_id", ""), path.get("event_id", ""))
            if not await guard.meet_faults(request, grant.email, *subjects):
                return Answer()
            fault: Fault | None = request.state.fault
            if fault is not None and fault.kind is FaultKind.REVOKE:
                self.oauth.revoke_account(grant.email, grant.client_id)
                raise bad_credentials()
            self.quota.spend(operation.name, grant.email)
            call = Call(
                grant,
                path,
                _params(request),
                {k: v for k, v in request.headers.items() if k.startswith("if-")},
                await _json_body(request),
            )
            answer = self.api.run(operation, call)
            if isinstance(answer, Greeted):
                await self._say_hello(answer.hello)
            return answer

        return work

    async def _say_hello(self, hello: Message) -> None:
        if self.behaviour.hello_before_answer:
            await self.api.sender.deliver(hello)
        else:
            self.api.sender.post(hello)


def access_token(request: Request) -> str | None:
    """Return the token of a call, from its header or, as Google allows, its query."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    query = request.query_params
    return query.get("access_token") or query.get("oauth_token")


def _params(request: Request) -> dict[str, list[str]]:
    params: dict[str, list[str]] = {}
    for key, value in request.query_params.multi_items():
        params.setdefault(key, []).append(value)
    return params


async def _json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if not raw:
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.MsgspecError as problem:
        raise ApiError(400, "parseError", "Parse Error") from problem
