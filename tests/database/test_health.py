"""How sync is doing, as members see it."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.support.sessions import Connection
from tests.support.tasks import claim, fail, request
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    made = await make_tenant(database)
    await database.execute("delete from sync.tasks")
    await database.execute("delete from sync.runs")
    return made


@pytest.fixture
async def api(connect: Connect) -> Connection:
    return await connect(login="authenticator")


async def health(api: Connection, tenant: Tenant) -> dict[str, Any]:
    async with acting(api, tenant.member):
        (row,) = await api.fetch("select * from public.sync_health()")
    return dict(row) | {"failing": json.loads(row["failing"])}


async def gaps(api: Connection, tenant: Tenant) -> list[str]:
    async with acting(api, tenant.member):
        rows = await api.fetch("select gap from public.sync_coverage_gaps")
    return [row["gap"] for row in rows]


async def set_channel(
    database: Connection, status: str, *, lives_for: timedelta | None = None
) -> None:
    await database.execute(
        "update public.calendar_watch_channels"
        " set status = $1, expires_at = now() + $2::interval",
        status,
        lives_for,
    )


async def test_a_member_sees_each_calendar_of_their_organizations_and_no_others(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    other = await make_tenant(database)

    assert (await health(api, tenant))["calendar_id"] == tenant.calendar
    assert (await health(api, other))["calendar_id"] == other.calendar
    async with acting(api, tenant.stranger):
        assert await api.fetch("select * from public.sync_health()") == []
    async with acting(api, tenant.member):
        asked = "select * from public.sync_health($1)"
        assert len(await api.fetch(asked, tenant.id)) == 1
        assert await api.fetch(asked, other.id) == []
    async with acting(api, None, role="service_role"):
        assert len(await api.fetch("select * from public.sync_health()")) == 2


async def test_anon_sees_no_health(api: Connection) -> None:
    async with acting(api, None, role="anon"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.fetch("select * from public.sync_health()")


async def test_what_waits_is_counted_with_the_time_since_it_is_due(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    assert (await health(api, tenant))["tasks_due"] == 0
    await request(database, tenant.calendar, connection_id=tenant.connection)
    await request(database, kind="push", connection_id=tenant.connection, lane=0)
    await request(database, connection_id=tenant.connection)  # another calendar's

    row = await health(api, tenant)

    assert row["tasks_due"] == 2
    assert row["oldest_due_at"] is not None
    assert row["next_pull_at"] is not None


async def test_what_fails_is_told_with_its_error_and_next_try(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    await request(database, tenant.calendar, connection_id=tenant.connection)
    (task,) = await claim(database)
    due = await fail(database, task, error="google events.list: 500 backendError")

    (failing,) = (await health(api, tenant))["failing"]

    assert failing["kind"] == "pull"
    assert failing["tasks"] == failing["attempts"] == 1
    assert failing["error"] == "google events.list: 500 backendError"
    assert failing["next_at"][:19] == due.isoformat()[:19]


async def test_lag_is_how_long_the_last_good_pull_took_from_when_it_was_due(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    await database.execute(
        """
        insert into sync.runs
          (started_at, finished_at, task_id, kind, subject_id, lane, attempt, due_at,
           outcome)
        select
          now() - ago, now() - ago + interval '300 ms', 1, 'pull', $1, 1, 1,
          now() - ago - interval '120 ms', outcome
        from (values
          (interval '2 min', 'done'), (interval '1 min', 'failed'),
          (interval '3 min', 'done')
        ) as run (ago, outcome)
        """,
        tenant.calendar,
    )

    assert (await health(api, tenant))["lag_ms"] == 420


async def test_alerts_and_what_was_set_aside_or_held_are_counted(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    await database.execute(
        """
        insert into sync.set_aside_events (calendar_id, provider_event_id, reason, raw)
        values ($1, 'broken', 'it ends before it starts', '{}')
        """,
        tenant.calendar,
    )
    await database.execute(
        "insert into sync.held_cancellations (event_id, calendar_id) values ($1, $2)",
        tenant.event,
        tenant.calendar,
    )

    row = await health(api, tenant)

    assert (row["set_aside_events"], row["held_cancellations"]) == (1, 1)
    assert row["open_alerts"] == 1


@pytest.mark.parametrize(
    ("status", "lives_for", "told"),
    [
        ("active", timedelta(days=1), "active"),
        ("active", timedelta(days=-1), "expired"),
        ("failed", None, "failed"),
    ],
)
async def test_the_channels_state_is_told_as_it_is_now(
    database: Connection,
    tenant: Tenant,
    api: Connection,
    status: str,
    lives_for: timedelta | None,
    told: str,
) -> None:
    await set_channel(database, status, lives_for=lives_for)

    assert (await health(api, tenant))["channel_status"] == told


@pytest.mark.parametrize("lives_for", [timedelta(days=1), None])
async def test_a_live_channel_leaves_no_gap(
    database: Connection, tenant: Tenant, api: Connection, lives_for: timedelta | None
) -> None:
    await set_channel(database, "active", lives_for=lives_for)

    assert await gaps(api, tenant) == []


async def test_a_channel_that_ran_out_or_failed_is_a_gap(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    assert await gaps(api, tenant) == ["the channel is failed"]
    await set_channel(database, "active", lives_for=timedelta(seconds=-1))
    assert await gaps(api, tenant) == ["the channel ran out"]
    await database.execute("delete from public.calendar_watch_channels")
    assert await gaps(api, tenant) == ["no channel was made yet"]


async def test_a_live_channel_counts_though_a_newer_one_failed(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    await set_channel(database, "active", lives_for=timedelta(days=1))
    await database.execute(
        """
        insert into public.calendar_watch_channels
          (calendar_id, organization_id, status, created_at)
        values ($1, $2, 'failed', now() + interval '1 min')
        """,
        tenant.calendar,
        tenant.id,
    )

    assert await gaps(api, tenant) == []


@pytest.mark.parametrize(
    "reason",
    [
        "update public.calendars set sync_enabled = false",
        "update public.calendars set kind = 'generated'",
        "update public.calendar_connections set status = 'needs_reauth'",
        "update public.calendar_watch_channels set status = 'unwatchable'",
        "update public.calendar_watch_channels set status = 'by_hand'",
    ],
)
async def test_a_stated_reason_leaves_no_gap(
    database: Connection, tenant: Tenant, api: Connection, reason: str
) -> None:
    await database.execute(reason)

    assert await gaps(api, tenant) == []


async def test_a_live_channel_without_any_poll_beside_it_is_a_gap(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    await set_channel(database, "active", lives_for=timedelta(days=1))
    await database.execute("update public.calendars set poll_every = '0'")

    assert await gaps(api, tenant) == [
        "it is never polled: what no push announces is not noticed"
    ]
    async with acting(api, tenant.member):
        row = await api.fetchrow("select * from public.sync_coverage_gaps")
    assert row is not None
    assert row["reason"] == "poll_every is zero"
    assert row["since"] <= datetime.now(UTC)
    # Where no channel lives it is polled, whatever poll_every says.
    await set_channel(database, "unwatchable")
    assert await gaps(api, tenant) == []


@pytest.mark.parametrize("status", ["by_hand", "unwatchable", "active"])
async def test_bookings_are_swept_even_where_polling_is_switched_off(
    database: Connection, tenant: Tenant, api: Connection, status: str
) -> None:
    await set_channel(database, status)
    await database.execute(
        "update public.calendars set poll_every = '0', kind = 'bookings'"
    )

    assert await gaps(api, tenant) == []
    assert (await health(api, tenant))["channel_status"] == status


async def test_bookings_are_as_fresh_as_the_ingest_of_their_connection(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    await database.execute("update public.calendars set kind = 'bookings'")
    await database.execute(
        """
        insert into sync.runs
          (started_at, finished_at, task_id, kind, subject_id, lane, attempt, due_at,
           outcome)
        values
          (now(), now() + interval '40 ms', 1, 'ingest', $1, 1, 1,
           now() - interval '20 ms', 'done')
        """,
        tenant.connection,
    )
    await request(
        database, tenant.connection, kind="ingest", connection_id=tenant.connection
    )
    row = await health(api, tenant)
    assert row["lag_ms"] == 60
    assert row["next_pull_at"] is not None
    assert row["tasks_due"] == 1
    assert row["last_pulled_at"] is None

    (task,) = await claim(database)
    await database.execute(
        "select sync.end_sweep($1, $2, $3, $4)",
        task["task_id"],
        task["lease"],
        tenant.connection,
        tenant.calendar,
    )

    assert (await health(api, tenant))["last_pulled_at"] is not None


async def test_members_see_gaps_of_their_own_organization_only(
    database: Connection, tenant: Tenant, api: Connection
) -> None:
    other = await make_tenant(database)

    async with acting(api, other.member):
        rows = await api.fetch("select calendar_id from public.sync_coverage_gaps")
    assert [row["calendar_id"] for row in rows] == [other.calendar]
