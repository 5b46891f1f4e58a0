"""What holds for every object of the database, whoever adds the next one."""

import re
from collections.abc import Awaitable, Callable

import pytest

from tests.support.cluster import MIGRATIONS
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

OURS = "('public'::regnamespace, 'sync'::regnamespace)"


async def names(database: Connection, query: str) -> list[str]:
    return [row[0] for row in await database.fetch(query)]


async def test_every_table_has_row_level_security(database: Connection) -> None:
    without = await names(
        database,
        f"""
        select class.oid::regclass::text from pg_catalog.pg_class as class
        where class.relnamespace in {OURS} and class.relkind in ('r', 'p')
          and not class.relrowsecurity
        """,
    )

    assert without == []


async def test_every_table_view_and_sequence_says_what_it_is_for(
    database: Connection,
) -> None:
    without = await names(
        database,
        f"""
        select class.oid::regclass::text from pg_catalog.pg_class as class
        where class.relnamespace in {OURS}
          and class.relkind in ('r', 'p', 'v', 'm', 'S')
          and obj_description(class.oid, 'pg_class') is null
          -- An identity column's sequence is part of the column.
          and not exists (
            select 1 from pg_catalog.pg_depend as part
            where part.objid = class.oid and part.deptype = 'i'
          )
        """,
    )

    assert without == []


async def test_every_schema_and_role_says_what_it_is_for(database: Connection) -> None:
    without = await names(
        database,
        """
        select rolname::text from pg_catalog.pg_roles
        where rolname in
          ('webhook_ingest', 'webhook_connect', 'sync_worker', 'sync_engine')
          and shobj_description(oid, 'pg_authid') is null
        union all
        select nspname::text from pg_catalog.pg_namespace
        where nspname = 'sync' and obj_description(oid, 'pg_namespace') is null
        """,
    )

    assert without == []


async def test_every_policy_and_trigger_says_why_it_is_there(
    database: Connection,
) -> None:
    # On a table of the platform's, auth.users say, only its owner could comment.
    without = await names(
        database,
        f"""
        select format('%s: %s', policy.polrelid::regclass, policy.polname)
        from pg_catalog.pg_policy as policy
        join pg_catalog.pg_class as class on class.oid = policy.polrelid
        where class.relnamespace in {OURS}
          and obj_description(policy.oid, 'pg_policy') is null
        union all
        select format('%s: %s', trigger.tgrelid::regclass, trigger.tgname)
        from pg_catalog.pg_trigger as trigger
        join pg_catalog.pg_class as class on class.oid = trigger.tgrelid
        where class.relnamespace in {OURS} and not trigger.tgisinternal
          and obj_description(trigger.oid, 'pg_trigger') is null
        """,
    )

    assert without == []


async def test_every_index_that_backs_no_constraint_says_who_reads_by_it(
    database: Connection,
) -> None:
    # Partitions are made with the comments of their parents.
    without = await names(
        database,
        f"""
        select class.oid::regclass::text
        from pg_catalog.pg_index as index
        join pg_catalog.pg_class as class on class.oid = index.indexrelid
        where class.relnamespace in {OURS} and not class.relispartition
          and obj_description(class.oid, 'pg_class') is null
          and not exists (
            select 1 from pg_catalog.pg_constraint as backed
            where backed.conindid = class.oid
          )
        """,
    )

    assert without == []


async def test_every_function_says_what_it_does_and_pins_an_empty_search_path(
    database: Connection,
) -> None:
    amiss = await names(
        database,
        f"""
        select routine.oid::regprocedure::text from pg_catalog.pg_proc as routine
        where routine.pronamespace in {OURS}
          and (
            obj_description(routine.oid, 'pg_proc') is null
            or not coalesce('search_path=""' = any (routine.proconfig), false)
          )
        """,
    )

    assert amiss == []


async def test_no_function_may_be_executed_by_everybody(database: Connection) -> None:
    public = await names(
        database,
        f"""
        select routine.oid::regprocedure::text
        from pg_catalog.pg_proc as routine
        cross join aclexplode(
          coalesce(routine.proacl, acldefault('f', routine.proowner))
        ) as held
        where routine.pronamespace in {OURS} and held.grantee = 0
        """,
    )

    assert public == []


