"""What every twin is: an ASGI app with a clock, switches, faults and a log of calls."""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeVar

import httpx2
import msgspec
from starlette.routing import BaseRoute, Router
from starlette.types import Receive, Scope, Send

from local_stack.twins.calls import CallLog
from local_stack.twins.movable_clock import MovableClock
from local_stack.twins.outbox import Outbox
from local_stack.twins.switchboard import Switchboard
from runtime.clock import Clock, SystemClock

Behaviour = TypeVar("Behaviour", bound=msgspec.Struct)


class Pushes(Protocol):
    """Whatever sends a twin's pushes."""

    @property
    def log(self) -> deque[Any]:
        """Every attempt, the last ones of very many."""


class TwinApp(Generic[Behaviour]):
    """The half of a twin that is no provider's own.

    Mount it in process (`httpx2.ASGITransport(twin)`) or on loopback
    (`local_stack.twins.serve.serving(twin)`). What it knows may be changed from any
    thread; pushes go out from the event loop that serves it.
    """

    outbox: Outbox
    pushes: Pushes

    def __init__(self, clock: Clock | None, behaviour: Behaviour) -> None:
        self.clock = MovableClock(clock or SystemClock())
        self.behaviour = behaviour
        self.switchboard = Switchboard()
        self.calls = CallLog()
        self._router = Router(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._router(scope, receive, send)

    async def __aenter__(self) -> Self:
        self.outbox.use_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop sending."""
        await self.outbox.aclose()

    def deliver_to(self, prefix: str, transport: httpx2.AsyncBaseTransport) -> None:
        """Push below a prefix (`https://hooks.test`) through a transport."""
        self.outbox.deliver_to(prefix, transport)

    def _serve(self, routes: Iterable[BaseRoute]) -> None:
        self._router.routes.extend(routes)

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        async with self:
            yield
