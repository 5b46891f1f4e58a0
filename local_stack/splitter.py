"""One port for two servers: WebSockets go to the gateway, all else to the door.

Only a connection's first request is looked at: a WebSocket never shares its connection
with other requests. From then on bytes pass as they are, so nothing is added to the
time a change takes to a frontend.
"""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine

from local_stack.ports import LOOPBACK

HEAD_LIMIT_BYTES = 64 * 1024
HEAD_LIMIT_S = 10
CHUNK_BYTES = 64 * 1024


class Splitter:
    """Divides what comes through one listening socket."""

    def __init__(
        self, listener: socket.socket, *, door_port: int, gateway_port: int
    ) -> None:
        self._listener = listener
        self._door_port = door_port
        self._gateway_port = gateway_port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, sock=self._listener, limit=HEAD_LIMIT_BYTES
        )

    async def stop(self) -> None:
        """Close the port and every connection through it."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        try:
            with contextlib.suppress(
                OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError
            ):
                await self._split(reader, writer)
        finally:
            writer.close()

    async def _split(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.timeout(HEAD_LIMIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        websocket = b"\r\nupgrade: websocket" in head.lower()
        port = self._gateway_port if websocket else self._door_port
        behind, onward = await asyncio.open_connection(LOOPBACK, port)
        try:
            onward.write(head)
            await _first_to_end(_pipe(reader, onward), _pipe(behind, writer))
        finally:
            onward.close()


async def _first_to_end(*pipes: Coroutine[None, None, None]) -> None:
    """When either side ends the connection, it ends for both."""
    both = [asyncio.create_task(pipe) for pipe in pipes]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pipe in both:
            pipe.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
