"""What a hosted Supabase project's database offers, the local one offers too."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
from asyncpg import exceptions as refused
from pytest_postgresql.executors import NoopExecutor

from local_stack.demo_users import ADA, DEMO_USERS, add_demo_users
from local_stack.errors import StackError
from local_stack.postgres import Postgres
from local_stack.surface import lay_surface
from tests.support.cluster import copy_of
from tests.support.sessions import Connection, Sessions


@pytest.fixture
async def postgres(bare: Sessions) -> Connection:
    """A fresh project's database, as the role that people and migrations use."""
    return await bare.connect()


async def one(connection: Connection, query: str, *arguments: object) -> asyncpg.Record:
    row = await connection.fetchrow(query, *arguments)
    assert row is not None
    return row


async def claim(connection: Connection, **claims: object) -> None:
    await connection.execute(
        "select set_config('request.jwt.claims', $1, false)", json.dumps(claims)
    )


async def test_postgres_is_no_superuser(postgres: Connection) -> None:
    role = await one(
        postgres,
        """
        select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
        from pg_roles where rolname = current_user
        """,
    )
    assert tuple(role) == (False, True, True, True, True)


@pytest.mark.parametrize("schema", ["auth", "realtime", "vault", "local_stack"])
async def test_postgres_cannot_create_in_schemas_of_the_platform(
    postgres: Connection, schema: str
) -> None:
    with pytest.raises(refused.InsufficientPrivilegeError):
        await postgres.execute(f"create table {schema}.mine (id int)")


async def test_postgres_can_add_trusted_extensions_only(postgres: Connection) -> None:
    await postgres.execute("create extension citext with schema extensions")
    with pytest.raises(refused.InsufficientPrivilegeError):
        await postgres.execute("create extension file_fdw with schema extensions")


async def test_postgres_can_set_the_roles_of_the_api(postgres: Connection) -> None:
    for role in ("anon", "authenticated", "service_role"):
        await postgres.execute(f"set role {role}")
        assert await postgres.fetchval("select current_user") == role
        await postgres.execute("reset role")


async def test_uid_reads_the_claims_of_the_token(postgres: Connection) -> None:
    user_id = uuid4()
    await claim(postgres, sub=str(user_id), role="authenticated", email="ada@x.org")
    row = await one(postgres, "select auth.uid(), auth.role(), auth.email()")
    assert tuple(row) == (user_id, "authenticated", "ada@x.org")
    assert json.loads(await postgres.fetchval("select auth.jwt()"))["sub"] == str(
        user_id
    )


async def test_uid_reads_one_setting_a_claim_too(postgres: Connection) -> None:
    user_id = uuid4()
    await postgres.execute(
        "select set_config('request.jwt.claim.sub', $1, false)", str(user_id)
    )
    assert await postgres.fetchval("select auth.uid()") == user_id


async def test_without_a_token_nobody_is_asking(postgres: Connection) -> None:
    question = "select auth.uid(), auth.role(), auth.email(), auth.jwt()"
    assert tuple(await one(postgres, question)) == (None,) * 4
    await postgres.execute("select set_config('request.jwt.claims', '', false)")
    assert tuple(await one(postgres, question)) == (None,) * 4


async def test_a_new_table_is_closed_to_the_api_until_granted(bare: Sessions) -> None:
    postgres = await bare.connect()
    await postgres.execute("create table public.things (id int primary key)")
    for role in ("anon", "authenticated", "service_role"):
        api = await bare.connect(login="authenticator", role=role)
        with pytest.raises(refused.InsufficientPrivilegeError):
            await api.fetch("select * from public.things")
    await postgres.execute("grant select on public.things to authenticated")
    user = await bare.as_user(uuid4())
    assert await user.fetch("select * from public.things") == []


async def test_under_the_legacy_rule_a_new_table_is_open(
    cluster: Postgres,
) -> None:
    name = f"legacy_{uuid4().hex[:8]}"
    cluster.install_surface(name, grants="legacy")
    with psycopg.connect(cluster.url_of(name)) as connection:
        connection.execute("create table public.things (id int primary key)")
        connection.execute("set role anon")
        assert connection.execute("select * from public.things").fetchall() == []
        connection.rollback()
    with psycopg.connect(cluster.admin_url, autocommit=True) as admin:
        admin.execute(f"drop database {name}")


async def test_postgres_can_publish_its_tables(postgres: Connection) -> None:
    await postgres.execute("create table public.things (id int primary key)")
    add = "alter publication supabase_realtime add table public.things"
    await postgres.execute(add)
    with pytest.raises(refused.DuplicateObjectError):
        await postgres.execute(add)


