"""How fast frames go out: in bursts, between which clients get a chance to read.

A client is slow if it does not take what everybody else takes. To tell, the event loop
must have had turns to write; and a client that is only a little behind is waited for, a
second in all, before the limit of its send buffer decides.
"""

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from local_stack.gateway.wire import Connection

BURST_BYTES: Final = 256 * 1024
PATIENCE_S: Final = 1.0
LOOK_EVERY_S: Final = 0.005


class Pace:
    """Counts what is written in one turn of the event loop."""

    def __init__(self) -> None:
        self._burst = 0
        self._behind: set[Connection] = set()

    @property
    def is_due(self) -> bool:
        """Whether it is time to breathe before writing more."""
        return self._burst > BURST_BYTES

    def count(self, size: int) -> None:
        if self._burst == 0:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._burst += size

    def _next_turn(self) -> None:
        self._burst = 0

    def fell_behind(self, connection: "Connection") -> None:
        self._behind.add(connection)

    async def breathe(self) -> None:
        """Let the loop write, and those who fell behind catch up if they can."""
        await asyncio.sleep(0)
        while self._behind:
            self._behind = {one for one in self._behind if one.may_catch_up}
            for connection in self._behind:
                connection.patience_s -= LOOK_EVERY_S
            if self._behind:
                await asyncio.sleep(LOOK_EVERY_S)
