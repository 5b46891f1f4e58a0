"""Kind `keep`: what is over for good is cleared away."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime.pool import open_pool
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection
from worker.handler import Task
from worker.keep import Keep

OVER = ("failed", "stopped", "expired")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(
        database_url,
        role="sync_worker",
        min_size=1,
        max_size=1,
        application_name="keep",
    )
    async with opened:
        yield opened


@pytest.fixture
async def calendar(database: Connection) -> UUID:
    organization = await make_organization(database)
    return await make_calendar(database, await make_connection(database, organization))


async def keep(pool: asyncpg.Pool) -> bool:
    """One run of `keep`; returns whether it did anything."""
    now = datetime.now(UTC)
    task = Task(
        id=1,
        kind="keep",
        subject_id=UUID(int=0),
        connection_id=None,
        lane=2,
        attempt=1,
        lease=uuid4(),
        due_at=now,
        claimed_at=now,
        lease_ends=time.monotonic() + 60,
    )
    return not (await Keep(pool)(task)).idle


async def had_channel(
    database: Connection, calendar: UUID, status: str, *, days_ago: int
) -> UUID:
    """A channel that has had this status for so long."""
    channel: UUID = await database.fetchval(
        """
        insert into public.calendar_watch_channels
          (calendar_id, organization_id, status, created_at, updated_at)
        select id, organization_id, $2, now() - $3::interval, now() - $3::interval
        from public.calendars where id = $1
        returning id
        """,
        calendar,
        status,
        timedelta(days=days_ago),
    )
    return channel


async def channels(database: Connection) -> set[UUID]:
    rows = await database.fetch("select id from public.calendar_watch_channels")
    return {row["id"] for row in rows}


@pytest.mark.parametrize("status", OVER)
async def test_channels_that_ended_a_month_ago_are_forgotten_but_for_the_newest(
    database: Connection, pool: asyncpg.Pool, calendar: UUID, status: str
) -> None:
    for days_ago in (50, 40):
        await had_channel(database, calendar, status, days_ago=days_ago)
    newest = await had_channel(database, calendar, status, days_ago=31)

    assert await keep(pool)

    assert await channels(database) == {newest}


async def test_channels_that_ended_lately_are_remembered(
    database: Connection, pool: asyncpg.Pool, calendar: UUID
) -> None:
    kept = {
        await had_channel(database, calendar, status, days_ago=days_ago)
        for status in OVER
        for days_ago in (29, 1)
    }

    await keep(pool)

    assert await channels(database) == kept


async def test_channels_that_may_still_live_are_remembered(
    database: Connection, pool: asyncpg.Pool, calendar: UUID
) -> None:
    kept = {
        await had_channel(database, calendar, status, days_ago=400)
        for status in ("pending", "active", "replaced", "unwatchable", "by_hand")
    }

    await keep(pool)

    assert await channels(database) == kept


async def test_a_run_that_has_nothing_to_clear_away_is_idle(
    pool: asyncpg.Pool, calendar: UUID
) -> None:
    await keep(pool)

    assert not await keep(pool)
