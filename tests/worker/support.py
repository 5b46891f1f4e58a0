"""What the worker's tests are made of: tasks, obedient handlers, a line to be cut."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from runtime.pool import connect
from tests.support.sessions import Connection
from worker.dispatcher import Dispatcher, Pace
from worker.handler import Handler, Outcome, Task
from worker.line import Connect
from worker.listener import Listener

HOUR = timedelta(hours=1)


def to_worker(url: str) -> Connect:
    """How a worker connects."""
    return partial(connect, url, role="sync_worker", application_name="worker")


async def request(
    database: Connection,
    *subjects: UUID,
    kind: str = "pull",
    lane: int = 1,
    connection_id: UUID | None = None,
    at: datetime | None = None,
) -> None:
    """Ask for tasks, now unless said otherwise."""
    count = len(subjects)
    await database.fetchval(
        "select sync.request_tasks($1, $2, $3, $4, "
        "array_fill(coalesce($5, sync.clock()), array[$6::int]))",
        [kind] * count,
        list(subjects),
        [connection_id] * count,
        [lane] * count,
        at,
        count,
    )


async def make_due(database: Connection, count: int, **request_options: object) -> set:
    """So many due tasks; returns their subjects."""
    subjects = [uuid4() for _ in range(count)]
    await request(database, *subjects, **request_options)  # type: ignore[arg-type]
    return set(subjects)


async def move_clock(database: Connection, by: timedelta) -> None:
    """Move the database's clock, and tell whoever listens."""
    seconds = by.total_seconds()
    await database.execute(
        "create or replace function sync.clock() returns timestamptz language sql "
        f"volatile set search_path = '' as $$ select clock_timestamp() + {seconds} "
        "* interval '1 second' $$"
    )
    await database.execute("select pg_notify('sync_tasks', '')")


class Doing:
    """A handler that notes what it was given, and holds it until released."""

    def __init__(self, *, held: bool = False, next_in: timedelta | None = HOUR) -> None:
        self.begun: list[Task] = []
        self.ended: list[Task] = []
        self.cancelled: list[Task] = []
        self.running: Counter[UUID | None] = Counter()
        self.most: Counter[UUID | None] = Counter()
        self.idle = False
        self.next_in = next_in
        self.gate = asyncio.Event()
        if not held:
            self.gate.set()

    async def __call__(self, task: Task) -> Outcome:
        self.begun.append(task)
        self.running[task.connection_id] += 1
        self.most[task.connection_id] = max(
            self.most[task.connection_id], self.running[task.connection_id]
        )
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(task)
            raise
        finally:
            self.running[task.connection_id] -= 1
        self.ended.append(task)
        next_at = None if self.next_in is None else task.now() + self.next_in
        return Outcome(next_at, idle=self.idle)

    @property
    def subjects(self) -> list[UUID]:
        return [task.subject_id for task in self.begun]


@asynccontextmanager
async def working(
    url: str, handler: Handler, *, listening: bool = True, **pace: float
) -> AsyncIterator[Dispatcher]:
    """A dispatcher at work, with its listener; dropped at the end as if it had died."""
    dispatcher = Dispatcher(
        to_worker(url), {"pull": handler, "watch": handler}, Pace(**pace)
    )
    jobs = [asyncio.create_task(dispatcher.run())]
    if listening:
        listener = Listener(to_worker(url), dispatcher, probe_s=15)
        jobs.append(asyncio.create_task(listener.run()))
    try:
        yield dispatcher
    finally:
        for job in jobs:
            job.cancel()
        for job in jobs:
            with suppress(asyncio.CancelledError):
                await job


class Proxy:
    """Stands between a worker and Postgres, and does what networks and poolers do."""

    def __init__(self, url: str, *, deaf: bool = False) -> None:
        self._target = urlsplit(url)
        self._deaf = deaf
        self._server: asyncio.Server | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._refusing = False
        self.connections = 0

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._refusing = True  # who was let in, and not yet met
        jobs = [*self._connecting, *self._jobs]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        self.cut()

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        netloc = f"{self._target.username}@{host}:{port}"
        return self._target._replace(netloc=netloc, query="sslmode=disable").geturl()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    def say_goodbye(self) -> None:
        """Say on every connection that it ends, and do not end it yet."""
        self.stall()
        told = b"SFATAL\0C57P01\0Mterminating connection\0\0"
        for client in list(self._clients):
            client.write(b"E" + struct.pack("!I", len(told) + 4) + told)

    def refuse(self, refusing: bool = True) -> None:
        """Reset every connection, and each new one."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def stall(self) -> None:
        """Go silent: connections stay open, and nothing passes on those there are."""
        for job in list(self._jobs):
            job.cancel()

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self._writers.add(writer)
        if self._refusing:
            writer.transport.abort()
            return
        # Noted: whoever connects while the proxy ends is cut off too.
        connecting = asyncio.create_task(self._connect(reader, writer))
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        assert self._target.hostname
        server = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers.add(server[1])
        self._clients.add(writer)
        waiting = _Waiting()
        self._run(self._pass_up(reader, server[1], waiting))
        self._run(self._pass_down(server[0], writer, waiting))

    def _run(self, work: object) -> None:
        job = asyncio.create_task(work)  # type: ignore[arg-type]
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _pass_up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waiting: "_Waiting",
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                waiting.now = True
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _pass_down(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waiting: "_Waiting",
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(5)
                kind, length = struct.unpack("!cI", head)
                body = await reader.readexactly(length - 4)
                # Between two statements a transaction pooler has lent the connection
                # to somebody else and drops what comes. In the midst of one it passes.
                if kind == b"A" and self._deaf and not waiting.now:
                    continue
                if kind == b"Z":
                    waiting.now = False
                writer.write(head + body)
                await writer.drain()
        writer.close()


class _Waiting:
    """Whether the client waits for an answer."""

    now = False


class Ears:
    """Notes what a listener tells."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.hearing: list[str] = []
        self.clocks = 0

    def hear(self, payload: str) -> None:
        self.heard.append(payload)

    def set_hearing(self, hearing: object) -> None:
        self.hearing.append(hearing.value)  # type: ignore[attr-defined]

    def check_clock(self, database_now: datetime) -> None:
        self.clocks += 1


@asynccontextmanager
async def listening(
    url: str, ears: Ears, *, probe_s: float = 15, **limits: float
) -> AsyncIterator[Callable[[], int]]:
    """A listener at work."""
    listener = Listener(to_worker(url), ears, probe_s=probe_s, **limits)
    job = asyncio.create_task(listener.run())
    try:
        yield lambda: len(ears.hearing)
    finally:
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job
