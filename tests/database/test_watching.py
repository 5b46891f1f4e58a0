"""Promises of the database to a watch: who is asked to read, and what a channel is."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest

from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.support.tasks import claim

Connect = Callable[..., Awaitable[Connection]]

NOW = "sync.clock()"


async def make_bookings(database: Connection, *, provider: str = "calcom") -> UUID:
    """The calendar of a connection that takes bookings, switched off."""
    connection_id = await make_connection(
        database, await make_organization(database), provider=provider
    )
    calendar_id = await make_calendar(database, connection_id)
    await database.execute(
        "update public.calendars set kind = 'bookings' where id = $1", calendar_id
    )
    return calendar_id


async def asked(database: Connection) -> set[tuple[str, UUID, int]]:
    rows = await database.fetch(
        "select kind, subject_id, lane from sync.tasks where connection_id is not null"
    )
    return {(row["kind"], row["subject_id"], row["lane"]) for row in rows}


async def connection_of(database: Connection, calendar_id: UUID) -> UUID:
    connection_id: UUID = await database.fetchval(
        "select connection_id from public.calendars where id = $1", calendar_id
    )
    return connection_id


async def test_a_calendar_is_read_by_a_pull(database: Connection) -> None:
    connection_id = await make_connection(database, await make_organization(database))
    calendar_id = await make_calendar(database, connection_id)

    moved = await database.fetchval(
        f"select sync.request_read($1, 1::smallint, {NOW})", calendar_id
    )

    assert moved is True
    assert await asked(database) == {("pull", calendar_id, 1)}


async def test_bookings_are_read_by_an_ingest_of_their_connection(
    database: Connection,
) -> None:
    calendar_id = await make_bookings(database)

    for _ in range(2):
        await database.fetchval(
            f"select sync.request_read($1, 2::smallint, {NOW})", calendar_id
        )

    connection_id = await connection_of(database, calendar_id)
    assert await asked(database) == {("ingest", connection_id, 2)}


@pytest.mark.parametrize(("lane", "is_swept"), [(0, True), (1, True), (2, False)])
async def test_bookings_that_somebody_asks_for_are_swept_too(
    database: Connection, lane: int, is_swept: bool
) -> None:
    calendar_id = await make_bookings(database)
    await database.execute(
        "insert into sync.ingest_state (connection_id, sweep_at) "
        f"values ($1, {NOW} + interval '10 minutes')",
        await connection_of(database, calendar_id),
    )

    await database.fetchval(
        f"select sync.request_read($1, $2, {NOW})", calendar_id, lane
    )

    due = f"select sweep_at <= {NOW} from sync.ingest_state"
    assert await database.fetchval(due) == is_swept


async def test_a_calendar_that_is_gone_asks_for_nothing(database: Connection) -> None:
    moved = await database.fetchval(
        f"select sync.request_read($1, 1::smallint, {NOW})", uuid4()
    )

    assert moved is None
    assert await asked(database) == set()


async def test_bookings_asked_to_be_read_whole_are_ingested(
    database: Connection,
) -> None:
    calendar_id = await make_bookings(database)
    await database.execute(
        "update public.calendars set sync_enabled = true where id = $1", calendar_id
    )
    assert await asked(database) == {("watch", calendar_id, 0)}

    await database.execute(
        f"update public.calendars set full_round_asked_at = {NOW} where id = $1",
        calendar_id,
    )

    connection_id = await connection_of(database, calendar_id)
    assert await asked(database) == {
        ("watch", calendar_id, 0),
        ("ingest", connection_id, 0),
    }


@pytest.mark.parametrize(("status", "reads"), [("failed", True), ("stopped", False)])
async def test_bookings_whose_channel_failed_are_read(
    database: Connection, status: str, reads: bool
) -> None:
    calendar_id = await make_bookings(database)
    await database.execute(
        "update public.calendars set sync_enabled = true where id = $1", calendar_id
    )
    (task,) = await claim(database)
    held = (task["task_id"], task["lease"])
    channel_id = await database.fetchval(
        "select sync.open_channel($1, $2, $3, 'k1', 'https://hooks.test')",
        *held,
        calendar_id,
    )

    await database.execute(
        "select sync.close_channel($1, $2, $3, $4, 'no', false)",
        *held,
        channel_id,
        status,
    )

    connection_id = await connection_of(database, calendar_id)
    assert (("ingest", connection_id, 0) in await asked(database)) == reads


async def test_only_what_was_never_used_is_opened_again(database: Connection) -> None:
    calendar_id = await make_bookings(database)
    await database.execute(
        "update public.calendars set sync_enabled = true where id = $1", calendar_id
    )
    (task,) = await claim(database)
    held = (task["task_id"], task["lease"])

    async def attempt(*, unused: bool) -> UUID:
        channel_id: UUID = await database.fetchval(
            "select sync.open_channel($1, $2, $3, 'k1', 'https://hooks.test')",
            *held,
            calendar_id,
        )
        await database.execute(
            "select sync.close_channel($1, $2, $3, 'failed', 'no', $4)",
            *held,
            channel_id,
            unused,
        )
        return channel_id

    first = await attempt(unused=True)
    assert await attempt(unused=False) == first
    second = await attempt(unused=True)
    assert second != first
    assert await attempt(unused=True) == second


async def test_who_lends_a_channel_and_ends_it_meanwhile_has_the_borrower_told(
    database: Connection, connect: Connect
) -> None:
    email = f"{uuid4().hex}@example.org"
    calendars, held, channels = [], [], []
    for _ in range(2):
        connection_id = await make_connection(
            database,
            await make_organization(database),
            provider="microsoft",
            account_email=email,
        )
        calendar_id = await make_calendar(
            database, connection_id, provider_calendar_id="shared", sync_enabled=True
        )
        (task,) = await claim(database, kinds=("watch",))
        held.append((task["task_id"], task["lease"]))
        calendars.append(calendar_id)
        channels.append(
            await database.fetchval(
                "select sync.open_channel($1, $2, $3, 'k1', 'https://hooks.test')",
                *held[-1],
                calendar_id,
            )
        )
    borrower, lender = await connect(), await connect()

    async with borrower.transaction():
        verdict = await borrower.fetchval(
            "select verdict from sync.adopt_channel($1, $2, $3, $4, 'sub', null)",
            *held[1],
            channels[1],
            channels[0],
        )
        ending = asyncio.ensure_future(
            lender.execute(
                "select sync.close_channel($1, $2, $3, 'stopped', null, false)",
                *held[0],
                channels[0],
            )
        )
        await eventually(lambda: is_waiting(database))
    await ending

    assert verdict == "borrowed"
    again = "select again_lane from sync.tasks where id = $1"
    assert await database.fetchval(again, held[1][0]) == 1


async def is_waiting(database: Connection) -> bool:
    """Whether somebody waits for a lock in this database."""
    waiting: bool = await database.fetchval(
        "select exists (select 1 from pg_stat_activity "
        "where datname = current_database() and wait_event_type = 'Lock')"
    )
    return waiting


async def test_workers_cannot_make_a_channel_live_without_a_lease(
    database: Connection,
) -> None:
    rights = await database.fetch(
        """
        select function.oid::regprocedure::text as name
        from pg_proc as function
        where function.pronamespace = 'sync'::regnamespace
          and function.proname in ('make_live', 'renew_at', 'lose_channel')
          and has_function_privilege('sync_worker', function.oid, 'execute')
        """
    )
    assert rights == []
