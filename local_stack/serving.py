"""An ASGI app on a port of the loopback interface, inside this process."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from local_stack.errors import StackError

POLL_S = 0.005
GRACE_S = 2


class _Server(uvicorn.Server):
    """Signals are the business of who runs the stack."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve a listening socket while the block runs, and close it."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    running = asyncio.create_task(server._serve([listener]))  # serve() takes signals
    try:
        while not server.started:
            if running.done():
                raise StackError("A part of the stack ended while it started.")
            await asyncio.sleep(POLL_S)
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(running, return_exceptions=True)
        listener.close()