async def test_postgres_can_write_policies_on_messages(bare: Sessions) -> None:
    postgres = await bare.connect()
    await postgres.execute(
        """
        create policy "members hear" on realtime.messages for select to authenticated
        using (realtime.topic() = 'org:' || (select auth.uid())::text)
        """
    )
    user_id = uuid4()
    topic = f"org:{user_id}"
    await postgres.execute("select realtime.send('{}', 'hello', $1)", topic)
    count = "select count(*) from realtime.messages"
    member, stranger = await bare.as_user(user_id), await bare.as_user(uuid4())
    for session, heard in ((member, 1), (stranger, 0)):
        await session.execute("select set_config('realtime.topic', $1, false)", topic)
        assert await session.fetchval(count) == heard


async def test_postgres_can_put_a_trigger_on_users(postgres: Connection) -> None:
    await postgres.execute(
        """
        create table public.profiles (
          id uuid primary key references auth.users (id) on delete cascade
        );
        create function public.welcome() returns trigger language plpgsql
        security definer set search_path = '' as $$
        begin
          insert into public.profiles values (new.id);
          return new;
        end;
        $$;
        create trigger welcome after insert on auth.users
        for each row execute function public.welcome();
        """
    )
    await postgres.execute("insert into auth.users (id) values ($1)", uuid4())
    assert await postgres.fetchval("select count(*) from public.profiles") == 1


async def test_a_message_is_private_and_carries_its_id(postgres: Connection) -> None:
    await postgres.execute("""select realtime.send('{"a": 1}', 'changed', 'org:1')""")
    row = await one(postgres, "select * from realtime.messages")
    assert (row["topic"], row["event"], row["extension"]) == (
        "org:1",
        "changed",
        "broadcast",
    )
    assert row["private"] is True
    assert json.loads(row["payload"]) == {"a": 1, "id": str(row["id"])}


async def test_a_payload_keeps_an_id_of_its_own(postgres: Connection) -> None:
    await postgres.execute("""select realtime.send('{"id": 7}', 'changed', 'org:1')""")
    payload = await postgres.fetchval("select payload from realtime.messages")
    assert json.loads(payload) == {"id": 7}


@pytest.mark.parametrize("payload", ["[1, 2]", "7", '"text"'])
async def test_a_message_that_cannot_be_sent_spares_the_callers_transaction(
    postgres: Connection, payload: str
) -> None:
    warnings: list[str] = []
    postgres.add_log_listener(lambda _, said: warnings.append(said.message))
    async with postgres.transaction():
        await postgres.execute("create table public.kept (id int)")
        await postgres.execute("select realtime.send($1, 'changed', 'org:1')", payload)
    assert await postgres.fetchval("select count(*) from realtime.messages") == 0
    assert await postgres.fetchval("select to_regclass('public.kept')") is not None
    assert warnings[0].startswith("WarnSendingBroadcastMessage: ")


async def test_bytes_are_sent_too(postgres: Connection) -> None:
    await postgres.execute(r"select realtime.send_binary('\xff00', 'changed', 'org:1')")
    row = await one(postgres, "select payload, binary_payload from realtime.messages")
    assert tuple(row) == (None, b"\xff\x00")


BROADCAST = """
create table public.things (id int primary key, name text);
create function public.tell() returns trigger language plpgsql as $$
begin
  perform realtime.broadcast_changes(
    'things', tg_op, tg_op, tg_table_name, tg_table_schema, new, old, '{level}'
  );
  return null;
end;
$$;
create trigger tell after insert or update or delete on public.things
for each row execute function public.tell();
"""


async def test_a_row_trigger_broadcasts_both_versions(postgres: Connection) -> None:
    await postgres.execute(BROADCAST.format(level="ROW"))
    await postgres.execute("insert into public.things values (1, 'one')")
    await postgres.execute("update public.things set name = 'two'")
    payload = json.loads(
        await postgres.fetchval(
            "select payload from realtime.messages where event = 'UPDATE'"
        )
    )
    assert payload.pop("id")
    assert payload == {
        "old_record": {"id": 1, "name": "one"},
        "record": {"id": 1, "name": "two"},
        "operation": "UPDATE",
        "table": "things",
        "schema": "public",
    }


async def test_broadcasting_by_statement_is_an_error(postgres: Connection) -> None:
    await postgres.execute(BROADCAST.format(level="STATEMENT"))
    with pytest.raises(refused.RaiseError, match="Failed to process the row"):
        await postgres.execute("insert into public.things values (1, 'one')")


def day(offset: int) -> str:
    return (datetime.now(UTC) + timedelta(days=offset)).strftime("messages_%Y_%m_%d")


async def partitions(connection: Connection) -> set[str]:
    rows = await connection.fetch(
        """
        select inhrelid::regclass::text as name from pg_inherits
        where inhparent = 'realtime.messages'::regclass
        """
    )
    return {row["name"].removeprefix("realtime.") for row in rows}


async def test_messages_have_days_ahead(postgres: Connection) -> None:
    assert {day(0), day(1)} <= await partitions(postgres)


