"""Judge: supabase-py, unchanged, as users of two organizations and as nobody."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from postgrest.exceptions import APIError

from local_stack.demo_users import ADA
from local_stack.facts import Facts, User
from supabase import AsyncClient
from tests.stack.conftest import Clients
from tests.support.eventually import eventually
from tests.support.sessions import Connection

# What supabase-py says of itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(timeout|verify|proxy)' parameter is deprecated:DeprecationWarning"
)

Rows = list[dict[str, Any]]

PRIVATE = {"config": {"private": True}}
STARTS_AT = datetime(2027, 3, 1, 9, tzinfo=UTC)


def a_meeting(user: User, title: str) -> dict[str, Any]:
    return {
        "organization_id": str(user.organization),
        "title": title,
        "starts_at": STARTS_AT.isoformat(),
        "ends_at": (STARTS_AT + timedelta(hours=1)).isoformat(),
    }


async def listen_to_topic(client: AsyncClient, user: User) -> Rows:
    """What is broadcast to a user's organization, from now on."""
    heard: Rows = []
    channel = client.channel(f"org:{user.organization}", PRIVATE)
    for event in ("INSERT", "UPDATE", "DELETE", "BULK"):
        channel.on_broadcast(event, lambda message: heard.append(message["payload"]))
    await subscribed(channel.subscribe)
    return heard


async def listen_to_changes(client: AsyncClient, table: str) -> Rows:
    """The Postgres Changes of a table, from now on."""
    heard: Rows = []
    streaming = asyncio.Event()
    channel = client.channel(f"changes-{uuid4()}")
    channel.on_postgres_changes(
        "*",
        schema="public",
        table=table,
        callback=lambda change: heard.append(change["data"]),
    )
    channel.on_system(lambda _: streaming.set())
    await subscribed(channel.subscribe)
    await asyncio.wait_for(streaming.wait(), 10)
    return heard


async def subscribed(subscribe: Callable[..., Any]) -> None:
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_state(state: str, error: Exception | None) -> None:
        if answer.done():
            return
        if state == "SUBSCRIBED":
            answer.set_result(None)
        else:
            answer.set_exception(error or ConnectionRefusedError(state))

    await subscribe(on_state)
    await asyncio.wait_for(answer, 10)


def _id_of(row: dict[str, Any] | None) -> object:
    return (row or {}).get("id")


def of(heard: Rows, operation: str, key: str) -> Rows:
    """Messages of one operation on one row."""
    return [
        one
        for one in heard
        if one.get("operation", one.get("type")) == operation
        and key in {_id_of(one.get("record")), _id_of(one.get("old_record"))}
    ]


async def test_a_member_reads_and_writes_under_row_level_security(
    clients: Clients, ada: User
) -> None:
    client = await clients.of(ada)
    table = client.table("meetings")
    added = (await table.insert(a_meeting(ada, "Kick-off")).execute()).data[0]
    key = added["id"]
    changed = await table.update({"title": "Kick-off 2"}).eq("id", key).execute()
    assert changed.data[0]["title"] == "Kick-off 2"
    read = await table.select("id, title, starts_at").eq("id", key).execute()
    assert read.data == [
        {"id": key, "title": "Kick-off 2", "starts_at": "2027-03-01T09:00:00+00:00"}
    ]


async def test_a_function_is_called_through_rpc(clients: Clients, ada: User) -> None:
    client = await clients.of(ada)
    health = (await client.rpc("sync_health").execute()).data
    assert {row["account_email"] for row in health} <= {ADA.email}


async def test_another_organization_s_rows_are_neither_seen_nor_changed(
    clients: Clients, ada: User, ben: User
) -> None:
    hers, his = await clients.of(ada), await clients.of(ben)
    added = await hers.table("meetings").insert(a_meeting(ada, "Private")).execute()
    key = added.data[0]["id"]
    table = his.table("meetings")
    assert (await table.select("*").eq("id", key).execute()).data == []
    assert (await table.update({"title": "His"}).eq("id", key).execute()).data == []
    with pytest.raises(APIError) as refused:
        await table.insert(a_meeting(ada, "Smuggled in")).execute()
    assert refused.value.code == "42501"


async def test_who_is_not_signed_in_reads_and_writes_nothing(
    clients: Clients, ada: User
) -> None:
    nobody = await clients.of(None)
    for table in ("meetings", "clients", "calendars", "organizations"):
        with pytest.raises(APIError) as refused:
            await nobody.table(table).select("*").execute()
        assert refused.value.code == "42501"
    with pytest.raises(APIError):
        await nobody.table("meetings").insert(a_meeting(ada, "Nobody's")).execute()


async def test_serving_rest_gives_nobody_rights_that_no_migration_gave(
    clients: Clients, ada: User, database: Connection
) -> None:
    # @supabase/lite would, if it could: at the first request.
    await (await clients.of(ada)).table("meetings").select("id").limit(1).execute()
    allowed = await database.fetch(
        """
        select role, relation from
          unnest(array['anon', 'authenticated', 'service_role']) as role,
          unnest(array['sync.tasks', 'sync.credentials']) as relation
        where has_table_privilege(role, relation, 'select, insert, update, delete')
        union all
        select 'anon', 'meetings'
        where has_table_privilege('anon', 'meetings', 'select')
        union all
        select 'authenticated', 'meetings'
        where has_table_privilege('authenticated', 'meetings', 'update, delete')
        """
    )
    assert allowed == []


