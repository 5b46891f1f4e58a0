"""The queue's days: made ahead, dropped when gone, never lost."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

KEEP = "select sync.keep_partitions()"
PARENTS = ("webhook_deliveries", "runs")


@pytest.fixture
async def clock(database: Connection) -> DatabaseClock:
    moved = DatabaseClock(database)
    # Noon: a test that runs at midnight must not see a day change.
    await moved.set(datetime.now(UTC).replace(hour=12, minute=0))
    await database.execute(KEEP)  # the days at hand are those of when it was migrated
    return moved


async def days(database: Connection, parent: str) -> set[str]:
    rows = await database.fetch(
        """
        select right(inhrelid::regclass::text, 8) as day from pg_catalog.pg_inherits
        where inhparent = $1::regclass and inhrelid::regclass::text ~ '_[0-9]{8}$'
        """,
        f"sync.{parent}",
    )
    return {row["day"] for row in rows}


def day(at: datetime, offset: int) -> str:
    return (at + timedelta(days=offset)).strftime("%Y%m%d")


async def deliver(database: Connection, at: datetime, *, state: str = "") -> int:
    """A delivery received at a time; with a state, one of a booking."""
    delivery: int = await database.fetchval(
        """
        insert into sync.webhook_deliveries (received_at, provider, kind, connection_id)
        values ($1, 'google', 'change', $2) returning id
        """,
        at,
        uuid4(),
    )
    if state:
        await database.execute(
            """
            insert into sync.delivery_states
              (delivery_id, received_at, connection_id, state)
            values ($1, $2, gen_random_uuid(), $3)
            """,
            delivery,
            at,
            state,
        )
    return delivery


async def stands_in(database: Connection, delivery: int) -> str:
    table: str = await database.fetchval(
        "select tableoid::regclass::text from sync.webhook_deliveries where id = $1",
        delivery,
    )
    return table


@pytest.mark.parametrize("parent", PARENTS)
async def test_thirty_days_ahead_are_there(
    database: Connection, clock: DatabaseClock, parent: str
) -> None:
    await clock.advance(days=3)
    await database.execute(KEEP)

    made = await days(database, parent)
    assert {day(clock.now, offset) for offset in range(31)} <= made


async def test_keeping_twice_changes_nothing(
    database: Connection, clock: DatabaseClock
) -> None:
    await clock.advance(days=3)

    assert await database.fetchval(KEEP) == 2 * 3
    assert await database.fetchval(KEEP) == 0


@pytest.mark.parametrize("parent", PARENTS)
async def test_days_gone_are_dropped(
    database: Connection, clock: DatabaseClock, parent: str
) -> None:
    first = clock.now
    await clock.advance(days=20)
    await database.execute(KEEP)

    left = await days(database, parent)
    assert day(first, 0) not in left
    assert min(left) == day(clock.now, -14)


@pytest.mark.parametrize(
    ("state", "kept"),
    [("received", True), ("failed", True), ("done", False), ("dead", False)],
)
async def test_a_day_with_an_open_booking_delivery_is_kept(
    database: Connection, clock: DatabaseClock, state: str, kept: bool
) -> None:
    received = clock.now
    await deliver(database, received, state=state)
    await clock.advance(days=20)
    await database.execute(KEEP)

    left = await days(database, "webhook_deliveries")
    assert (day(received, 0) in left) == kept


async def test_every_day_stands_behind_row_level_security_and_says_what_it_is(
    database: Connection, clock: DatabaseClock
) -> None:
    await clock.advance(days=3)
    await database.execute(KEEP)

    amiss = await database.fetch(
        """
        select class.relname from pg_catalog.pg_class as class
        join pg_catalog.pg_inherits as inherits on inherits.inhrelid = class.oid
        where class.relnamespace = 'sync'::regnamespace and class.relkind = 'r'
          and (
            not class.relrowsecurity
            or obj_description(class.oid, 'pg_class') is null
          )
        """
    )
    assert amiss == []


async def test_the_default_partition_is_empty_while_days_are_kept(
    database: Connection, clock: DatabaseClock
) -> None:
    delivery = await deliver(database, clock.now)

    assert await stands_in(database, delivery) == (
        f"sync.webhook_deliveries_{day(clock.now, 0)}"
    )


async def test_when_the_days_ran_out_deliveries_are_still_stored_and_find_home_later(
    database: Connection, clock: DatabaseClock
) -> None:
    await clock.advance(days=40)
    delivery = await deliver(database, clock.now)
    assert await stands_in(database, delivery) == "sync.webhook_deliveries_default"

    await database.execute(KEEP)

    assert await stands_in(database, delivery) == (
        f"sync.webhook_deliveries_{day(clock.now, 0)}"
    )


async def test_who_reads_the_queue_for_long_is_waited_for_by_nobody(
    database: Connection, clock: DatabaseClock, connect: Connect
) -> None:
    received = clock.now
    await deliver(database, received)
    reader = await connect()
    async with reader.transaction():
        await reader.fetch("select * from sync.webhook_deliveries")
        await clock.advance(days=20)

        async with asyncio.timeout(5):
            await database.execute(KEEP)
            await deliver(database, clock.now)
        assert day(received, 0) in await days(database, "webhook_deliveries")

    await database.execute(KEEP)
    made = await days(database, "webhook_deliveries")
    assert day(clock.now, 30) in made
    assert day(received, 0) not in made


async def test_the_worker_may_keep_the_days(
    clock: DatabaseClock, connect: Connect
) -> None:
    await clock.advance(days=1)
    worker = await connect(role="sync_worker")

    assert await worker.fetchval(KEEP) == 2
