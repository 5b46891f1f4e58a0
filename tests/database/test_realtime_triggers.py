"""What is broadcast when rows change, and who may hear it."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.builders import make_organization
from tests.support.sessions import Connection
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]

# How one row of a tenant is changed, in each table that frontends watch.
CHANGES = {
    "meetings": "title = 'x'",
    "clients": "name = 'x'",
    "pipeline": "stage = 'x'",
    "calendar_connections": "status = 'paused'",
    "calendars": "name = 'x'",
    "calendar_watch_channels": "status = 'stopped'",
    "sync_conflicts": "winner = 'ours'",
    "sync_alerts": "message = 'x'",
}


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    made = await make_tenant(database)
    await forget(database)
    return made


async def forget(database: Connection) -> None:
    await database.execute("delete from realtime.messages")


@pytest.fixture
async def database(admin: Connection) -> Connection:
    """The superuser may clear realtime.messages, which the product cannot."""
    return admin


async def sent(
    database: Connection, *, table: str | None = None
) -> list[dict[str, Any]]:
    rows = await database.fetch(
        """
        select * from realtime.messages
        where payload ->> 'table' = coalesce($1, payload ->> 'table')
        """,
        table,
    )
    return [dict(row) | {"payload": json.loads(row["payload"])} for row in rows]


async def add_clients(database: Connection, organization: UUID, number: int) -> None:
    await database.execute(
        """
        insert into public.clients (organization_id, name)
        select $1, 'Client ' || place from generate_series(1, $2) as place
        """,
        organization,
        number,
    )


@pytest.mark.parametrize("table", CHANGES)
async def test_a_change_is_told_to_the_organization(
    database: Connection, tenant: Tenant, table: str
) -> None:
    row = await database.fetchval(f"select to_jsonb(t) from public.{table} as t")

    await database.execute(f"update public.{table} set {CHANGES[table]}")

    (message,) = [
        message
        for message in await sent(database)
        if message["payload"]["table"] == table
    ]
    audience = ":admins" if table == "sync_alerts" else ""
    assert message["topic"] == f"org:{tenant.id}{audience}"
    assert (message["extension"], message["private"]) == ("broadcast", True)
    assert message["event"] == "UPDATE"
    payload = message["payload"]
    assert payload.keys() == {
        *("id", "operation", "schema", "table", "record", "old_record")
    }
    assert payload["id"] == str(message["id"])
    assert (payload["operation"], payload["schema"]) == ("UPDATE", "public")
    assert payload["old_record"] == json.loads(row)
    assert payload["record"] != payload["old_record"]


async def test_a_new_row_has_a_record_and_a_deleted_one_an_old_record(
    database: Connection, tenant: Tenant
) -> None:
    await add_clients(database, tenant.id, 1)
    await database.execute("delete from public.clients where name = 'Client 1'")

    inserted, deleted = await sent(database, table="clients")
    assert (inserted["event"], deleted["event"]) == ("INSERT", "DELETE")
    assert inserted["payload"]["record"]["name"] == "Client 1"
    assert inserted["payload"]["old_record"] is None
    assert deleted["payload"]["record"] is None
    assert deleted["payload"]["old_record"] == inserted["payload"]["record"]


async def test_a_write_that_changes_nothing_tells_nobody(
    database: Connection, tenant: Tenant
) -> None:
    for table in CHANGES:
        await database.execute(
            f"update public.{table} set organization_id = organization_id"
        )
    await database.execute("update public.meetings set title = 'x' where false")

    assert await sent(database) == []


async def test_up_to_twenty_rows_are_told_one_by_one(
    database: Connection, tenant: Tenant
) -> None:
    await add_clients(database, tenant.id, 20)

    messages = await sent(database, table="clients")
    assert [message["event"] for message in messages] == ["INSERT"] * 20
    assert len({message["payload"]["record"]["id"] for message in messages}) == 20


@pytest.mark.parametrize("operation", ["INSERT", "UPDATE", "DELETE"])
async def test_more_are_told_by_their_ids(
    database: Connection, tenant: Tenant, operation: str
) -> None:
    await add_clients(database, tenant.id, 21)
    new = "where name like 'Client %'"
    ids = {
        str(row["id"])
        for row in await database.fetch(f"select id from public.clients {new}")
    }
    if operation != "INSERT":
        await forget(database)
    if operation == "UPDATE":
        await database.execute(f"update public.clients set phone = '1' {new}")
    if operation == "DELETE":
        await database.execute(f"delete from public.clients {new}")

    (message,) = await sent(database, table="clients")
    assert message["event"] == "BULK"
    payload = message["payload"]
    assert payload.keys() == {"id", "operation", "schema", "table", "ids"}
    assert (payload["operation"], payload["table"]) == (operation, "clients")
    assert set(payload["ids"]) == ids


async def test_each_organization_is_told_of_its_own_rows_only(
    database: Connection, tenant: Tenant
) -> None:
    other = await make_organization(database)

    await database.execute(
        """
        insert into public.clients (organization_id, name)
        select $1::uuid, 'few' from generate_series(1, 2)
        union all select $2::uuid, 'many' from generate_series(1, 30)
        """,
        tenant.id,
        other,
    )

    messages = await sent(database, table="clients")
    assert [(m["topic"], m["event"]) for m in messages] == [
        *[(f"org:{tenant.id}", "INSERT")] * 2,
        (f"org:{other}", "BULK"),
    ]


async def test_a_pipeline_told_by_ids_names_its_clients(
    database: Connection, tenant: Tenant
) -> None:
    await add_clients(database, tenant.id, 30)

    (message,) = await sent(database, table="pipeline")
    clients = {
        str(row["id"])
        for row in await database.fetch(
            "select id from public.clients where name like 'Client %'"
        )
    }
    assert clients <= set(message["payload"]["ids"])


async def test_a_row_too_large_for_a_message_is_told_by_its_id(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute(
        "update public.meetings set description = repeat('long ', 50000)"
    )

    (message,) = await sent(database)
    assert message["event"] == "BULK"
    assert message["payload"]["ids"] == [str(tenant.meeting)]


async def test_no_message_is_larger_than_the_smallest_plan_takes(
    database: Connection, tenant: Tenant
) -> None:
    await add_clients(database, tenant.id, 10_000)

    messages = await sent(database, table="clients")
    told = [place for message in messages for place in message["payload"]["ids"]]
    assert len(told) == len(set(told)) == 10_000
    largest = await database.fetchval(
        "select max(octet_length(payload::text)) from realtime.messages"
    )
    assert largest <= 200_000


async def test_an_alert_for_the_operator_is_told_to_no_organization(
    database: Connection, tenant: Tenant
) -> None:
    await database.execute(
        "select sync.raise_alert('disk', $1, null, 'a', 'b')", UUID(int=0)
    )

    assert await sent(database) == []


async def test_a_message_that_cannot_be_stored_does_not_undo_the_write(
    database: Connection, tenant: Tenant, connect: Connect
) -> None:
    # No partition for today, as on a platform whose Realtime service stands still.
    for (name,) in await database.fetch(
        "select inhrelid::regclass::text from pg_inherits"
        " where inhparent = 'realtime.messages'::regclass"
    ):
        await database.execute(f"drop table {name}")
    user = await connect()
    warnings: list[str] = []
    user.add_log_listener(lambda _, message: warnings.append(message.message))

    await user.execute("update public.clients set name = 'kept'")

    assert await database.fetchval("select name from public.clients") == "kept"
    assert warnings
    assert "changes of clients were not broadcast" in warnings[0]


async def test_a_users_write_is_broadcast_though_they_cannot_broadcast_themselves(
    database: Connection, tenant: Tenant, connect: Connect
) -> None:
    api = await connect(login="authenticator")

    async with acting(api, tenant.member):
        await api.execute("update public.meetings set title = 'Moved'")
        assert await api.fetchval("select count(*) from realtime.messages") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(
                """
                insert into realtime.messages
                  (topic, extension, event, payload, private)
                values ($1, 'broadcast', 'INSERT', '{}', true)
                """,
                f"org:{tenant.id}",
            )


@pytest.mark.parametrize("who", ["owner", "admin", "linker", "member", "stranger"])
async def test_members_hear_their_organization_and_admins_its_alerts(
    database: Connection, tenant: Tenant, connect: Connect, who: str
) -> None:
    # The probes that the server inserts when somebody joins a private channel, besides
    # an application's own topics, which must not make the policy fail.
    topics = [
        f"org:{tenant.id}",
        f"org:{tenant.id}:admins",
        f"org:{uuid4()}",
        "org:",
        "room:lobby",
        "org:not-a-uuid:admins",
    ]
    await database.executemany(
        "insert into realtime.messages (topic, extension, private)"
        " values ($1, 'broadcast', true)",
        [(topic,) for topic in topics],
    )
    api = await connect(login="authenticator")
    expected = {
        "owner": topics[:2],
        "admin": topics[:2],
        "linker": topics[:1],
        "member": topics[:1],
        "stranger": [],
    }[who]

    async with acting(api, getattr(tenant, who)):
        heard = await api.fetch("select topic from realtime.messages")
    async with acting(api, None, role="anon"):
        assert await api.fetch("select topic from realtime.messages") == []

    assert sorted(row["topic"] for row in heard) == sorted(expected)


async def test_an_applications_own_policies_go_on_working(
    database: Connection, tenant: Tenant, connect: Connect
) -> None:
    await database.execute(
        """
        create policy "Everybody hears the lobby" on realtime.messages
        for select to authenticated using (topic = 'room:lobby')
        """
    )
    await database.execute(
        "insert into realtime.messages (topic, extension, private)"
        " values ('room:lobby', 'broadcast', true)"
    )
    api = await connect(login="authenticator")

    async with acting(api, tenant.stranger):
        assert await api.fetchval("select count(*) from realtime.messages") == 1


async def test_postgres_changes_are_offered_of_the_same_tables(
    database: Connection,
) -> None:
    published = await database.fetch(
        """
        select published.tablename::text as name, class.relreplident::text as identity
        from pg_catalog.pg_publication_tables as published
        join pg_catalog.pg_class as class
          on class.relname = published.tablename
          and class.relnamespace = published.schemaname::regnamespace
        where published.pubname = 'supabase_realtime'
        """
    )

    assert {row["name"] for row in published} == set(CHANGES)
    assert {row["identity"] for row in published} == {"d"}


async def test_the_plan_made_for_one_row_does_for_thousands(
    database: Connection, tenant: Tenant
) -> None:
    await add_clients(database, tenant.id, 2500)
    await database.execute(
        "update public.clients set phone = '1' where id = $1", tenant.client
    )
    times = []
    for phone in "234":
        start = time.perf_counter()
        await database.execute("update public.clients set phone = $1", phone)
        times.append(time.perf_counter() - start)

    # About 50 ms; a nested loop over 2,500 by 2,500 rows takes some 3 s.
    assert min(times) < 1