async def test_broadcasts_tell_members_of_each_insert_update_and_delete(
    clients: Clients, ada: User
) -> None:
    client, service = await clients.of(ada), await clients.of_service()
    heard = await listen_to_topic(client, ada)
    row = {"organization_id": str(ada.organization), "name": "Grace"}
    added = (await client.table("clients").insert(row).execute()).data[0]
    key = added["id"]
    await client.table("clients").update({"name": "Hopper"}).eq("id", key).execute()
    await service.table("clients").delete().eq("id", key).execute()
    removed = await eventually(lambda: of(heard, "DELETE", key), within_s=10)
    inserted, updated = of(heard, "INSERT", key), of(heard, "UPDATE", key)
    assert [one["record"]["name"] for one in (*inserted, *updated)] == [
        "Grace",
        "Hopper",
    ]
    assert updated[0]["old_record"]["name"] == "Grace"
    assert removed[0]["record"] is None
    assert {one["table"] for one in (*inserted, *updated, *removed)} == {"clients"}


async def test_postgres_changes_tell_members_of_each_insert_update_and_delete(
    clients: Clients, ada: User
) -> None:
    client, service = await clients.of(ada), await clients.of_service()
    heard = await listen_to_changes(client, "clients")
    row = {"organization_id": str(ada.organization), "name": "Grace"}
    added = (await client.table("clients").insert(row).execute()).data[0]
    key = added["id"]
    # Who may see a row is asked when its change is looked at: one at a time.
    await eventually(lambda: of(heard, "INSERT", key), within_s=10)
    await client.table("clients").update({"name": "Hopper"}).eq("id", key).execute()
    await eventually(lambda: of(heard, "UPDATE", key), within_s=10)
    await service.table("clients").delete().eq("id", key).execute()
    removed = await eventually(lambda: of(heard, "DELETE", key), within_s=10)
    assert of(heard, "INSERT", key)[0]["record"] == added
    assert of(heard, "UPDATE", key)[0]["record"]["name"] == "Hopper"
    assert removed[0]["old_record"] == {"id": key}


async def test_nothing_of_another_organization_is_ever_heard(
    clients: Clients, ada: User, ben: User
) -> None:
    hers, his, nobody = [await clients.of(user) for user in (ada, ben, None)]
    topic = await listen_to_topic(his, ben)
    changes = await listen_to_changes(his, "meetings")
    nobody_s = await listen_to_changes(nobody, "meetings")
    added = await hers.table("meetings").insert(a_meeting(ada, "Private")).execute()
    mark = await his.table("meetings").insert(a_meeting(ben, "The mark")).execute()
    # His own comes after hers, on the same ways.
    await eventually(lambda: of(topic, "INSERT", mark.data[0]["id"]), within_s=10)
    await eventually(lambda: of(changes, "INSERT", mark.data[0]["id"]), within_s=10)
    key = added.data[0]["id"]
    assert not of(topic, "INSERT", key)
    assert not of(changes, "INSERT", key)
    assert all(change.get("record") == {} for change in nobody_s)  # 401, and no row


async def test_another_organization_s_topic_refuses_to_be_joined(
    clients: Clients, ada: User, ben: User
) -> None:
    for stranger in (await clients.of(ben), await clients.of(None)):
        with pytest.raises(Exception, match=r"(?i)unauthorized"):
            await listen_to_topic(stranger, ada)


async def test_a_token_of_another_project_opens_nothing(
    clients: Clients, ada: User
) -> None:
    head, claims, signature = ada.jwt.split(".")
    forged = ".".join((head, claims, signature[::-1]))
    client = await clients.of(msgspec.structs.replace(ada, jwt=forged))
    with pytest.raises(APIError):
        await client.table("meetings").select("id").execute()


async def test_who_signs_up_gets_an_organization_and_hears_of_its_changes(
    facts: Facts, clients: Clients
) -> None:
    if not facts.supabase_url.startswith("http://127.0.0.1"):
        return  # nobody is signed up where people really are
    client = await clients.of(None)
    email, password = f"{uuid4().hex}@example.com", uuid4().hex
    await client.auth.sign_up({"email": email, "password": password})
    session = await client.auth.sign_in_with_password(
        {"email": email, "password": password}
    )
    assert session.session is not None
    mine = (await client.table("organizations").select("id").execute()).data
    assert len(mine) == 1
    user = User(session.session.user.id, email, "", mine[0]["id"])  # type: ignore[arg-type]
    heard = await listen_to_topic(client, user)
    added = await client.table("meetings").insert(a_meeting(user, "1st")).execute()
    key = added.data[0]["id"]
    await eventually(lambda: of(heard, "INSERT", key), within_s=10)
    await client.auth.sign_out()
