"""Kind `advance`: time passes, and a worker sees to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from runtime.pool import open_pool
from tests.support.builders import make_organization
from tests.support.eventually import eventually
from tests.support.pipeline import (
    DATABASE,
    advance_task,
    make_client,
    make_meeting,
    place_of,
)
from tests.support.sessions import Connection
from tests.worker.support import to_worker
from worker.advance import AT_LEAST_EVERY, Advance
from worker.dispatcher import Dispatcher, Pace
from worker.handler import Outcome, Task
from worker.listener import Listener

SOON = timedelta(seconds=1)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(
        database_url,
        role="sync_worker",
        min_size=1,
        max_size=1,
        application_name="advance",
    )
    async with opened:
        yield opened


@pytest.fixture
async def organization(database: Connection) -> UUID:
    return await make_organization(database)


async def run(database: Connection, pool: asyncpg.Pool) -> tuple[Outcome, datetime]:
    """One run of `advance`, and the database's time at its claim."""
    claimed = await database.fetchrow(
        "select * from sync.claim_tasks(array['advance'], 1, '1 minute')"
    )
    assert claimed is not None
    task = Task(
        id=claimed["task_id"],
        kind="advance",
        subject_id=DATABASE,
        connection_id=None,
        lane=2,
        attempt=1,
        lease=claimed["lease"],
        due_at=claimed["due_at"],
        claimed_at=claimed["claimed_at"],
        lease_ends=time.monotonic() + 60,
    )
    return await Advance(pool)(task), claimed["claimed_at"]


@asynccontextmanager
async def at_work(url: str, pool: asyncpg.Pool) -> AsyncIterator[None]:
    """A worker that does nothing else."""
    dispatcher = Dispatcher(to_worker(url), {"advance": Advance(pool)}, Pace())
    listener = Listener(to_worker(url), dispatcher, probe_s=15)
    jobs = [asyncio.create_task(job.run()) for job in (dispatcher, listener)]
    try:
        yield
    finally:
        for job in jobs:
            job.cancel()
        for job in jobs:
            with suppress(asyncio.CancelledError):
                await job


async def test_a_new_database_has_the_task(database: Connection) -> None:
    assert await advance_task(database) is not None


async def test_a_run_says_what_is_over_and_when_to_look_again(
    database: Connection, pool: asyncpg.Pool, organization: UUID
) -> None:
    now = datetime.now(UTC)
    await make_meeting(database, organization, now - timedelta(days=1))
    await make_meeting(database, organization, now, ends_at=now + timedelta(minutes=5))
    outcome, _ = await run(database, pool)
    assert outcome.next_at == now + timedelta(minutes=5)
    assert (outcome.counts.updated, outcome.idle) == (1, False)


async def test_a_run_with_nothing_to_come_is_idle_and_looks_again_in_an_hour(
    database: Connection, pool: asyncpg.Pool, organization: UUID
) -> None:
    await make_meeting(database, organization, datetime.now(UTC) + timedelta(days=9))
    outcome, claimed_at = await run(database, pool)
    assert outcome.idle
    assert outcome.next_at
    assert outcome.next_at - claimed_at >= AT_LEAST_EVERY


async def test_a_meeting_begins_and_ends_without_anybody_doing_anything(
    database: Connection, database_url: str, pool: asyncpg.Pool, organization: UUID
) -> None:
    client = await make_client(database, organization)
    async with at_work(database_url, pool):
        start = datetime.now(UTC) + SOON
        await make_meeting(
            database, organization, start, client_id=client, ends_at=start + SOON
        )
        place = await place_of(database, client)
        assert (place["stage"], place["next_meeting_at"]) == ("booked", start)

        async def begun() -> bool:
            place = await place_of(database, client)
            return place["last_meeting_at"] == start

        async def met() -> bool:
            return (await place_of(database, client))["stage"] == "met"

        await eventually(begun)
        await eventually(met)
    ended = await database.fetchval(
        "select changed_at from public.meeting_history order by id desc limit 1"
    )
    assert ended >= start + SOON
