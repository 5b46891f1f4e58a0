"""A twin on a loopback port: in a thread of this process, or as one of its own."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.types import ASGIApp

START_LIMIT_S = 10.0


def listen(port: int = 0) -> socket.socket:
    """Return a listening socket on loopback; port 0 takes a free one."""
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    listener.setblocking(False)
    return listener


def server_of(twin: ASGIApp) -> uvicorn.Server:
    """Return a server for a twin, silent and with short farewells."""
    config = uvicorn.Config(
        twin,
        log_config=None,
        access_log=False,
        lifespan="on",
        http="httptools",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@asynccontextmanager
async def serving(twin: ASGIApp, port: int = 0) -> AsyncIterator[str]:
    """Serve a twin from the running event loop; yields its base URL."""
    with listen(port) as listener:
        server = server_of(twin)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await started(server, task)
            yield base_url(listener)
        finally:
            server.should_exit = True
            await task


@contextmanager
def serving_in_thread(twin: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve a twin from a thread, for clients that block; yields its base URL."""
    is_up = threading.Event()
    with listen(port) as listener:
        stop: list[uvicorn.Server] = []

        async def run() -> None:
            server = server_of(twin)
            stop.append(server)
            task = asyncio.create_task(server.serve(sockets=[listener]))
            await started(server, task)
            is_up.set()
            await task

        thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
        thread.start()
        if not is_up.wait(START_LIMIT_S):
            raise TimeoutError("the twin did not start within 10 s")
        try:
            yield base_url(listener)
        finally:
            stop[0].should_exit = True
            thread.join(START_LIMIT_S)


async def started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    """Wait until a server takes requests, or has failed to."""
    # uvicorn tells nobody when it has started; it only sets a flag.
    while not server.started and not task.done():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def base_url(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