async def test_no_table_gives_anything_to_everybody(database: Connection) -> None:
    public = await names(
        database,
        f"""
        select class.oid::regclass::text
        from pg_catalog.pg_class as class
        cross join aclexplode(class.relacl) as held
        where class.relnamespace in {OURS} and held.grantee = 0
        """,
    )

    assert public == []


def test_every_definer_function_says_why_it_is_one() -> None:
    for migration in sorted(MIGRATIONS.glob("*.sql")):
        for line in migration.read_text().splitlines():
            if line.strip().startswith("security definer"):
                assert re.match(r"security definer -- \w", line), (migration.name, line)


async def test_what_the_data_api_offers_runs_as_its_caller(
    database: Connection,
) -> None:
    definers = await names(
        database,
        """
        select routine.oid::regprocedure::text from pg_catalog.pg_proc as routine
        where routine.pronamespace = 'public'::regnamespace and routine.prosecdef
        union all
        select class.oid::regclass::text from pg_catalog.pg_class as class
        where class.relnamespace = 'public'::regnamespace and class.relkind = 'v'
          and not coalesce('security_invoker=true' = any (class.reloptions), false)
        """,
    )

    assert definers == []


async def test_what_the_data_api_calls_is_parsed_when_it_is_made(
    database: Connection,
) -> None:
    """By `begin atomic`: callers need no right on `sync`, which a text asks for."""
    texts = await names(
        database,
        """
        select routine.oid::regprocedure::text from pg_catalog.pg_proc as routine
        where routine.pronamespace = 'public'::regnamespace
          and routine.prosqlbody is null
          and routine.prorettype <> 'trigger'::regtype
        """,
    )

    assert texts == []


async def test_policies_are_one_a_command_for_signed_in_users_and_named_in_words(
    database: Connection,
) -> None:
    policies = await database.fetch(
        f"""
        select
          policy.polname::text as name, policy.polrelid::regclass::text as relation,
          policy.polcmd::text as command, policy.polroles::regrole[]::text[] as roles,
          policy.polpermissive as permissive
        from pg_catalog.pg_policy as policy
        join pg_catalog.pg_class as class on class.oid = policy.polrelid
        where class.relnamespace in {OURS}
        """
    )

    assert policies
    seen = [(row["relation"], row["command"]) for row in policies]
    assert len(seen) == len(set(seen))
    for row in policies:
        assert row["roles"] == ["authenticated"], row
        assert row["command"] in "rawd", row
        assert len(row["name"].split()) > 2, row


async def test_policies_ask_once_a_statement_who_is_asking(
    database: Connection,
) -> None:
    policies = await database.fetch(
        f"""
        select
          policy.polname::text as name,
          concat(
            pg_get_expr(policy.polqual, policy.polrelid),
            pg_get_expr(policy.polwithcheck, policy.polrelid)
          ) as condition
        from pg_catalog.pg_policy as policy
        join pg_catalog.pg_class as class on class.oid = policy.polrelid
        where class.relnamespace in {OURS}
        """
    )

    for row in policies:
        bare = re.sub(r"SELECT (sync|auth)\.\w+\(", "", row["condition"])
        assert not re.search(r"(sync|auth)\.\w+\(", bare), row["name"]
        # As an array it is an index condition; a subquery costs 70 times that.
        assert not re.search(r"\bIN \(\s*SELECT", row["condition"]), row["name"]


async def test_every_foreign_key_has_an_index_that_begins_with_its_columns(
    database: Connection,
) -> None:
    without = await names(
        database,
        f"""
        select format('%s: %s', reference.conrelid::regclass, reference.conname)
        from pg_catalog.pg_constraint as reference
        where reference.contype = 'f' and reference.connamespace in {OURS}
          and not exists (
            select 1
            from pg_catalog.pg_index as index
            where index.indrelid = reference.conrelid and index.indisvalid
              and (index.indkey::smallint[])[0:cardinality(reference.conkey) - 1]
                operator(pg_catalog.@>) reference.conkey
          )
        """,
    )

    assert without == []


async def test_no_column_holds_a_time_without_a_zone(database: Connection) -> None:
    naive = await names(
        database,
        f"""
        select format('%s.%s', attribute.attrelid::regclass, attribute.attname)
        from pg_catalog.pg_attribute as attribute
        join pg_catalog.pg_class as class on class.oid = attribute.attrelid
        where class.relnamespace in {OURS} and attribute.attnum > 0
          and attribute.atttypid in ('timestamp'::regtype, 'timetz'::regtype)
          -- A wall clock's time is another thing; who means one says so.
          and coalesce(col_description(attribute.attrelid, attribute.attnum), '')
            not like 'Local time %'
        """,
    )

    assert naive == []


