"""A calendar that is pulled from bytes in memory, by the worker's own handler."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import httpx2

from bench.calendars import queries, seed
from bench.ground import Ground, connected
from providers.model import StoredTokens
from runtime.clock import SystemClock
from runtime.pool import open_pool
from runtime.sealing import connection_context
from runtime.settings import WorkerSettings, read
from worker.connections import Connections
from worker.handler import Task
from worker.pull import Pull


class Memory(httpx2.AsyncBaseTransport):
    """Answers every request with the same bytes, and notes when."""

    def __init__(self) -> None:
        self.content = b""
        self.answered_at = 0.0

    async def handle_async_request(self, _: httpx2.Request) -> httpx2.Response:
        self.answered_at = time.perf_counter()
        return httpx2.Response(200, content=self.content)


@dataclass(frozen=True, slots=True)
class PulledCalendar:
    """A calendar whose pull can be run as often as wanted."""

    memory: Memory
    pull: Pull
    task: Task
    admin: asyncpg.Connection

    async def apply(self, content: bytes) -> float:
        """Pull these bytes; return milliseconds from having them to the commit."""
        self.memory.content = content
        await self.pull(self.task)
        return (time.perf_counter() - self.memory.answered_at) * 1000

    async def wal_of(self, content: bytes) -> int:
        """Pull these bytes; return how many bytes of WAL that made."""
        before = await queries.page.wal(self.admin)
        await self.apply(content)
        return int(await queries.page.wal(self.admin) - before)

    async def events(self) -> int:
        """Return how many events are mirrored."""
        count: int = await queries.page.count(
            self.admin, calendar_id=self.task.subject_id
        )
        return count


@asynccontextmanager
async def pulled_calendar(ground: Ground, url: str) -> AsyncIterator[PulledCalendar]:
    """Make a calendar, and claim its pull for long enough."""
    memory = Memory()
    pool = await open_pool(
        url, role="sync_worker", min_size=2, max_size=2, application_name="bench"
    )
    async with (
        connected(url) as admin,
        httpx2.AsyncClient(transport=memory) as http,
        pool,
    ):
        calendar_id = (await seed(admin, 5))[0].calendar_id
        task = await _claimed(admin, calendar_id)
        await _store_tokens(ground, admin, task)
        settings = read(WorkerSettings, ground.environment(url))
        connections = Connections(http, pool, settings, SystemClock())
        yield PulledCalendar(memory, Pull(pool, connections), task, admin)


async def _claimed(admin: asyncpg.Connection, calendar_id: UUID) -> Task:
    await queries.page.due(admin, calendar_id=calendar_id)
    row = await queries.page.claim(admin)
    return Task(
        id=row["task_id"],
        kind="pull",
        subject_id=calendar_id,
        connection_id=row["connection_id"],
        lane=2,
        attempt=1,
        lease=row["lease"],
        due_at=row["due_at"],
        claimed_at=row["claimed_at"],
        lease_ends=time.monotonic() + 3600,
    )


async def _store_tokens(ground: Ground, admin: asyncpg.Connection, task: Task) -> None:
    assert task.connection_id is not None  # noqa: S101
    tokens = StoredTokens(
        access_token="bench",  # noqa: S106
        refresh_token=None,
        expires_at=datetime.now(UTC) + timedelta(days=1),
        scope=None,
    )
    sealed = ground.keyring.seal(
        tokens.to_json(), context=connection_context(task.connection_id)
    )
    await queries.page.store_credentials(
        admin,
        connection_id=task.connection_id,
        key_id=sealed.key_id,
        ciphertext=sealed.ciphertext,
    )
