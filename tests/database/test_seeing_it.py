"""What an organization's admins see of how well it goes."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.support.sessions import Connection
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]

VIEWS = ("webhook_success", "sync_lag", "processing_times")


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    made = await make_tenant(database)
    await database.execute("delete from sync.webhook_deliveries")
    await database.execute("delete from sync.runs")
    return made


@pytest.fixture
async def api(connect: Connect) -> Connection:
    return await connect(login="authenticator")


@pytest.fixture
def hour() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=30)


async def receive(database: Connection, tenant: Tenant, kind: str, at: datetime) -> int:
    delivery: int = await database.fetchval(
        "insert into sync.webhook_deliveries (received_at, provider, kind,"
        " organization_id, connection_id, channel_id)"
        " values ($1, 'google', $2, $3, $4, $5) returning id",
        at,
        kind,
        tenant.id,
        tenant.connection,
        tenant.channel,
    )
    return delivery


async def book(
    database: Connection, tenant: Tenant, state: str, at: datetime, took_ms: int = 0
) -> None:
    delivery = await receive(database, tenant, "booking", at)
    await database.execute(
        "insert into sync.delivery_states"
        " (delivery_id, received_at, connection_id, state, updated_at)"
        " values ($1, $2, $3, $4, $5)",
        delivery,
        at,
        tenant.connection,
        state,
        at + timedelta(milliseconds=took_ms),
    )


async def run(
    database: Connection,
    tenant: Tenant,
    at: datetime,
    *,
    took_ms: int,
    outcome: str = "done",
) -> None:
    await database.execute(
        "insert into sync.runs (started_at, finished_at, task_id, kind, subject_id,"
        " connection_id, lane, attempt, due_at, outcome)"
        " values ($1, $2, 1, 'pull', $3, $4, 1, 1, $5, $6)",
        at,
        at + timedelta(milliseconds=took_ms),
        tenant.calendar,
        tenant.connection,
        at - timedelta(milliseconds=5),
        outcome,
    )


async def see(api: Connection, tenant: Tenant, view: str) -> list[asyncpg.Record]:
    async with acting(api, tenant.admin):
        return await api.fetch(f"select * from public.{view}")


async def test_bookings_are_counted_by_what_became_of_them(
    database: Connection, tenant: Tenant, api: Connection, hour: datetime
) -> None:
    for state in ("done", "done", "done", "ignored", "failed", "dead", "received"):
        await book(database, tenant, state, hour)

    (row,) = await see(api, tenant, "webhook_success")

    assert row["hour"] == hour.replace(minute=0, second=0, microsecond=0)
    assert (row["deliveries"], row["done"], row["ignored"]) == (7, 3, 1)
    assert (row["failed"], row["waiting"]) == (2, 1)
    assert float(row["success_percent"]) == 66.7


async def test_a_change_is_answered_by_the_first_good_run_that_began_after_it(
    database: Connection, tenant: Tenant, api: Connection, hour: datetime
) -> None:
    await run(database, tenant, hour - timedelta(seconds=1), took_ms=5_000)
    await receive(database, tenant, "change", hour)

    (before,) = await see(api, tenant, "webhook_success")
    await run(
        database, tenant, hour + timedelta(seconds=1), took_ms=10, outcome="failed"
    )
    (failed,) = await see(api, tenant, "webhook_success")
    await run(database, tenant, hour + timedelta(seconds=2), took_ms=30)
    await run(database, tenant, hour + timedelta(seconds=9), took_ms=30)
    (after,) = await see(api, tenant, "webhook_success")
    (lag,) = await see(api, tenant, "sync_lag")

    assert (before["waiting"], before["success_percent"]) == (1, None)
    assert (failed["failed"], failed["waiting"]) == (1, 0)
    assert (after["done"], after["failed"]) == (1, 0)
    assert lag["p50_ms"] == lag["p95_ms"] == pytest.approx(2_030)


async def test_a_change_that_a_pull_found_nothing_of_is_answered_all_the_same(
    database: Connection, tenant: Tenant, api: Connection, hour: datetime
) -> None:
    await receive(database, tenant, "change", hour)
    await database.execute(
        "insert into sync.calendar_state (calendar_id, last_pulled_at) values ($1, $2)"
        " on conflict (calendar_id) do update set last_pulled_at = $2",
        tenant.calendar,
        hour + timedelta(milliseconds=40),
    )

    (row,) = await see(api, tenant, "sync_lag")

    assert row["p50_ms"] == pytest.approx(40)


async def test_percentiles_are_those_of_the_hour(
    database: Connection, tenant: Tenant, api: Connection, hour: datetime
) -> None:
    for took_ms in range(1, 101):
        await run(database, tenant, hour, took_ms=took_ms)
        await book(database, tenant, "done", hour, took_ms)
    await run(database, tenant, hour - timedelta(hours=2), took_ms=9_999)

    times = {row["runs"]: row for row in await see(api, tenant, "processing_times")}
    (lag,) = await see(api, tenant, "sync_lag")

    assert times[100]["p50_ms"] == lag["p50_ms"] == pytest.approx(50.5)
    assert times[100]["p95_ms"] == lag["p95_ms"] == pytest.approx(95.05)
    assert times[100]["waited_p95_ms"] == pytest.approx(5)
    assert times[1]["p50_ms"] == pytest.approx(9_999)


@pytest.mark.parametrize("view", VIEWS)
async def test_it_is_for_the_admins_of_the_organization(
    database: Connection, tenant: Tenant, api: Connection, hour: datetime, view: str
) -> None:
    other = await make_tenant(database)
    await book(database, tenant, "done", hour)
    await run(database, tenant, hour, took_ms=10)

    seen = await see(api, tenant, view)
    async with acting(api, tenant.member):
        member = await api.fetch(f"select * from public.{view}")
    foreign = await see(api, other, view)

    assert {row["organization_id"] for row in seen} == {tenant.id}
    assert member == []
    assert tenant.id not in {row["organization_id"] for row in foreign}