async def test_constraints_are_named_for_what_they_promise(
    database: Connection,
) -> None:
    unnamed = await names(
        database,
        f"""
        select format('%s: %s', conrelid::regclass, conname)
        from pg_catalog.pg_constraint
        where contype = 'c' and connamespace in {OURS} and conname ~ '_check[0-9]*$'
        """,
    )

    assert unnamed == []


async def test_no_foreign_key_holds_a_day_of_the_queue(database: Connection) -> None:
    held = await names(
        database,
        """
        select conname::text from pg_catalog.pg_constraint
        where contype = 'f' and confrelid in (
          select 'sync.webhook_deliveries'::regclass
          union all select 'sync.runs'::regclass
          union all select inhrelid from pg_catalog.pg_inherits
        )
        """,
    )

    assert held == []


async def test_what_requests_change_of_a_task_stands_in_no_unique_index(
    database: Connection,
) -> None:
    # Else the fence, which holds the row FOR KEY SHARE, would make requests wait.
    keys = await names(
        database,
        """
        select distinct attribute.attname::text
        from pg_catalog.pg_index as index
        join pg_catalog.pg_attribute as attribute
          on attribute.attrelid = index.indrelid
          and attribute.attnum = any (index.indkey)
        where index.indrelid = 'sync.tasks'::regclass and index.indisunique
        """,
    )

    assert set(keys) == {"id", "kind", "subject_id"}


def test_migrations_alter_no_role_of_the_platform() -> None:
    for migration in MIGRATIONS.glob("*.sql"):
        text = migration.read_text()
        assert not re.search(
            r"alter role (anon|authenticated|service_role|authenticator|supabase_)",
            text,
        ), migration.name


def test_migrations_hold_no_password_and_switch_off_no_trigger() -> None:
    for migration in MIGRATIONS.glob("*.sql"):
        text = migration.read_text().lower()
        assert "password" not in re.sub(r"--.*", "", text), migration.name
        assert "session_replication_role" not in text, migration.name


# What runs hot reads by an index, and little of it. Asked of Postgres' own counters,
# around a call: a copy of the function's query, to be explained, could drift from it.

READS = """
select
  pg_stat_get_xact_numscans($1::regclass) as scans,
  pg_stat_get_xact_tuples_returned($1::regclass) as rows
"""


