"""What users may call."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.builders import make_user
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.support.tenants import Tenant, acting, make_tenant

Connect = Callable[..., Awaitable[Connection]]

# What may be called, and which of a tenant's ids with.
CALLS = {
    "resync_calendar": "calendar",
    "resync_organization": "id",
    "delete_meeting": "meeting",
    "restore_meeting": "meeting",
    "release_deletions": "calendar",
}
NOT_YOURS = "CS020"
TOO_MANY = "CS022"


@pytest.fixture
async def mine(database: Connection) -> Tenant:
    return await make_tenant(database)


@pytest.fixture
async def api(connect: Connect) -> Connection:
    return await connect(login="authenticator")


async def call(api: Connection, name: str, *arguments: object) -> object:
    if name == "release_deletions" and len(arguments) == 1:
        arguments = (*arguments, True)
    places = ", ".join(f"${place + 1}" for place in range(len(arguments)))
    return await api.fetchval(f"select public.{name}({places})", *arguments)


@pytest.mark.parametrize("name", CALLS)
async def test_ids_of_others_are_refused_as_ids_that_do_not_exist_are(
    database: Connection, mine: Tenant, api: Connection, name: str
) -> None:
    theirs = await make_tenant(database)
    messages = []

    for subject in (getattr(theirs, CALLS[name]), uuid4()):
        async with acting(api, mine.owner):
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await call(api, name, subject)
        assert refusal.value.sqlstate == NOT_YOURS
        messages.append(str(refusal.value).replace(str(subject), "…"))

    assert messages[0] == messages[1]


@pytest.mark.parametrize("name", CALLS)
async def test_anon_may_call_nothing(mine: Tenant, api: Connection, name: str) -> None:
    async with acting(api, None, role="anon"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await call(api, name, getattr(mine, CALLS[name]))


@pytest.mark.parametrize("name", CALLS)
async def test_the_service_key_may_call_for_everybody(
    mine: Tenant, api: Connection, name: str
) -> None:
    async with acting(api, None, role="service_role"):
        await call(api, name, getattr(mine, CALLS[name]))


async def test_who_makes_an_organization_owns_it(mine: Tenant, api: Connection) -> None:
    async with acting(api, mine.stranger):
        made = await call(api, "create_organization", "Salon", "Europe/Vienna")
        role = await api.fetchval(
            """
            select member.role from public.organization_members as member
            where member.organization_id = $1 and member.user_id = $2
            """,
            made,
            mine.stranger,
        )

        assert role == "owner"


async def test_a_user_makes_twenty_organizations_and_no_more(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.stranger):
        for _ in range(20):
            await call(api, "create_organization", "Salon", "UTC")

        with pytest.raises(asyncpg.PostgresError, match="20 organizations") as refusal:
            await call(api, "create_organization", "Salon", "UTC")

    assert refusal.value.sqlstate == TOO_MANY


async def test_organizations_that_others_made_somebody_own_do_not_count(
    database: Connection, mine: Tenant, api: Connection
) -> None:
    await database.execute(
        """
        with made as (
          insert into public.organizations (name) select 'Theirs'
          from generate_series(1, 30) returning id
        )
        insert into public.organization_members (organization_id, user_id, role)
        select made.id, $1, 'owner' from made
        """,
        mine.stranger,
    )

    async with acting(api, mine.stranger):
        assert await call(api, "create_organization", "Salon", "UTC")


async def test_who_makes_organizations_from_two_places_at_once_is_counted_once(
    database: Connection, connect: Connect
) -> None:
    user = await make_user(database)
    await database.execute(
        """
        insert into public.organizations (name, created_by)
        select 'Salon', $1 from generate_series(1, 18)
        """,
        user,
    )
    make = "select public.create_organization('Salon')"
    one, other = await connect(), await connect()
    for session in (one, other):
        await session.execute(
            "select set_config('request.jwt.claim.sub', $1, false)", str(user)
        )

    async with one.transaction():
        await one.execute(make)
        waiting = asyncio.create_task(other.execute(make))
        await eventually(
            lambda: database.fetchval(
                "select true from pg_stat_activity"
                " where datname = current_database() and wait_event_type = 'Lock'"
            )
        )
    with pytest.raises(asyncpg.PostgresError, match="20 organizations"):
        await waiting


async def test_an_organization_needs_a_zone_that_exists(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.stranger):
        with pytest.raises(asyncpg.CheckViolationError):
            await call(api, "create_organization", "Salon", "Europe/Nowhere")


@pytest.mark.parametrize(
    ("who", "allowed"),
    [("owner", True), ("admin", True), ("linker", True), ("member", False)],
)
async def test_who_may_set_a_calendar_may_resync_it(
    mine: Tenant, api: Connection, who: str, allowed: bool
) -> None:
    async with acting(api, getattr(mine, who)):
        if allowed:
            assert await call(api, "resync_calendar", mine.calendar) is True
        else:
            with pytest.raises(asyncpg.PostgresError, match="can't be resynced"):
                await call(api, "resync_calendar", mine.calendar)


async def pull_of(database: Connection, calendar: UUID) -> asyncpg.Record | None:
    return await database.fetchrow(
        "select lane, run_at <= now() as due from sync.tasks"
        " where kind = 'pull' and subject_id = $1",
        calendar,
    )


async def as_user(database: Connection, user: UUID, name: str, subject: UUID) -> object:
    """Call and commit."""
    async with database.transaction():
        await database.execute("set local role authenticated")
        await database.execute(
            "select set_config('request.jwt.claim.sub', $1, true)", str(user)
        )
        return await call(database, name, subject)


async def test_a_resync_asks_for_a_full_round_now(
    database: Connection, mine: Tenant
) -> None:
    await as_user(database, mine.owner, "resync_calendar", mine.calendar)

    task = await pull_of(database, mine.calendar)
    assert task is not None
    assert (task["lane"], task["due"]) == (0, True)
    assert await database.fetchval(
        "select full_round_asked_at is not null from public.calendars where id = $1",
        mine.calendar,
    )


ROUND_ASKED_AT = "select full_round_asked_at from public.calendars where id = $1"


@pytest.mark.parametrize("name", ["resync_calendar", "resync_organization"])
async def test_a_resync_asked_for_again_while_one_is_pending_changes_nothing(
    database: Connection, mine: Tenant, name: str
) -> None:
    subject = getattr(mine, CALLS[name])
    first = await as_user(database, mine.owner, name, subject)
    asked_at = await database.fetchval(ROUND_ASKED_AT, mine.calendar)

    assert await as_user(database, mine.owner, name, subject) == first

    assert await database.fetchval(ROUND_ASKED_AT, mine.calendar) == asked_at


async def test_a_resync_asked_for_again_while_one_is_under_way_changes_nothing(
    database: Connection, mine: Tenant
) -> None:
    await database.execute(
        """
        insert into sync.calendar_state (calendar_id, round_started_at)
        values ($1, now())
        """,
        mine.calendar,
    )

    assert await as_user(database, mine.owner, "resync_calendar", mine.calendar)

    assert await database.fetchval(ROUND_ASKED_AT, mine.calendar) is None


async def test_a_resync_that_does_not_come_to_its_end_may_be_asked_for_again(
    database: Connection, mine: Tenant
) -> None:
    await database.execute(
        """
        update public.calendars set full_round_asked_at = now() - interval '11 min'
        where id = $1
        """,
        mine.calendar,
    )
    await database.execute(
        "update sync.tasks set run_at = now() + interval '1 h', not_before = now()"
    )

    assert await as_user(database, mine.owner, "resync_calendar", mine.calendar)

    task = await pull_of(database, mine.calendar)
    assert task is not None
    assert (task["lane"], task["due"]) == (0, True)


async def test_a_calendar_that_is_switched_off_is_not_resynced(
    database: Connection, mine: Tenant
) -> None:
    await database.execute("update public.calendars set sync_enabled = false")

    answer = await as_user(database, mine.owner, "resync_calendar", mine.calendar)

    assert answer is False
    assert await pull_of(database, mine.calendar) is None


async def test_resyncing_an_organization_asks_for_each_enabled_calendar(
    database: Connection, mine: Tenant
) -> None:
    answer = await as_user(database, mine.admin, "resync_organization", mine.id)

    assert answer == 1
    assert await pull_of(database, mine.calendar)


async def test_a_full_round_asked_for_while_a_pull_runs_is_made_by_the_next(
    database: Connection, mine: Tenant
) -> None:
    await database.execute("delete from sync.tasks")
    await database.execute(
        "select sync.request_task('pull', $1, $2, 1::smallint, now())",
        mine.calendar,
        mine.connection,
    )
    claim = "select * from sync.claim_tasks(array['pull'], 1, '30 s') limit 1"
    begin = "select cursor from sync.begin_pull($1, $2, $3)"
    running = await database.fetchrow(claim)
    assert running is not None
    held = (running["task_id"], running["lease"], mine.calendar)
    await database.execute(begin.replace("cursor", "1"), *held)

    await as_user(database, mine.owner, "resync_calendar", mine.calendar)
    # The pull that was running saves where it stopped, and ends.
    await database.execute("update sync.calendar_state set cursor = 'stale'")
    await database.execute(
        "select sync.finish_task($1, $2, now() + interval '1 h')", *held[:2]
    )

    again = await database.fetchrow(claim)
    assert again is not None
    assert again["task_id"] == held[0]
    held = (again["task_id"], again["lease"], mine.calendar)
    assert await database.fetchval(begin, *held) is None
    await database.execute("select sync.begin_full_round($1, $2, $3)", *held)
    await database.execute("update sync.calendar_state set cursor = 'fresh'")
    assert await database.fetchval(begin, *held) == "fresh"


async def hold_cancellation(database: Connection, mine: Tenant) -> None:
    await database.execute(
        "insert into sync.held_cancellations (event_id, calendar_id) values ($1, $2)",
        mine.event,
        mine.calendar,
    )


@pytest.mark.parametrize("who", ["owner", "admin", "linker"])
@pytest.mark.parametrize("release", [True, False])
async def test_who_may_set_a_calendar_decides_what_the_brake_holds(
    database: Connection, mine: Tenant, api: Connection, who: str, release: bool
) -> None:
    await hold_cancellation(database, mine)

    async with acting(api, getattr(mine, who)):
        assert await call(api, "release_deletions", mine.calendar, release) is not None


async def test_another_member_does_not_decide_what_the_brake_holds(
    mine: Tenant, api: Connection
) -> None:
    async with acting(api, mine.member):
        with pytest.raises(asyncpg.PostgresError) as refusal:
            await call(api, "release_deletions", mine.calendar, True)
    assert refusal.value.sqlstate == NOT_YOURS


async def test_what_was_decided_is_held_no_longer(
    database: Connection, mine: Tenant
) -> None:
    await hold_cancellation(database, mine)
    await as_user(database, mine.owner, "release_deletions", mine.calendar)

    assert await database.fetchval("select count(*) from sync.held_cancellations") == 0


async def test_every_function_of_the_data_api_is_known_here(
    database: Connection,
) -> None:
    names = await database.fetch(
        """
        select proname::text from pg_catalog.pg_proc
        where pronamespace = 'public'::regnamespace
        """
    )

    assert {row[0] for row in names} == {
        *CALLS,
        "create_organization",
        "replay_delivery",
        "sync_health",
    }


async def test_a_deleted_meeting_is_marked_and_can_be_restored(
    database: Connection, mine: Tenant
) -> None:
    marked = "select deleted_at is not null from public.meetings where id = $1"
    meeting = mine.meeting

    assert await as_user(database, mine.member, "delete_meeting", meeting) is True
    assert await database.fetchval(marked, meeting) is True
    assert await as_user(database, mine.member, "delete_meeting", meeting) is False
    noted = await database.fetchrow(
        "select * from public.meeting_history order by id desc limit 1"
    )
    assert noted is not None
    assert (noted["side"], noted["user_id"]) == ("app", mine.member)

    assert await as_user(database, mine.member, "restore_meeting", meeting) is True
    assert await database.fetchval(marked, meeting) is False
    assert await as_user(database, mine.member, "restore_meeting", meeting) is False
