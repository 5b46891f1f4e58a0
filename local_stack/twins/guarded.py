"""One route of a calendar provider: guarded by the switchboard, noted in the log."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter
from typing import Any, ClassVar, TypeAlias
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_stack.twins.calls import CallLog, CallRecord
from local_stack.twins.connection_cut import cut_connection
from local_stack.twins.switchboard import (
    CALL_FAULTS,
    CUTS,
    Fault,
    FaultKind,
    Switchboard,
)


@dataclass(frozen=True)
class Answer:
    """What goes back."""

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Work: TypeAlias = Callable[[Request, "Guarded"], Awaitable[Answer]]


class Guarded(ABC):
    """One route: does its work unless the switchboard has other plans."""

    refusal: ClassVar[type[Exception]]

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
        request.state.id = str(uuid4())
        try:
            answer = await self._work(request, self)
        except self.refusal as refusal:
            answer = self._refused(refusal, request, at)
        fault: Fault | None = request.state.fault
        cut = fault is not None and fault.kind in CUTS
        subject = request.path_params.get("calendar_id")
        spent_ms = (perf_counter() - began) * 1000
        status = None if cut else answer.status
        self._log.note(CallRecord(self.name, subject, status, at, spent_ms))
        if cut:
            await cut_connection(receive, send)
            return
        await self._response(answer, request)(scope, receive, send)

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
            raise self._ordered(fault)
        return fault.kind is not FaultKind.CUT_BEFORE

    @abstractmethod
    def _refused(self, refusal: Any, request: Request, at: datetime) -> Answer: ...

    @abstractmethod
    def _ordered(self, fault: Fault) -> Exception: ...

    @abstractmethod
    def _response(self, answer: Answer, request: Request) -> Response: ...