class Reads:
    """How often a table was read whole, or an index at all, and how many rows."""

    def __init__(self, connection: Connection, relation: str) -> None:
        self._connection = connection
        self._relation = relation
        self.scans = self.rows = 0

    async def __aenter__(self) -> "Reads":
        before = await self._counters()
        self.scans, self.rows = -before[0], -before[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        after = await self._counters()
        self.scans += after[0]
        self.rows += after[1]

    async def _counters(self) -> tuple[int, int]:
        row = await self._connection.fetchrow(READS, self._relation)
        assert row is not None
        return row["scans"], row["rows"]


@pytest.fixture
async def busy(database: Connection) -> Connection:
    """20,000 tasks due, of 200 connections."""
    await database.execute(
        """
        insert into public.organizations (id, name)
        values ('00000000-0000-0000-0000-0000000000aa', 'Busy');
        insert into public.calendar_connections
          (organization_id, provider, account_email)
        select
          '00000000-0000-0000-0000-0000000000aa', 'google', place || '@example.com'
        from generate_series(1, 200) as place;
        insert into public.calendars
          (connection_id, organization_id, provider_calendar_id, sync_enabled)
        select connection.id, connection.organization_id, place || '@example.com', false
        from public.calendar_connections as connection
        cross join generate_series(1, 100) as place;
        insert into public.calendar_watch_channels
          (calendar_id, organization_id, status)
        select id, organization_id, 'active' from public.calendars;
        insert into sync.tasks (kind, subject_id, connection_id, lane, run_at)
        select 'pull', id, connection_id, 2, now() - random() * interval '1 h'
        from public.calendars;
        """
    )
    await database.execute(
        "analyze sync.tasks, public.calendars, public.calendar_watch_channels"
    )
    return database


CLAIM = "select * from sync.claim_tasks(array['pull'], 100, '30 s')"


async def test_claiming_reads_by_lane_and_due_time_and_no_more_than_it_claims(
    busy: Connection,
) -> None:
    async with (
        busy.transaction(),
        Reads(busy, "sync.tasks") as whole,
        Reads(busy, "sync.tasks_due") as due,
    ):
        claimed = await busy.fetch(CLAIM)

    assert len(claimed) > 50
    assert whole.scans == 0
    assert due.rows < 500


async def test_looking_for_the_next_due_time_reads_one_row_a_lane(
    busy: Connection,
) -> None:
    await busy.execute("update sync.tasks set run_at = now() + interval '1 h'")
    await busy.execute("vacuum analyze sync.tasks")
    async with (
        busy.transaction(),
        Reads(busy, "sync.tasks") as whole,
        Reads(busy, "sync.tasks_due") as due,
    ):
        await busy.fetch(CLAIM)

    assert whole.scans == 0
    assert due.rows < 20


async def test_requesting_finds_tasks_by_kind_and_subject(busy: Connection) -> None:
    async with busy.transaction(), Reads(busy, "sync.tasks") as whole:
        await busy.execute(
            """
            select sync.request_tasks(
              array_agg('pull'::text), array_agg(id), array_agg(connection_id),
              array_agg(1::smallint), array_agg(now())
            )
            from (select * from public.calendars limit 100) as calendar
            """
        )

    assert whole.scans == 0


async def test_receiving_finds_channels_by_their_ids(busy: Connection) -> None:
    channels = [
        row["id"]
        for row in await busy.fetch(
            "select id from public.calendar_watch_channels limit 50"
        )
    ]
    many = len(channels)
    now = await busy.fetchval("select now()")
    async with (
        busy.transaction(),
        Reads(busy, "public.calendar_watch_channels") as read_channels,
        Reads(busy, "public.calendars") as read_calendars,
    ):
        answers = await busy.fetch(
            "select * from sync.receive($1, $2, $3, $4, $5, $6, $7)",
            ["google"] * many,
            channels,
            [None] * many,
            ["change"] * many,
            ["{}"] * many,
            [None] * many,
            [now] * many,
        )

    assert {row["outcome"] for row in answers} == {"accepted"}
    assert (read_channels.scans, read_calendars.scans) == (0, 0)


async def test_comparing_hashes_reads_the_pages_events_by_index(
    busy: Connection,
) -> None:
    calendar = await busy.fetchval("select id from public.calendars limit 1")
    await busy.execute(
        """
        insert into public.calendar_events
          (calendar_id, organization_id, provider_event_id, role, status, content_hash)
        select id, organization_id, 'event' || place, 'single', 'confirmed', '\\x01'
        from
          (select * from public.calendars order by id = $1 desc limit 4) as calendar
        cross join generate_series(1, 5000) as place
        """,
        calendar,
    )
    await busy.execute("analyze public.calendar_events")
    async with busy.transaction(), Reads(busy, "public.calendar_events") as whole:
        differing = await busy.fetchval(
            "select sync.compare_hashes($1, $2, $3, false)",
            calendar,
            [f"event{place}" for place in range(1, 501)],
            [b"\x01"] * 499 + [b"\x02"],
        )

    assert differing == [500]
    assert whole.scans == 0


async def test_a_members_list_is_read_by_organization(
    busy: Connection, connect: Connect
) -> None:
    await busy.execute(
        """
        insert into public.organizations (name)
        select 'Other' from generate_series(1, 200);
        insert into public.meetings (organization_id, title, starts_at, ends_at)
        select id, 'Visit', now(), now()
        from public.organizations cross join generate_series(1, 50);
        analyze public.meetings;
        insert into auth.users (id, email)
        values ('00000000-0000-0000-0000-0000000000ab', 'reader@example.com');
        insert into public.organization_members (organization_id, user_id)
        values (
          '00000000-0000-0000-0000-0000000000aa',
          '00000000-0000-0000-0000-0000000000ab'
        );
        """
    )
    api = await connect(login="authenticator", role="authenticated")
    async with api.transaction():
        await api.execute(
            "select set_config('request.jwt.claim.sub', $1, true)",
            "00000000-0000-0000-0000-0000000000ab",
        )
        async with Reads(api, "public.meetings") as whole:
            found = await api.fetch("select * from public.meetings")

    assert {str(row["organization_id"])[-2:] for row in found} >= {"aa"}
    assert len(found) < 200
    assert whole.scans == 0
