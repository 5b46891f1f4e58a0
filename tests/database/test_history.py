"""Who changed what of a meeting, when, and from which side."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.sessions import Connection
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]

# What is no news to people.
SILENT = {
    "event_id",
    "sync_state",
    "sync_error",
    "edits",
    "version",
    "created_at",
    "updated_at",
    "id",
    "organization_id",
}


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    return await make_tenant(database)


async def last(connection: Connection) -> dict[str, Any]:
    row = await connection.fetchrow(
        "select * from public.meeting_history order by id desc limit 1"
    )
    assert row is not None
    return dict(row) | {"changes": json.loads(row["changes"])}


async def count(connection: Connection) -> int:
    rows: int = await connection.fetchval("select count(*) from public.meeting_history")
    return rows


async def test_a_users_change_is_noted_with_their_name(
    tenant: Tenant, connect: Connect
) -> None:
    api = await connect(login="authenticator")

    async with acting(api, tenant.member):
        await api.execute(
            "update public.meetings set title = 'Moved', location = 'Inn'"
        )
        entry = await last(api)

    assert (entry["side"], entry["user_id"]) == ("app", tenant.member)
    assert entry["meeting_id"] == tenant.meeting
    assert entry["organization_id"] == tenant.id
    assert entry["changes"] == {
        "title": {"from": "Visit", "to": "Moved"},
        "location": {"to": "Inn"},
    }


async def test_a_change_that_was_read_from_a_calendar_is_the_providers(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute("set role sync_engine")
    await database.execute("update public.meetings set title = 'Moved'")
    await database.execute("reset role")

    entry = await last(database)
    assert (entry["side"], entry["user_id"]) == ("provider", None)


@pytest.mark.parametrize("change", ["status = 'completed'", "merged_into = id"])
async def test_what_no_provider_can_say_is_the_engines(
    database: Connection, tenant: Tenant, change: str
) -> None:
    await database.execute("set role sync_engine")
    await database.execute(f"update public.meetings set {change}")
    await database.execute("reset role")

    assert (await last(database))["side"] == "engine"


async def test_a_new_meetings_fields_are_noted(
    database: Connection, tenant: Tenant
) -> None:
    entry = await last(database)

    assert entry["side"] == "app"
    assert entry["changes"]["title"] == {"to": "Visit"}
    assert entry["changes"]["status"] == {"to": "scheduled"}
    assert "description" not in entry["changes"]


async def test_a_field_that_was_emptied_is_noted_without_to(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute("update public.meetings set client_id = null")

    assert (await last(database))["changes"] == {
        "client_id": {"from": str(tenant.client)}
    }


async def test_metadata_is_kept_as_it_was_nulls_included(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute("""update public.meetings set metadata = '{"room": null}'""")

    assert (await last(database))["changes"] == {
        "metadata": {"from": {}, "to": {"room": None}}
    }


async def test_what_means_nothing_to_people_is_not_noted(
    database: Connection, tenant: Tenant
) -> None:
    before = await count(database)
    await database.execute("set role sync_engine")
    await database.execute("update public.meetings set sync_state = 'synced'")
    await database.execute("update public.meetings set title = title")
    await database.execute("reset role")

    assert await count(database) == before


async def test_each_column_of_a_meeting_is_noted_or_known_to_be_silent(
    database: Connection,
) -> None:
    columns = await database.fetch(
        """
        select attname::text as name from pg_catalog.pg_attribute
        where attrelid = 'public.meetings'::regclass and attnum > 0 and not attisdropped
        """
    )
    source = await database.fetchval(
        "select prosrc from pg_catalog.pg_proc where proname = 'note_changed_meetings'"
    )

    for column in {row["name"] for row in columns} - SILENT:
        assert f"'{column}'" in source, column


async def test_a_page_of_changes_is_noted_in_time(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute(
        """
        insert into public.meetings (organization_id, title, starts_at, ends_at)
        select $1, 'Visit', now(), now() from generate_series(1, 2500)
        """,
        tenant.id,
    )
    # The plan that a session makes for one row must do for 2,500.
    await database.execute(
        "update public.meetings set title = 'x' where id = $1", tenant.meeting
    )
    times = []
    for title in "abc":
        start = time.perf_counter()
        await database.execute("update public.meetings set title = $1", title)
        times.append(time.perf_counter() - start)

    assert min(times) < 1
    assert await count(database) >= 4 * 2500
