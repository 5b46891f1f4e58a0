"""The reach of the product's own roles, read from the catalogue."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

EXECUTABLE = """
select routine.oid::regprocedure::text
from pg_catalog.pg_proc as routine
where routine.pronamespace in ('sync'::regnamespace, 'public'::regnamespace)
  and has_function_privilege($1, routine.oid, 'execute')
"""

PRIVILEGES = """
select class.relname::text as name, command.name as command
from pg_catalog.pg_class as class
cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate'])
  as command (name)
where class.relnamespace in ('sync'::regnamespace, 'public'::regnamespace)
  and class.relkind in ('r', 'p', 'v')
  and (
    has_table_privilege($1, class.oid, command.name)
    or case when command.name in ('select', 'insert', 'update')
      then has_any_column_privilege($1, class.oid, command.name) end
  )
"""


async def executable(database: Connection, role: str) -> set[str]:
    return {row[0] for row in await database.fetch(EXECUTABLE, role)}


async def test_the_receiver_can_execute_two_functions_and_nothing_else(
    database: Connection,
) -> None:
    told, stores = sorted(await executable(database, "webhook_ingest"))

    assert told == "sync.adopted_tokens()"
    assert stores.startswith("sync.receive(")
    assert await database.fetch(PRIVILEGES, "webhook_ingest") == []


async def test_the_part_that_connects_accounts_can_do_nothing_yet(
    database: Connection,
) -> None:
    assert await executable(database, "webhook_connect") == set()
    assert await database.fetch(PRIVILEGES, "webhook_connect") == []


async def test_the_worker_reaches_tables_through_functions_only(
    database: Connection,
) -> None:
    assert await database.fetch(PRIVILEGES, "sync_worker") == []
    assert await executable(database, "sync_worker")


async def test_the_engine_deletes_bookkeeping_only(database: Connection) -> None:
    held = await database.fetch(PRIVILEGES, "sync_engine")

    deletable = {row["name"] for row in held if row["command"] == "delete"}
    public = {
        row[0]
        for row in await database.fetch(
            "select tablename from pg_catalog.pg_tables where schemaname = 'public'"
        )
    }
    assert deletable & public <= {"private_event_details"}
    assert not [row for row in held if row["command"] == "truncate"]


@pytest.mark.parametrize("role", ["sync_worker", "webhook_ingest", "sync_engine"])
async def test_no_role_of_ours_reads_credentials_from_the_table(
    database: Connection, role: str
) -> None:
    readable = await database.fetchval(
        "select has_table_privilege($1, 'sync.credentials', 'select')", role
    )

    assert not readable


async def test_our_roles_cannot_log_in_and_only_the_engine_passes_row_security(
    database: Connection,
) -> None:
    roles = await database.fetch(
        """
        select rolname::text as name, rolcanlogin, rolbypassrls, rolinherit, rolsuper
        from pg_catalog.pg_roles
        where rolname in
          ('webhook_ingest', 'webhook_connect', 'sync_worker', 'sync_engine')
        """
    )

    assert len(roles) == 4
    assert not any(row["rolcanlogin"] or row["rolsuper"] for row in roles)
    assert [row["name"] for row in roles if row["rolbypassrls"]] == ["sync_engine"]


@pytest.mark.parametrize("role", ["sync_engine", "sync_worker", "webhook_ingest"])
async def test_a_request_cannot_become_one_of_our_roles(
    connect: Connect, role: str
) -> None:
    api = await connect(login="authenticator")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await api.execute(f"set role {role}")
