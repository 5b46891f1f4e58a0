"""What a twin sends by itself: from the event loop that serves it, over one client."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import httpx2

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Outbox:
    """Runs what is to be sent. Anything may be posted from any thread."""

    def __init__(self) -> None:
        # Address prefix to transport, for receivers that live in the same process.
        self.transports: dict[str, httpx2.AsyncBaseTransport] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx2.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closings: set[asyncio.Task[None]] = set()

    def use_running_loop(self) -> None:
        """Send from this event loop from now on."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._drop_client()
            self._loop, self._tasks, self._closings = loop, set(), set()

    def start(self, send: Work) -> None:
        """Send something soon."""
        self._start(send, self._tasks)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something in the sender's loop after a while."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(loop.call_later, delay_s, action)

    async def drain(self) -> None:
        """Wait until nothing is on its way any more."""
        await asyncio.sleep(0)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Give up what is on its way and close connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._drop_client()
        await asyncio.gather(*self._closings, return_exceptions=True)

    def deliver_to(self, prefix: str, transport: httpx2.AsyncBaseTransport) -> None:
        """Reach addresses under a prefix through a transport instead of the network."""
        self.transports[prefix] = transport
        self._drop_client()

    @property
    def http(self) -> httpx2.AsyncClient:
        """The client; each call names its own time-out."""
        if self._client is None:
            self._client = httpx2.AsyncClient(
                mounts=dict(self.transports), trust_env=False
            )
        return self._client

    def _drop_client(self) -> None:
        """Close the client in the loop that its connections belong to."""
        client, self._client = self._client, None
        if client is not None:
            self._start(client.aclose, self._closings)

    def _start(self, work: Work, among: set[asyncio.Task[None]]) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        if _running_loop() is loop:
            _begin(work, among)
        else:
            loop.call_soon_threadsafe(_begin, work, among)


def _begin(work: Work, among: set[asyncio.Task[None]]) -> None:
    task = asyncio.ensure_future(work())
    among.add(task)
    task.add_done_callback(among.discard)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
