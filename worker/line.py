"""A connection of one's own to Postgres that comes back when it was lost.

* NoAnswer     the database is away, or did not take the statement: ask again later
  x Uncertain  the same, and what was asked may have happened all the same
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
import structlog

from runtime.pool import FAILURES

T = TypeVar("T")
Connect = Callable[[], Awaitable[asyncpg.Connection]]

# No statement of the dispatcher takes near as long, unless nobody is there any more.
ANSWER_WITHIN_S = 10.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
# What the connection survives: somebody else was in the way.
COLLISIONS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
)

log = structlog.get_logger()


class NoAnswer(Exception):
    """The database did not do what it was asked."""


class Uncertain(NoAnswer):
    """The connection was lost before the answer came."""


class Line:
    """Asks the database one thing at a time, over a connection that it renews."""

    def __init__(
        self, connect: Connect, *, answer_within_s: float = ANSWER_WITHIN_S
    ) -> None:
        self._connect = connect
        self._answer_within_s = answer_within_s
        self._connection: asyncpg.Connection | None = None
        self._trouble: str | None = None
        self._failures = 0

    async def ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """Return the answer, over a fresh connection if need be.

        Raises:
            NoAnswer: wait for ``pause_s``, then ask again.
        """
        try:
            connection = await self._connected()
        except FAILURES as failure:
            raise NoAnswer(self._note(failure)) from failure
        try:
            result = await answer(
                question(connection), connection, self._answer_within_s
            )
        except FAILURES as failure:
            if _is_ours(failure):
                raise
            lost = connection.is_closed()
            if not isinstance(failure, COLLISIONS):
                self.hang_up()
            kind = Uncertain if lost else NoAnswer
            raise kind(self._note(failure)) from failure
        self._recover()
        return result

    @property
    def pause_s(self) -> float:
        """How long to wait before asking again: longer each time, never the same."""
        longest = FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 10)
        return min(longest, LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311

    def hang_up(self) -> None:
        """Drop the connection without a word."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    def _note(self, failure: BaseException) -> str:
        """Log what is wrong, once."""
        self._failures += 1
        trouble = _trouble(failure)
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("database.away", reason=trouble)
        return trouble

    def _recover(self) -> None:
        if self._trouble is not None:
            log.info("database.back", attempts=self._failures)
            self._trouble = None
            self._failures = 0


async def answer(
    work: Awaitable[T], connection: asyncpg.Connection, within_s: float
) -> T:
    """Wait for what was asked over this connection; in silence the connection ends.

    A cancelled call would make asyncpg open another connection to say so, over the
    same dead line. This one is cut instead.
    """
    asked = asyncio.ensure_future(work)
    try:
        await asyncio.wait({asked}, timeout=within_s)
    finally:
        if not asked.done():
            asked.add_done_callback(_look_away)
            connection.terminate()
    if not asked.done():
        raise TimeoutError(f"no answer within {within_s:g} s")
    return asked.result()


def _look_away(asked: "asyncio.Future[T]") -> None:
    if not asked.cancelled():
        asked.exception()


def _is_ours(failure: BaseException) -> bool:
    """CS… is an answer that our own functions give, not a failure to give one."""
    return str(getattr(failure, "sqlstate", None) or "").startswith("CS")


def _trouble(failure: BaseException) -> str:
    sqlstate = getattr(failure, "sqlstate", None)
    return f"{type(failure).__name__} {sqlstate or failure}".strip()
