"""Every table and view of public, every command, everybody who may ask."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import pytest

from local_stack.migrate import migrate
from tests.support.cluster import MIGRATIONS
from tests.support.sessions import Connection, Sessions
from tests.support.tenants import Tenant, acting, make_tenant

NOBODY: frozenset[str] = frozenset()
ADMINS = frozenset({"owner", "admin"})
MANAGERS = ADMINS | {"linker"}
MEMBERS = MANAGERS | {"member"}


@dataclass(frozen=True)
class Decision:
    """Who of an organization's people may do what with its rows of a table."""

    select: frozenset[str]
    insert: frozenset[str] = NOBODY
    update: frozenset[str] = NOBODY
    delete: frozenset[str] = NOBODY
    rows: int = 1
    """How many rows a tenant has."""
    insertable: frozenset[str] = NOBODY
    updatable: frozenset[str] = NOBODY
    """The columns that users may write."""


def columns(names: str) -> frozenset[str]:
    return frozenset(names.split())


MEETING = columns(
    "client_id title description location starts_at ends_at all_day start_date end_date"
    " time_zone status meeting_url attendee_name attendee_email attendee_phone metadata"
)

# A table or view that is not named here fails the tests: somebody must decide about it.
DECISIONS = {
    "organizations": Decision(
        MEMBERS, update=ADMINS, updatable=columns("name time_zone")
    ),
    "organization_members": Decision(
        MEMBERS,
        insert=ADMINS,
        update=ADMINS,
        delete=ADMINS | {"member"},  # the member leaves
        rows=4,
        insertable=columns("organization_id user_id role"),
        updatable=columns("role"),
    ),
    "calendar_connections": Decision(
        MEMBERS, update=MANAGERS, updatable=columns("status")
    ),
    "calendars": Decision(
        MEMBERS,
        update=MANAGERS,
        updatable=columns(
            "sync_enabled direction event_tag mail_events conflict_policy poll_every"
            " renew_before channel_lifetime window_past window_future"
        ),
    ),
    "calendar_watch_channels": Decision(MEMBERS),
    "calendar_events": Decision(MEMBERS),
    "private_event_details": Decision(frozenset({"linker"})),
    "clients": Decision(
        MEMBERS,
        insert=MEMBERS,
        update=MEMBERS,
        insertable=columns("id organization_id email name phone external_refs"),
        updatable=columns("email name phone external_refs"),
    ),
    "meetings": Decision(
        MEMBERS,
        insert=MEMBERS,
        update=MEMBERS,
        insertable=MEETING | {"id", "organization_id", "calendar_id"},
        updatable=MEETING,
    ),
    "meeting_history": Decision(MEMBERS),
    "pipeline": Decision(MEMBERS, update=MEMBERS, updatable=columns("stage")),
    "pipeline_rules": Decision(
        MEMBERS,
        insert=ADMINS,
        update=ADMINS,
        delete=ADMINS,
        insertable=columns("organization_id happening from_stage to_stage"),
        updatable=columns("happening from_stage to_stage"),
    ),
    "reference_mappings": Decision(
        ADMINS,
        insert=ADMINS,
        update=ADMINS,
        delete=ADMINS,
        insertable=columns("connection_id organization_id metadata_key reference"),
        updatable=columns("metadata_key reference"),
    ),
    "sync_conflicts": Decision(MEMBERS),
    "sync_alerts": Decision(ADMINS),
    "webhook_logs": Decision(ADMINS),
    "webhook_success": Decision(ADMINS),
    "sync_lag": Decision(ADMINS),
    "processing_times": Decision(ADMINS),
    "sync_coverage_gaps": Decision(MEMBERS),
}

# Cannot be written by anybody.
VIEWS = {
    "webhook_logs",
    "webhook_success",
    "sync_lag",
    "processing_times",
    "sync_coverage_gaps",
}

# What the application's own backend may do besides reading, which is everything.
SERVICE = {
    "organizations": "insert update delete",
    "organization_members": "insert update delete",
    "calendar_connections": "insert update",
    "calendars": "insert update",
    "clients": "insert update delete",
    "meetings": "insert update",
    "pipeline": "update",
    "pipeline_rules": "insert update delete",
    "reference_mappings": "insert update delete",
}

