"""What handlers say when they begin, by the clock that all processes share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_S = 10


class Reports(asyncio.DatagramProtocol):
    """Datagrams of the form `subject nanoseconds`, on the monotonic clock."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[int]] = {}
        self.port = 0

    def datagram_received(self, data: bytes, _: object) -> None:
        subject, _, at = data.decode().partition(" ")
        waiting = self._waiting.pop(subject, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(int(at))

    def expect(self, subject: str) -> "asyncio.Future[int]":
        """Return when the handler of this subject begins next."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[subject] = waiting
        return waiting


@asynccontextmanager
async def listening() -> AsyncIterator[Reports]:
    """Hear reports while the block runs."""
    loop = asyncio.get_running_loop()
    transport, reports = await loop.create_datagram_endpoint(
        Reports, local_addr=("127.0.0.1", 0)
    )
    reports.port = transport.get_extra_info("sockname")[1]
    try:
        yield reports
    finally:
        transport.close()
