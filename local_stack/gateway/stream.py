"""The replication stream: committed transactions, as they commit, each exactly once.

psycopg's libpq speaks the protocol (COPY BOTH) and the event loop watches its socket: a
transaction is handed over in the same turn of the loop in which its bytes arrive. The
slot lives as long as the gateway, not as long as a connection: after a broken one, the
server sends again what we did not confirm, and what was handed over already is left out
by its place in the log.
"""

import asyncio
import contextlib
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import asyncpg
import psycopg
import structlog
from psycopg import pq

from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.pgoutput import Decoder, Transaction
from local_stack.gateway.queries import query

STATUS_EVERY_S: Final = 1.0
SILENCE_LIMIT_S: Final = 15.0
RETRY_S: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
_POSTGRES_EPOCH_S: Final = 946_684_800
_DATA, _KEEPALIVE = b"w", b"k"
_ANSWER: Final = 1  # asks the server to say that it lives
# Text that every type reads back, whatever the database's own settings are.
SESSION: Final = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres "
    "-c extra_float_digits=1 -c bytea_output=hex -c client_min_messages=warning"
)

log = structlog.get_logger()


class NoPublication(Exception):
    """There is nothing to stream."""


class StreamBroken(Exception):
    """The connection ended, or the server refused to stream."""


class Source(Protocol):
    """Where a stream comes from: a slot that exists, and what it publishes."""

    async def publications(self) -> Sequence[str]: ...


class Stream:
    """Hands over transactions; `take` is called in the event loop and must not wait."""

    def __init__(
        self,
        database_url: str,
        slot: str,
        take: Callable[[Transaction], None],
    ):
        self._database_url = database_url
        self._slot = slot
        self._take = take
        self._place = 0  # in the log: all before it was handed over, or is not for us
        self.trouble = ""  # why the last connection ended
        self._live = asyncio.Event()
        self._pausing: set[object] = set()
        self._reading: _Reading | None = None

    async def wait_until_live(self) -> None:
        """Return as soon as what is committed from now on will be handed over."""
        await self._live.wait()

    async def run(self, source: Source) -> None:
        """Stream until cancelled; a broken connection is made again."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._stream(await source.publications())
            except (
                StreamBroken,
                NoPublication,
                asyncpg.PostgresError,
                *DATABASE_GONE,
            ) as error:
                self.trouble = str(error).strip()[:200]
                log.warning("gateway.stream_broken", reason=self.trouble)
            finally:
                self._live.clear()
            if time.monotonic() - started > RETRY_S[-1]:
                failures = 0
            await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
            failures += 1

    def pause(self, holder: object) -> None:
        """Stop reading until the holder resumes: Postgres keeps what commits."""
        self._pausing.add(holder)
        if self._reading is not None:
            self._reading.unwatch()

    def resume(self, holder: object) -> None:
        self._pausing.discard(holder)
        if self._reading is not None and not self._pausing:
            self._reading.watch()

    async def _stream(self, publications: Sequence[str]) -> None:
        connection = await self._start(publications)
        reading = _Reading(connection, self._message)
        self._reading = reading
        try:
            if not self._pausing:
                reading.watch()
            self._live.set()
            while not reading.ended.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STATUS_EVERY_S):
                        await reading.ended.wait()
                self._confirm(connection)
                if not self._pausing:
                    reading.check_silence()
            raise StreamBroken(reading.reason)
        finally:
            self._reading = None
            reading.unwatch()
            connection.finish()

    async def _start(self, publications: Sequence[str]) -> pq.abc.PGconn:
        statement = query("start_replication").format(
            slot=self._slot,
            lsn=_lsn(self._place),
            publications=",".join(publications),
        )
        connecting = asyncio.create_task(
            asyncio.to_thread(_open, self._database_url, statement)
        )
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # the thread cannot be stopped: what it opens has to be closed
            connecting.add_done_callback(_finish)
            raise

    def _message(
        self, connection: pq.abc.PGconn, data: bytes, decoder: Decoder
    ) -> None:
        kind = data[:1]
        if kind == _DATA:
            transaction = decoder.decode(data[25:])
            if transaction is None or transaction.end_lsn <= self._place:
                return
            self._place = transaction.end_lsn
            self._take(transaction)
        elif kind == _KEEPALIVE:
            # the server has sent all before this place: what else is there, is not ours
            self._place = max(self._place, struct.unpack_from("!Q", data, 1)[0])
            if data[17]:
                self._confirm(connection)

    def _confirm(self, connection: pq.abc.PGconn) -> None:
        """Tell the server what it need not keep."""
        now = int((time.time() - _POSTGRES_EPOCH_S) * 1_000_000)
        place = self._place
        with contextlib.suppress(OSError, psycopg.Error):
            connection.put_copy_data(
                struct.pack("!cQQQqB", b"r", place, place, place, now, _ANSWER)
            )
            connection.flush()


class _Reading:
    """One connection's socket, watched by the event loop."""

    def __init__(
        self,
        connection: pq.abc.PGconn,
        message: Callable[[pq.abc.PGconn, bytes, Decoder], None],
    ):
        self._connection = connection
        self._message = message
        self._decoder = Decoder()
        self._watched = False
        self._heard_at_s = time.monotonic()
        self.ended = asyncio.Event()
        self.reason = ""

    def watch(self) -> None:
        if not self._watched and not self.ended.is_set():
            loop = asyncio.get_running_loop()
            loop.add_reader(self._connection.socket, self._readable)
            self._watched = True
            # what libpq has read already raises no event
            loop.call_soon(self._readable)

    def unwatch(self) -> None:
        if self._watched:
            asyncio.get_running_loop().remove_reader(self._connection.socket)
            self._watched = False

    def check_silence(self) -> None:
        """End a connection whose server says nothing, not even that it lives."""
        if time.monotonic() - self._heard_at_s > SILENCE_LIMIT_S:
            self._end("the server fell silent")

    def _end(self, reason: str) -> None:
        self.unwatch()
        self.reason = reason
        self.ended.set()

    def _readable(self) -> None:
        if not self._watched:
            return
        self._heard_at_s = time.monotonic()
        connection = self._connection
        try:
            connection.consume_input()
            while self._watched:
                length, data = connection.get_copy_data(1)
                if length == 0:
                    return
                if length < 0:
                    self._end("the server ended the stream")
                    return
                self._message(connection, bytes(data), self._decoder)
        except psycopg.Error as error:
            self._end(str(error))
        except Exception:  # whatever one transaction did, the next must come
            log.exception("gateway.transaction_failed")
            self._end("a transaction could not be handed over")


