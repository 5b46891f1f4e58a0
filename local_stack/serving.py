"""An ASGI app on a port of the loopback interface, inside this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

from local_stack.errors import StackError
from local_stack.ports import LOOPBACK

POLL_S = 0.005
GRACE_S = 2


class _Server(uvicorn.Server):
    """Signals are the business of who runs the stack."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: ASGIApp, port: int) -> AsyncIterator[None]:
    """Serve while the block runs; on the way in, wait until the port is open.

    Raises:
        StackError: the port is taken.
    """
    config = uvicorn.Config(
        app,
        host=LOOPBACK,
        port=port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    running = asyncio.create_task(server._serve())  # serve() takes signals
    try:
        while not server.started:
            if running.done():
                raise StackError(f"Port {port} of {LOOPBACK} could not be opened.")
            await asyncio.sleep(POLL_S)
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(running, return_exceptions=True)