async def test_keeping_partitions_makes_what_lacks_and_drops_what_is_old(
    bare: Sessions,
) -> None:
    admin, postgres = await bare.connect(login="supabase_admin"), await bare.connect()
    old = datetime.now(UTC).date() - timedelta(days=9)
    await admin.execute(f"drop table realtime.{day(1)}, realtime.{day(2)}")
    await admin.execute(
        f"""
        create table realtime.{day(-9)} partition of realtime.messages
        for values from ('{old}') to ('{old + timedelta(days=1)}');
        """
    )
    await postgres.execute("select local_stack.keep_message_partitions()")
    kept = await partitions(postgres)
    assert {day(1), day(2)} <= kept
    assert day(-9) not in kept


async def test_an_old_partition_that_is_read_is_dropped_later(bare: Sessions) -> None:
    admin, postgres = await bare.connect(login="supabase_admin"), await bare.connect()
    old = datetime.now(UTC).date() - timedelta(days=9)
    await admin.execute(
        f"""
        create table realtime.{day(-9)} partition of realtime.messages
        for values from ('{old}') to ('{old + timedelta(days=1)}');
        """
    )
    async with admin.transaction():
        await admin.fetch(f"select * from realtime.{day(-9)}")
        await postgres.execute("select local_stack.keep_message_partitions()")
    assert day(-9) in await partitions(postgres)
    await postgres.execute("select local_stack.keep_message_partitions()")
    assert day(-9) not in await partitions(postgres)


async def test_postgres_can_make_a_replication_slot(postgres: Connection) -> None:
    await postgres.execute(
        "select pg_create_logical_replication_slot('probe', 'pgoutput')"
    )
    await postgres.execute("select pg_drop_replication_slot('probe')")


async def test_ids_can_be_made_the_old_way(bare: Sessions) -> None:
    user = await bare.as_user(uuid4())
    made = await user.fetch(
        "select extensions.uuid_generate_v4() as id from generate_series(1, 2)"
    )
    assert len({row["id"] for row in made}) == 2
    assert isinstance(made[0]["id"], UUID)


async def test_the_vault_works_and_says_that_it_does_not_encrypt(
    bare: Sessions,
) -> None:
    postgres = await bare.connect()
    warnings: list[str] = []
    postgres.add_log_listener(lambda _, said: warnings.append(said.message))
    secret = await postgres.fetchval("select vault.create_secret('s3cret', 'key')")
    await postgres.execute("select vault.update_secret($1, 'better')", secret)
    stored = await one(postgres, "select * from vault.decrypted_secrets")
    assert (stored["name"], stored["decrypted_secret"]) == ("key", "better")
    assert all("does not encrypt" in warning for warning in warnings)
    assert len(warnings) == 2
    user = await bare.as_user(uuid4())
    with pytest.raises(refused.InsufficientPrivilegeError):
        await user.fetch("select * from vault.decrypted_secrets")


async def test_users_of_the_api_cannot_read_users(bare: Sessions) -> None:
    user = await bare.as_user(uuid4())
    with pytest.raises(refused.InsufficientPrivilegeError):
        await user.fetch("select * from auth.users")


async def test_a_request_of_the_api_may_not_take_long(bare: Sessions) -> None:
    limits: dict[str, list[str]] = {}
    postgres = await bare.connect()
    for row in await postgres.fetch(
        "select rolname, unnest(rolconfig) as setting from pg_roles"
    ):
        limits.setdefault(row["rolname"], []).append(row["setting"])
    assert limits["anon"] == ["statement_timeout=3s"]
    assert limits["authenticated"] == ["statement_timeout=8s"]


async def test_demo_users_are_added_once(bare: Sessions) -> None:
    for _ in range(2):
        add_demo_users(bare.url)
    postgres = await bare.connect()
    assert await postgres.fetchval("select count(*) from auth.users") == len(DEMO_USERS)
    confirmed, checks = await one(
        postgres,
        """
        select confirmed_at is not null,
          encrypted_password = extensions.crypt('password', encrypted_password)
        from auth.users where id = $1
        """,
        ADA.id,
    )
    assert confirmed
    assert checks


async def test_laying_the_surface_again_changes_nothing(bare: Sessions) -> None:
    postgres = await bare.connect()
    await postgres.execute("create table public.things (id int primary key)")
    bare.cluster.install_surface(bare.database)
    assert await postgres.fetch("select * from public.things") == []


async def test_a_surface_of_another_version_asks_for_a_fresh_start(
    cluster: Postgres, surface: NoopExecutor
) -> None:
    with copy_of(surface.template_dbname, cluster) as name:
        admin = await asyncpg.connect(cluster.url_of(name, role="supabase_admin"))
        await admin.execute("comment on schema local_stack is 'version 0'")
        await admin.close()
        with pytest.raises(StackError, match="start afresh with --reset"):
            lay_surface(cluster.admin_url, name, password=None)
