"""What Postgres and hosted Supabase do to the unwary, and that we are not caught.

Traps that have a page of tests of their own stand there: the queue and its fence in
test_tasks.py, days in test_partitions.py, broadcasts in test_realtime_triggers.py,
roles in test_access_roles.py, two workers with the same booking in
test_apply_races.py, policies and plans in test_catalogue.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from local_stack.migrate import migrate
from tests.support.builders import make_organization, make_user, organization_of
from tests.support.cluster import MIGRATIONS
from tests.support.sessions import Connection, Sessions
from tests.support.tasks import claim, finish, request, row
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]

HOLD = "select sync.hold_task($1, $2)"


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    made = await make_tenant(database)
    await database.execute("delete from sync.tasks")
    return made


@pytest.fixture
async def worker(connect: Connect) -> Connection:
    return await connect(role="sync_worker")


async def still_waits(attempt: "asyncio.Task[object]") -> bool:
    _, waiting = await asyncio.wait({attempt}, timeout=0.2)
    return bool(waiting)


async def test_a_users_edit_and_a_page_that_is_written_do_not_deadlock(
    database: Connection, tenant: Tenant, worker: Connection, connect: Connect
) -> None:
    # The page goes task, then meeting; the edit goes meeting, then task.
    await request(worker, tenant.calendar)
    (task,) = await claim(worker)
    page, user = await connect(), await connect()
    lock = "select 1 from public.meetings where id = $1 for no key update"

    async with asyncio.timeout(5):
        async with page.transaction():
            await page.execute(HOLD, task["task_id"], task["lease"])
            async with user.transaction():
                await user.execute(lock, tenant.meeting)
                writing = asyncio.create_task(page.execute(lock, tenant.meeting))
                assert await still_waits(writing)
                await request(user, tenant.calendar, lane=0)
            await writing


async def test_a_request_beside_an_uncommitted_claim_is_not_lost(
    database: Connection, worker: Connection, connect: Connect
) -> None:
    # It is due already; but the run that is due may have read before this request.
    subject = await request(database)
    caller = await connect()

    async with worker.transaction():
        (task,) = await claim(worker)
        asking = asyncio.create_task(request(caller, subject))
        assert await still_waits(asking)
    await asking
    await finish(worker, task, at=None)

    assert len(await claim(worker)) == 1


async def test_a_request_in_a_transaction_that_began_long_ago_is_due_when_written(
    database: Connection, connect: Connect
) -> None:
    slow = await connect()
    async with slow.transaction():
        began = await slow.fetchval("select now()")
        subject = await request(slow, at=began)

    task = await row(database, subject)
    assert task is not None
    assert task["run_at"] > began


async def test_an_edited_tag_projects_nothing_in_the_users_statement(
    database: Connection, tenant: Tenant, connect: Connect
) -> None:
    # The Data API stops a statement after 8 s: the work is a task.
    api = await connect(login="authenticator")
    look = "select xmin::text from public.calendar_events"
    before = await database.fetchval(look)

    await api.execute("set role authenticated")
    await api.execute(
        "select set_config('request.jwt.claim.sub', $1, false)", str(tenant.owner)
    )
    await api.execute("update public.calendars set event_tag = '#client'")

    assert await database.fetchval(look) == before
    (task,) = await claim(database)
    assert (task["kind"], task["subject_id"]) == ("pull", tenant.calendar)
    assert await database.fetchval(
        "select full_round_asked_at is not null from public.calendars"
    )


async def test_a_pull_that_found_nothing_changes_no_row_that_frontends_watch(
    database: Connection, admin: Connection, tenant: Tenant, worker: Connection
) -> None:
    await request(worker, tenant.calendar, connection_id=tenant.connection)
    (task,) = await claim(worker)
    held = (task["task_id"], task["lease"], tenant.calendar)
    await admin.execute("delete from realtime.messages")
    watched = await database.fetch(
        """
        select format('select xmin::text from %I.%I', schemaname, tablename) as look
        from pg_catalog.pg_publication_tables where pubname = 'supabase_realtime'
        """
    )
    before = [await database.fetch(row["look"]) for row in watched]

    await worker.fetch("select * from sync.begin_pull($1, $2, $3)", *held)
    await worker.fetch(
        "select sync.finish_pull($1, $2, $3, 2::smallint, 0, null, null, null)",
        *held,
    )
    await finish(worker, task, at=datetime.now(UTC))

    assert [await database.fetch(row["look"]) for row in watched] == before
    assert await admin.fetchval("select count(*) from realtime.messages") == 0


async def test_nothing_that_is_published_or_readable_holds_a_cursor(
    database: Connection,
) -> None:
    leaking = await database.fetch(
        """
        select attrelid::regclass::text || '.' || attname
        from pg_catalog.pg_attribute
        join pg_catalog.pg_class as class on class.oid = attrelid
        where class.relnamespace = 'public'::regnamespace and attnum > 0
          and attname ~ '(cursor|token|secret|cipher|lease)'
        """
    )

    assert leaking == []


async def test_the_same_address_in_other_letters_is_no_second_client(
    database: Connection,
) -> None:
    organization = await make_organization(database)
    add = "insert into public.clients (organization_id, email) values ($1, $2)"
    await database.execute(add, organization, "ada@example.com")

    with pytest.raises(asyncpg.CheckViolationError):
        await database.execute(add, organization, "Ada@Example.com")
    with pytest.raises(asyncpg.UniqueViolationError):
        await database.execute(add, organization, "ada@example.com")


async def test_clients_without_an_address_are_as_many_as_there_are(
    database: Connection,
) -> None:
    organization = await make_organization(database)
    add = "insert into public.clients (organization_id, name) values ($1, 'Ada')"

    await database.execute(add, organization)
    await database.execute(add, organization)


async def test_a_sign_up_goes_through_whatever_is_wrong_with_us(
    database: Connection,
) -> None:
    await database.execute(
        "alter table public.organizations add constraint broken check (name is null)"
        " not valid"
    )
    warnings: list[str] = []
    database.add_log_listener(lambda _, message: warnings.append(message.message))

    user = await make_user(database)

    assert await organization_of(database, user) is None
    assert "no personal organization" in warnings[0]


async def test_users_who_were_there_before_us_get_an_organization(
    bare: Sessions,
) -> None:
    database = await bare.connect()
    user = await make_user(database)

    await asyncio.to_thread(migrate, bare.url, MIGRATIONS)

    assert await organization_of(database, user)


async def test_an_applications_own_table_of_the_same_name_is_told_about_and_kept(
    bare: Sessions,
) -> None:
    database = await bare.connect()
    await database.execute("create table public.meetings (id integer)")

    with pytest.raises(Exception, match=r"these names are taken: public\.meetings"):
        await asyncio.to_thread(migrate, bare.url, MIGRATIONS)

    assert await database.fetchval("select to_regnamespace('sync')") is None
    assert await database.fetchval("select count(*) from public.meetings") == 0


async def test_a_user_cannot_pass_for_the_engine_by_a_setting(
    tenant: Tenant, connect: Connect
) -> None:
    api = await connect(login="authenticator")

    async with acting(api, tenant.member):
        for setting in ("sync.engine", "supacal.role", "request.role"):
            await api.execute("select set_config($1, 'sync_engine', true)", setting)
        await api.execute("update public.pipeline set stage = 'forged'")
        assert await api.fetchval("select stage_set_by from public.pipeline") == "user"
        await api.execute("update public.meetings set title = 'forged'")
        side = "select side from public.meeting_history order by id desc limit 1"
        assert await api.fetchval(side) == "app"


async def test_an_applications_trigger_that_writes_back_is_a_user_too(
    database: Connection, tenant: Tenant
) -> None:
    # pg_trigger_depth would lie here: the application writes from within a trigger.
    await database.execute(
        """
        create function public.rename_on_note() returns trigger language plpgsql as $$
        begin
          update public.pipeline set stage = 'noted' where client_id = new.id;
          return null;
        end $$;
        create trigger rename_on_note after update on public.clients
        for each row execute function public.rename_on_note();
        """
    )

    await database.execute("update public.clients set phone = '1'")

    (moved,) = await database.fetch("select stage, stage_set_by from public.pipeline")
    assert tuple(moved) == ("noted", "user")


async def test_members_of_two_organizations_see_both_and_list_each(
    database: Connection, tenant: Tenant, connect: Connect
) -> None:
    other = await make_tenant(database)
    await database.execute(
        """
        insert into public.organization_members (organization_id, user_id)
        values ($1, $2)
        """,
        other.id,
        tenant.member,
    )
    api = await connect(login="authenticator")

    async with acting(api, tenant.member):
        assert await api.fetchval("select count(*) from public.meetings") == 2
        seen = "select count(*) from public.organization_members"
        assert await api.fetchval(seen) == 9


async def test_a_claim_whose_answer_was_lost_is_taken_over_in_time(
    database: Connection, worker: Connection
) -> None:
    # A commit whose answer never arrives: nobody knows the lease, and nobody needs to.
    subject = uuid4()
    await request(database, subject)
    await claim(worker)
    await database.execute(
        "update sync.tasks set run_at = now() - interval '1 s' where subject_id = $1",
        subject,
    )

    assert [task["subject_id"] for task in await claim(worker)] == [subject]
