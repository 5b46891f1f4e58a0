"""The API over HTTP: authentication, faults, quota, envelopes, and a log of calls."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from local_stack.twins.calls import CallLog, CallRecord
from local_stack.twins.connection_cut import cut_connection
from local_stack.twins.google.api import Answer, Api, Call, Operation
from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.errors import ApiError, as_ordered, bad_credentials
from local_stack.twins.google.oauth import OAuth
from local_stack.twins.google.quota import ProjectQuota
from local_stack.twins.switchboard import PUSH_FAULTS, Fault, FaultKind, Switchboard

PREFIX = "/calendar/v3"
CALL_FAULTS = frozenset(FaultKind) - PUSH_FAULTS


Work: TypeAlias = Callable[[Request, "Guarded"], Awaitable[Answer]]


class Guarded:
    """One route: does its work unless the switchboard has other plans."""

    def __init__(
        self, name: str, work: Work, switchboard: Switchboard, log: CallLog
    ) -> None:
        self.name = name
        self._work = work
        self._switchboard = switchboard
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        at, began = self._log.wall.now(), perf_counter()
        request = Request(scope, receive)
        request.state.fault = None
        try:
            answer = await self._work(request, self)
        except ApiError as error:
            answer = Answer(error.body(), error.status, error.headers())
        fault: Fault | None = request.state.fault
        cut = fault is not None and fault.kind in {
            FaultKind.CUT_AFTER,
            FaultKind.CUT_BEFORE,
        }
        self._log.note(
            CallRecord(
                self.name,
                request.path_params.get("calendar_id"),
                None if cut else answer.status,
                at,
                (perf_counter() - began) * 1000,
            )
        )
        if cut:
            await cut_connection(receive, send)
            return
        await _response(answer)(scope, receive, send)

    async def meet_faults(self, request: Request, *subjects: str) -> bool:
        """Let the switchboard strike; False says that the call must not be done.

        Raises:
            ApiError: the answer that a fault gives instead.
        """
        fault = self._switchboard.strike(self.name, *subjects, kinds=CALL_FAULTS)
        request.state.fault = fault
        if fault is None:
            return True
        if fault.kind is FaultKind.SLOW:
            await asyncio.sleep(fault.delay_s)
        if fault.kind is FaultKind.ANSWER:
            raise as_ordered(fault.status, fault.reason, fault.retry_after_s)
        return fault.kind is not FaultKind.CUT_BEFORE


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
                Guarded(
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
            if answer.hello is not None:
                await self._say_hello(answer, grant.email)
            return answer

        return work

    async def _say_hello(self, answer: Answer, email: str) -> None:
        sender, hello = self.api.sender, answer.hello
        if hello is None:
            return
        if self.behaviour.hello_before_answer:
            await sender.deliver(hello)
        else:
            sender.post(hello)


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


def _response(answer: Answer) -> Response:
    headers = {"Cache-Control": "private, max-age=0, must-revalidate"}
    if answer.content:
        headers["Content-Type"] = "application/json; charset=UTF-8"
    return Response(
        answer.content, status_code=answer.status, headers=headers | answer.headers
    )
