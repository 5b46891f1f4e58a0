"""One caller that posts and waits, with as little of its own in the way as can be."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Caller(asyncio.Protocol):
    """A kept-alive connection with one request under way."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] | None = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, body = self._read.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if blank and length and len(body) >= int(length[1]) and self._answer:
            self._read = b""
            self._answer.set_result(head)

    async def post(self, request: bytes) -> int:
        """Send; return when, once a 2xx has come back.

        Raises:
            ConnectionError: it was anything else.
        """
        self._answer = asyncio.get_running_loop().create_future()
        sent_at = time.monotonic_ns()
        self._transport.write(request)  # type: ignore[attr-defined]
        answer = await self._answer
        if answer[9:10] != b"2":
            raise ConnectionError(answer[:100])
        return sent_at


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    """Keep a connection to a port of this machine while the block runs."""
    loop = asyncio.get_running_loop()
    transport, caller = await loop.create_connection(Caller, "127.0.0.1", port)
    try:
        yield caller
    finally:
        transport.close()
