"""What becomes of stored deliveries of bookings: open, settled, replayed."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]
NOW = datetime.now(UTC)
REPLAY = "select public.replay_delivery($1)"


async def connected(database: Connection, provider: str = "calcom") -> UUID:
    connection = await make_connection(
        database, await make_organization(database), provider=provider
    )
    await make_calendar(database, connection, sync_enabled=True)
    await database.execute("delete from sync.tasks")
    return connection


async def deliver(
    database: Connection,
    connection: UUID,
    count: int = 1,
    *,
    received_at: datetime = NOW,
    state: str = "received",
) -> list[int]:
    rows = await database.fetch(
        """
        with stored as (
          insert into sync.webhook_deliveries
            (received_at, provider, kind, organization_id, connection_id, body)
          select $2, connection.provider, 'booking', connection.organization_id, $1,
            '{"payload": {}}'
          from public.calendar_connections as connection
          cross join generate_series(1, $3)
          where connection.id = $1
          returning id, received_at, connection_id
        )
        insert into sync.delivery_states
          (delivery_id, received_at, connection_id, state)
        select id, received_at, connection_id, $4 from stored
        returning delivery_id
        """,
        connection,
        received_at,
        count,
        state,
    )
    return sorted(row["delivery_id"] for row in rows)


async def opened(worker: Connection, connection: UUID, most: int = 500) -> list[int]:
    rows = await worker.fetch(
        "select * from sync.open_deliveries($1, $2)", connection, most
    )
    return [row["delivery_id"] for row in rows]


async def settle(worker: Connection, *fates: tuple[int, str]) -> None:
    await worker.execute(
        "select sync.settle_deliveries($1)",
        json.dumps([{"id": one, "state": state, "error": "x"} for one, state in fates]),
    )


@pytest.fixture
async def worker(connect: Connect) -> Connection:
    return await connect(role="sync_worker")


async def test_what_is_open_comes_oldest_first_and_not_more_than_asked_for(
    database: Connection, worker: Connection
) -> None:
    connection, other = await connected(database), await connected(database)
    ids = await deliver(database, connection, 5)
    await deliver(database, other)

    assert await opened(worker, connection, 3) == ids[:3]
    await settle(worker, (ids[0], "done"), (ids[1], "ignored"))
    assert await opened(worker, connection) == ids[2:]


async def test_what_failed_is_open_again_when_its_next_attempt_is_due(
    database: Connection, worker: Connection
) -> None:
    clock = DatabaseClock(database)
    await clock.set(NOW)
    connection = await connected(database)
    [delivery] = await deliver(database, connection)

    for minutes in (1, 6, 36, 216):
        await settle(worker, (delivery, "failed"))
        assert await opened(worker, connection) == []
        await clock.advance(minutes=minutes, seconds=-1)
        assert await opened(worker, connection) == []
        await clock.advance(seconds=1)
        assert await opened(worker, connection) == [delivery]

    await settle(worker, (delivery, "failed"))
    state = await database.fetchrow("select * from sync.delivery_states")
    assert state is not None
    assert (state["state"], state["attempts"], state["error"]) == ("dead", 5, "x")
    await clock.advance(days=1)
    assert await opened(worker, connection) == []


async def test_bookings_to_fetch_keep_the_earlier_time_and_ask_for_the_ingest(
    database: Connection,
) -> None:
    connection = await connected(database)
    ask = "select sync.request_fetch($1, 'u1', $2)"
    now = datetime.now(UTC)
    for minutes in (5, 2, 9):
        await database.execute(ask, connection, now + timedelta(minutes=minutes))

    [row] = await database.fetch("select * from sync.bookings_to_fetch")
    assert row["fetch_at"] == now + timedelta(minutes=2)
    [task] = await database.fetch("select * from sync.tasks")
    assert (task["kind"], task["subject_id"]) == ("ingest", connection)
    assert task["run_at"] == now + timedelta(minutes=2)


async def test_replaying_takes_what_it_is_told_and_no_more(
    database: Connection,
) -> None:
    ours, theirs = await connected(database), await connected(database, "calendly")
    old = NOW - timedelta(hours=12)
    [failed] = await deliver(database, ours, received_at=old, state="failed")
    [dead] = await deliver(database, ours, state="dead")
    [done] = await deliver(database, ours, state="done")
    [other] = await deliver(database, theirs, state="dead")

    async def replayed(arguments: str, *values: object) -> set[int]:
        transaction = database.transaction()
        await transaction.start()
        before = set(await asked_for())
        await database.fetchval(f"select sync.replay_deliveries({arguments})", *values)
        after = set(await asked_for())
        await transaction.rollback()
        return after - before

    async def asked_for() -> list[int]:
        rows = await database.fetch(
            "select delivery_id from sync.delivery_states where state = 'received'"
        )
        return [row["delivery_id"] for row in rows]

    assert await replayed("") == {failed, dead, other}
    assert await replayed("p_ids => $1", [dead, done]) == {dead}
    assert await replayed("p_from => $1", NOW) == {dead, other}
    assert await replayed("p_until => $1", NOW) == {failed}
    assert await replayed("p_provider => 'calendly'") == {other}
    assert await replayed("p_connection_id => $1", ours) == {failed, dead}
    assert await replayed("p_states => array['done']") == {done}

    assert await database.fetchval("select sync.replay_deliveries()") == 3
    tasks = await database.fetch("select * from sync.tasks where lane = 0")
    assert {task["subject_id"] for task in tasks} == {ours, theirs}


# Over the Data API.


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    return await make_tenant(database)


async def booking_of(database: Connection, tenant: Tenant) -> int:
    await database.execute(
        "update public.calendar_connections set provider = 'calcom' where id = $1",
        tenant.connection,
    )
    [delivery] = await deliver(database, tenant.connection, state="dead")
    await database.execute("delete from sync.tasks")
    return delivery


@pytest.mark.parametrize("who", ["owner", "admin"])
async def test_an_admin_replays_a_booking_of_their_organization(
    database: Connection, tenant: Tenant, who: str
) -> None:
    delivery = await booking_of(database, tenant)
    async with acting(database, tenant.people[who]):
        assert await database.fetchval(REPLAY, delivery)
        await database.execute("reset role")
        state = await database.fetchval("select state from sync.delivery_states")
        task = await database.fetchrow("select * from sync.tasks")
    assert state == "received"
    assert task is not None
    assert (task["kind"], task["subject_id"]) == ("ingest", tenant.connection)
    assert task["lane"] == 0


@pytest.mark.parametrize("who", ["member", "linker", "stranger", "nobody"])
async def test_nobody_else_replays_it_and_what_is_not_there_answers_alike(
    database: Connection, tenant: Tenant, who: str
) -> None:
    delivery = await booking_of(database, tenant)
    people = {**tenant.people, "stranger": tenant.stranger}
    for wanted in (delivery, delivery + 1000):
        if who == "nobody":
            async with acting(database, None, role="anon"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await database.fetchval(REPLAY, wanted)
            continue
        async with acting(database, people[who]):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await database.fetchval(REPLAY, wanted)
        assert refused.value.sqlstate == "CS020"
    state = "select state from sync.delivery_states"
    assert await database.fetchval(state) == "dead"


async def test_an_admin_of_another_organization_is_refused(
    database: Connection, tenant: Tenant
) -> None:
    delivery = await booking_of(database, tenant)
    other = await make_tenant(database)
    async with acting(database, other.owner):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await database.fetchval(REPLAY, delivery)
    assert refused.value.sqlstate == "CS020"


async def test_the_service_key_replays_everybodys(
    database: Connection, tenant: Tenant
) -> None:
    delivery = await booking_of(database, tenant)
    async with acting(database, None, role="service_role"):
        assert await database.fetchval(REPLAY, delivery)


async def test_a_change_is_replayed_by_reading_and_a_hello_not_at_all(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute("delete from sync.tasks")
    change = await database.fetchval("select id from sync.webhook_deliveries")
    async with acting(database, tenant.owner):
        assert await database.fetchval(REPLAY, change)
        await database.execute("reset role")
        [task] = await database.fetch("select * from sync.tasks")
    assert (task["kind"], task["subject_id"]) == ("pull", tenant.calendar)

    await database.execute("update sync.webhook_deliveries set kind = 'hello'")
    async with acting(database, tenant.owner):
        assert not await database.fetchval(REPLAY, change)