def _open(database_url: str, statement: str) -> pq.abc.PGconn:
    """Connect and start streaming; runs in a thread, for libpq waits."""
    options = pq.Conninfo.parse(database_url.encode())
    given = {option.keyword: option.val for option in options if option.val is not None}
    given |= {
        b"replication": b"database",
        b"fallback_application_name": b"supacal gateway",
        b"connect_timeout": b"10",
        b"options": b" ".join([given.get(b"options", b""), SESSION.encode()]),
    }
    pairs = (key + b"='" + _escaped(value) + b"'" for key, value in given.items())
    connection = pq.PGconn.connect(b" ".join(pairs))
    trouble = _start_copy(connection, statement)
    if trouble:
        connection.finish()
        raise StreamBroken(trouble)
    return connection


def _start_copy(connection: pq.abc.PGconn, statement: str) -> str:
    """Put a connection into COPY BOTH; returns why it could not be."""
    if connection.status != pq.ConnStatus.OK:
        return connection.get_error_message()
    result = connection.exec_(statement.encode())
    if result.status != pq.ExecStatus.COPY_BOTH:
        return result.get_error_message()
    connection.nonblocking = 1
    return ""


def _escaped(value: bytes) -> bytes:
    return value.replace(b"\\", b"\\\\").replace(b"'", b"\\'")


def _finish(opened: "asyncio.Task[pq.abc.PGconn]") -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().finish()


def _lsn(place: int) -> str:
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"