# How a row is written where that is offered to anybody.
WRITES = {
    "insert": {
        "organization_members": """
            insert into public.organization_members (organization_id, user_id)
            values ('{id}', '{stranger}')""",
        "clients": """
            insert into public.clients (organization_id, name)
            values ('{id}', 'New')""",
        "meetings": """
            insert into public.meetings
              (organization_id, calendar_id, title, starts_at, ends_at)
            values ('{id}', '{calendar}', 'New', now(), now())""",
        "pipeline_rules": """
            insert into public.pipeline_rules (organization_id, happening, to_stage)
            values ('{id}', 'no_show', 'lost')""",
        "reference_mappings": """
            insert into public.reference_mappings
              (connection_id, organization_id, metadata_key, reference)
            values ('{connection}', '{id}', 'policy', 'crm')""",
    },
    "update": {
        "organizations": "update public.organizations set name = 'x' where id = '{id}'",
        "organization_members": """
            update public.organization_members set role = 'admin'
            where user_id = '{member}'""",
        "calendar_connections": """
            update public.calendar_connections set status = 'paused'
            where id = '{connection}'""",
        "calendars": """
            update public.calendars set event_tag = 'x' where id = '{calendar}'""",
        "clients": "update public.clients set name = 'x' where id = '{client}'",
        "meetings": "update public.meetings set title = 'x' where id = '{meeting}'",
        "pipeline": """
            update public.pipeline set stage = 'x' where client_id = '{client}'""",
        "pipeline_rules": """
            update public.pipeline_rules set to_stage = 'x'
            where organization_id = '{id}'""",
        "reference_mappings": """
            update public.reference_mappings set reference = 'x'
            where organization_id = '{id}'""",
    },
    "delete": {
        "organization_members": """
            delete from public.organization_members where user_id = '{member}'""",
        "pipeline_rules": """
            delete from public.pipeline_rules where organization_id = '{id}'""",
        "reference_mappings": """
            delete from public.reference_mappings where organization_id = '{id}'""",
    },
}

READABLE = """
select class.relname::text from pg_catalog.pg_class as class
where class.relnamespace = 'public'::regnamespace
  and class.relkind in ('r', 'p', 'v', 'm')
"""

Connect = Callable[..., Awaitable[Connection]]


@pytest.fixture
async def tenants(database: Connection) -> tuple[Tenant, Tenant]:
    return await make_tenant(database), await make_tenant(database)


@pytest.fixture
async def api(connect: Connect) -> Connection:
    return await connect(login="authenticator")


async def affected(connection: Connection, statement: str) -> int:
    """How many rows a statement changed; 0 where it was refused."""
    try:
        status = await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return 0
    return int(status.split()[-1])


async def count(connection: Connection, table: str) -> int:
    rows: int = await connection.fetchval(f"select count(*) from public.{table}")
    return rows


def whatever(command: str, table: str) -> str:
    """A statement that is refused before anybody looks at rows."""
    column = "event_id" if table == "private_event_details" else "organization_id"
    return {
        "insert": f"insert into public.{table} default values",
        "update": f"update public.{table} set {column} = {column}",
        "delete": f"delete from public.{table}",
    }[command]


async def test_each_table_and_view_has_a_decision(database: Connection) -> None:
    names = {row[0] for row in await database.fetch(READABLE)}

    assert names == set(DECISIONS)


@pytest.mark.parametrize("table", DECISIONS)
async def test_people_read_their_own_organizations_rows_and_no_others(
    tenants: tuple[Tenant, Tenant], api: Connection, table: str
) -> None:
    decision = DECISIONS[table]

    for name, user in tenants[0].people.items():
        async with acting(api, user):
            expected = decision.rows if name in decision.select else 0
            assert await count(api, table) == expected, name
    async with acting(api, tenants[0].stranger):
        assert await count(api, table) == 0
    async with acting(api, None, role="service_role"):
        assert await count(api, table) == 2 * decision.rows


