"""A JSON API over HTTP: who calls, what is to go wrong, and a log of calls."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from local_stack.twins.calls import CallLog, CallRecord
from local_stack.twins.connection_cut import cut_connection
from local_stack.twins.outbox import Outbox
from local_stack.twins.switchboard import (
    CALL_FAULTS,
    CUTS,
    Fault,
    FaultKind,
    Switchboard,
)


@dataclass(frozen=True)
class Answer:
    """What goes back; None is an empty body."""

    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that is none of the 2xx, in the provider's own envelope."""

    def __init__(
        self, status: int, body: object, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {body}")
        self.answer = Answer(body, status, headers or {})


@dataclass(frozen=True)
class Call:
    """One request, read and authenticated; `who` is empty where nobody need be."""

    who: str
    token: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        if not self.raw:
            return {}
        return msgspec.json.decode(self.raw, type=dict[str, Any])


Work: TypeAlias = Callable[[Call], Answer]


@dataclass
class Rest:
    """What every operation of one twin's API goes through.

    `authenticate` turns a bearer token into an account; `spend` counts a call against
    the quota and returns headers; `ordered` words an error that the switchboard wants;
    `revoke` ends an account's grants. All but the last may refuse.
    """

    switchboard: Switchboard
    log: CallLog
    outbox: Outbox
    authenticate: Callable[[str], str]
    spend: Callable[[str, str], dict[str, str]]
    ordered: Callable[[Fault], Refusal]
    revoke: Callable[[str], None]
    malformed: Callable[[], Refusal]

    def route(
        self, name: str, method: str, path: str, work: Work, *, anybody: bool = False
    ) -> Route:
        """Return a route of the API; without a token where anybody may call it."""
        return Route(
            path, _Operation(self, name, work, anybody=anybody), methods=[method]
        )


class _Operation:
    def __init__(self, rest: Rest, name: str, work: Work, *, anybody: bool) -> None:
        self._rest = rest
        self._name = name
        self._work = work
        self._anybody = anybody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        at, began = self._rest.log.wall.now(), perf_counter()
        self._rest.outbox.use_running_loop()
        request = Request(scope, receive)
        answer, cut = await self._answer(request)
        subject = next(iter(request.path_params.values()), None)
        status = None if cut else answer.status
        took_ms = (perf_counter() - began) * 1000
        self._rest.log.note(CallRecord(self._name, subject, status, at, took_ms))
        if cut:
            await cut_connection(receive, send)
        else:
            await _response(answer)(scope, receive, send)

    async def _answer(self, request: Request) -> tuple[Answer, bool]:
        headers: dict[str, str] = {}
        fault: Fault | None = None
        try:
            call = await self._call(request)
            subjects = (call.who, *call.path.values())
            fault = self._rest.switchboard.strike(
                self._name, *subjects, kinds=CALL_FAULTS
            )
            await self._meet(fault, call)
            headers = self._rest.spend(self._name, call.who)
            if fault is not None and fault.kind is FaultKind.CUT_BEFORE:
                return Answer(), True
            answer = self._work(call)
        except Refusal as refusal:
            answer = refusal.answer
        except (msgspec.MsgspecError, UnicodeError):
            answer = self._rest.malformed().answer
        is_cut = fault is not None and fault.kind in CUTS
        told = Answer(answer.body, answer.status, {**headers, **answer.headers})
        return told, is_cut

    async def _call(self, request: Request) -> Call:
        raw = await request.body()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        is_bearer = scheme.lower() == "bearer"
        if self._anybody:
            who = ""
        else:
            who = self._rest.authenticate(token.strip() if is_bearer else "")
        path = {name: str(value) for name, value in request.path_params.items()}
        query = dict(request.query_params)
        return Call(who, token.strip(), path, query, dict(request.headers), raw)

    async def _meet(self, fault: Fault | None, call: Call) -> None:
        if fault is None:
            return
        if fault.kind is FaultKind.SLOW:
            await asyncio.sleep(fault.delay_s)
        if fault.kind is FaultKind.ANSWER:
            raise self._rest.ordered(fault)
        if fault.kind is FaultKind.REVOKE:
            self._rest.revoke(call.who)
            if not self._anybody:
                self._rest.authenticate(call.token)


def _response(answer: Answer) -> Response:
    if answer.body is None:
        return Response(status_code=answer.status, headers=dict(answer.headers))
    return Response(
        msgspec.json.encode(answer.body),
        status_code=answer.status,
        headers=dict(answer.headers),
        media_type="application/json",
    )
