"""LISTEN on a connection of its own that notices its own death.

A notification is a hint, the table the truth: what is missed while nobody listens is
found by the look that follows each reconnect. Three ways to go deaf are told apart:

* the connection ends: seen at once
* it is cut on its way while both ends believe it lives: the probe gets no answer
* a pooler in transaction mode takes LISTEN and swallows what comes: what another
  connection says never arrives. That is told once, and the worker polls.
"""

import asyncio
from datetime import datetime
from enum import Enum
from typing import Protocol
from uuid import uuid4

import asyncpg
import structlog

from runtime.pool import FAILURES
from sql import queries
from worker.line import Connect, answer
from worker.waiting import happens

CHANNEL = "sync_tasks"
ANSWER_WITHIN_S = 5.0
# A notification takes a quarter of a millisecond. This long is a verdict.
ECHO_WITHIN_S = 2.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
REMEDY = (
    "Something between the worker and Postgres swallows notifications, as a pooler in "
    "transaction mode does (Supabase: port 6543). Point DATABASE_URL at a session "
    "(port 5432). Until then the worker polls."
)

log = structlog.get_logger()


class Hearing(Enum):
    """What can be counted on."""

    GOOD = "good"
    DEAF = "deaf"
    NONE = "none"


class Ears(Protocol):
    """Who is told."""

    def hear(self, payload: str) -> None: ...

    def set_hearing(self, hearing: Hearing) -> None:
        """Called on every change, and after every reconnect."""

    def check_clock(self, database_now: datetime) -> None: ...


class Listener:
    """Keeps listening until it is cancelled."""

    def __init__(
        self,
        connect: Connect,
        ears: Ears,
        *,
        probe_s: float,
        answer_within_s: float = ANSWER_WITHIN_S,
        echo_within_s: float = ECHO_WITHIN_S,
    ) -> None:
        self._connect = connect
        self._ears = ears
        self._probe_s = probe_s
        self._answer_within_s = answer_within_s
        self._echo_within_s = echo_within_s
        self._echo = _Echo()
        self._hearing: Hearing | None = None
        self._pause_s = FIRST_PAUSE_S

    async def run(self) -> None:
        """Listen, and listen again."""
        while True:
            try:
                await self._listen_once()
            except FAILURES as failure:
                self._set(Hearing.NONE, reason=type(failure).__name__)
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    async def _listen_once(self) -> None:
        """Listen until the connection is of no more use."""
        connection = await self._connect()
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            await self._listen_on(connection)
            # The first word must come from elsewhere: a pooler hands on what a session
            # tells itself in the middle of its own statement.
            other = await self._connect()
            try:
                heard = await self._probe(other)
            finally:
                other.terminate()
            self._set(Hearing.GOOD if heard else Hearing.DEAF)
            self._pause_s = FIRST_PAUSE_S
            while not await happens(ended, self._probe_s):
                if not heard or not await self._probe(connection):
                    return  # try once more with a fresh connection
            self._set(Hearing.NONE, reason="the connection ended")
        finally:
            connection.terminate()

    async def _listen_on(self, connection: asyncpg.Connection) -> None:
        self._echo = _Echo()
        for channel, callback in (
            (self._echo.channel, self._echo.hear),
            (CHANNEL, lambda *told: self._ears.hear(told[-1])),
        ):
            listening = connection.add_listener(channel, callback)
            await answer(listening, connection, self._answer_within_s)

    async def _probe(self, connection: asyncpg.Connection) -> bool:
        """Ask for a notification; whether it came.

        Raises:
            TimeoutError: there was not even an answer.
        """
        word = self._echo.expect()
        now = await answer(
            queries.tasks.probe(connection, channel=self._echo.channel, word=word),
            connection,
            self._answer_within_s,
        )
        self._ears.check_clock(now)
        return await happens(self._echo.heard, self._echo_within_s)

    def _set(self, hearing: Hearing, *, reason: str | None = None) -> None:
        before, self._hearing = self._hearing, hearing
        if hearing is not before:
            match hearing:
                case Hearing.GOOD:
                    log.info("listener.hearing")
                case Hearing.DEAF:
                    log.error("listener.deaf", remedy=REMEDY)
                case Hearing.NONE:
                    log.warning("listener.away", reason=reason)
        self._ears.set_hearing(hearing)


async def hears(connect: Connect) -> bool:
    """Tell whether what one connection says is heard by another one.

    Raises:
        FAILURES of runtime.pool: there is no answer at all.
    """
    echo = _Echo()
    listening, other = await connect(), await connect()
    try:
        await listening.add_listener(echo.channel, echo.hear)
        word = echo.expect()
        await queries.tasks.probe(other, channel=echo.channel, word=word)
        return await happens(echo.heard, ECHO_WITHIN_S)
    finally:
        listening.terminate()
        other.terminate()


class _Echo:
    """A channel that only this listener hears, and the word it waits for."""

    def __init__(self) -> None:
        self.channel = f"sync_echo_{uuid4().hex}"
        self.heard = asyncio.Event()
        self._word = ""

    def expect(self) -> str:
        self.heard.clear()
        self._word = uuid4().hex
        return self._word

    def hear(self, *told: object) -> None:
        if told[-1] == self._word:
            self.heard.set()