@pytest.mark.parametrize("table", DECISIONS)
async def test_anon_reads_nothing(
    tenants: tuple[Tenant, Tenant], api: Connection, table: str
) -> None:
    async with acting(api, None, role="anon"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await count(api, table)


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("table", sorted(DECISIONS.keys() - VIEWS))
async def test_people_write_what_is_theirs_to_write(
    tenants: tuple[Tenant, Tenant], api: Connection, table: str, command: str
) -> None:
    mine, theirs = tenants
    allowed = getattr(DECISIONS[table], command)
    statement = WRITES[command].get(table)
    assert bool(statement) == bool(allowed)
    people = mine.people | {"foreign owner": theirs.owner, "stranger": mine.stranger}

    if statement:
        for name, user in people.items():
            async with acting(api, user):
                changed = await affected(api, statement.format(**vars(mine)))
                assert changed == (name in allowed), name
    else:
        statement = whatever(command, table)
        async with acting(api, mine.owner):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await api.execute(statement)
    async with acting(api, None, role="anon"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.execute(statement.format(**vars(mine)))


@pytest.mark.parametrize("table", DECISIONS)
async def test_users_write_only_these_columns(database: Connection, table: str) -> None:
    decision = DECISIONS[table]
    found = await database.fetch(
        """
        select
          attribute.attname::text as name,
          has_column_privilege('authenticated', $1, attnum, 'insert') as insertable,
          has_column_privilege('authenticated', $1, attnum, 'update') as updatable
        from pg_catalog.pg_attribute as attribute
        where attribute.attrelid = $1::regclass and attnum > 0 and not attisdropped
        """,
        f"public.{table}",
    )

    assert {row["name"] for row in found if row["insertable"]} == decision.insertable
    assert {row["name"] for row in found if row["updatable"]} == decision.updatable
    assert "organization_id" not in decision.updatable


@pytest.mark.parametrize("table", DECISIONS)
async def test_privileges_are_these_and_no_others(
    database: Connection, table: str
) -> None:
    held = await database.fetch(
        """
        select role.name as role, command.name as command
        from unnest(array['anon', 'authenticated', 'service_role']) as role (name)
        cross join unnest(array[
          'select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'
        ]) as command (name)
        where has_table_privilege(role.name, $1, command.name)
          or case when command.name in ('select', 'insert', 'update', 'references')
            then has_any_column_privilege(role.name, $1, command.name) end
        """,
        f"public.{table}",
    )
    decision = DECISIONS[table]
    users = {"select"} | {name for name in WRITES if getattr(decision, name)}
    service = {"select", *SERVICE.get(table, "").split()}

    assert {tuple(row) for row in held} == {
        *(("authenticated", command) for command in users),
        *(("service_role", command) for command in service),
    }


async def test_no_api_role_reaches_the_engines_tables(
    database: Connection, api: Connection
) -> None:
    names = await database.fetch(
        """
        select class.oid::regclass::text as name from pg_catalog.pg_class as class
        where class.relnamespace = 'sync'::regnamespace
          and class.relkind in ('r', 'p', 'v', 'S')
        """
    )

    assert len(names) > 10
    for role in ("anon", "authenticated", "service_role"):
        for (name,) in names:
            async with acting(api, None, role=role):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await api.execute(f"select * from {name}")


async def test_where_new_tables_are_given_away_by_default_ours_are_not(
    bare: Sessions,
) -> None:
    owner = await bare.connect()
    for kind in ("tables", "sequences", "functions"):
        await owner.execute(
            f"alter default privileges in schema public grant all on {kind}"
            " to anon, authenticated, service_role"
        )
    await asyncio.to_thread(migrate, bare.url, MIGRATIONS)

    given = await owner.fetch(
        """
        select class.relname from pg_catalog.pg_class as class
        where class.relnamespace = 'public'::regnamespace
          and case
            when class.relkind in ('r', 'p', 'v') then
              has_table_privilege(
                'anon', class.oid,
                'select, insert, update, delete, truncate, references, trigger'
              ) or has_table_privilege(
                'authenticated', class.oid, 'truncate, references, trigger'
              )
            when class.relkind = 'S' then
              has_sequence_privilege('anon', class.oid, 'usage, select, update')
          end
        union all
        select routine.proname from pg_catalog.pg_proc as routine
        where routine.pronamespace = 'public'::regnamespace
          and has_function_privilege('anon', routine.oid, 'execute')
        """
    )

    assert given == []
