"""Where clients stand: rules move them, users overrule rules."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.support.builders import make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.events import Calendar, make_event, tombstone
from tests.support.pipeline import (
    HOUR,
    advance,
    advance_task,
    assert_true,
    change,
    make_client,
    make_meeting,
    place_of,
    stage_of,
)
from tests.support.sessions import Connection
from tests.support.tenants import Tenant, make_tenant

Connect = Callable[..., Awaitable[Connection]]

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
GUEST = [{"email": "guest@example.net", "name": "Guest"}]


@pytest.fixture
async def clock(database: Connection) -> DatabaseClock:
    """The database's time, which stands until a test moves it."""
    moved = DatabaseClock(database)
    await moved.set(NOW)
    return moved


@pytest.fixture
async def organization(database: Connection, clock: DatabaseClock) -> UUID:
    return await make_organization(database)


@pytest.fixture
async def client(database: Connection, organization: UUID) -> UUID:
    return await make_client(database, organization, email="guest@example.net")


async def set_rules(
    database: Connection, organization: UUID, *rules: tuple[str, str | None, str]
) -> None:
    await database.execute(
        "delete from public.pipeline_rules where organization_id = $1", organization
    )
    await database.executemany(
        """
        insert into public.pipeline_rules
          (organization_id, happening, from_stage, to_stage)
        values ($1, $2, $3, $4)
        """,
        [(organization, *rule) for rule in rules],
    )


async def set_stage(database: Connection, client: UUID, stage: str) -> None:
    """As a user does; the engine does so as a role of its own."""
    await database.execute(
        "update public.pipeline set stage = $2 where client_id = $1", client, stage
    )


# Who is in it.


async def test_every_client_is_in_the_pipeline(
    database: Connection, client: UUID
) -> None:
    place = await place_of(database, client)
    assert (place["stage"], place["stage_set_by"]) == ("new", "rule")
    assert place["last_meeting_at"] is None
    assert place["next_meeting_at"] is None


async def test_a_new_organization_has_rules_that_are_useful_as_they_are(
    database: Connection, organization: UUID
) -> None:
    rules = await database.fetch(
        """
        select happening, from_stage, to_stage from public.pipeline_rules
        where organization_id = $1 order by happening
        """,
        organization,
    )
    assert [tuple(rule) for rule in rules] == [
        ("booked", None, "booked"),
        ("cancelled", None, "cancelled"),
        ("met", None, "met"),
        ("no_show", None, "no_show"),
    ]


# What moves whom.


async def test_a_booked_meeting_moves_its_client_and_is_the_next_one(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    place = await place_of(database, client)
    assert place["stage"] == "booked"
    assert place["stage_set_at"] == NOW
    assert place["next_meeting_at"] == NOW + DAY


@pytest.mark.parametrize("status", ["completed", "cancelled", "no_show"])
async def test_what_becomes_of_a_meeting_moves_its_client(
    database: Connection, organization: UUID, client: UUID, status: str
) -> None:
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await change(database, meeting, status=status)
    stage = {"completed": "met"}.get(status, status)
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == (stage, None)


async def test_a_tentative_meeting_is_to_come_but_not_booked_before_it_is_confirmed(
    database: Connection, organization: UUID, client: UUID
) -> None:
    meeting = await make_meeting(
        database, organization, NOW + DAY, client_id=client, status="tentative"
    )
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == ("new", NOW + DAY)
    await change(database, meeting, status="confirmed")
    assert await stage_of(database, client) == "booked"


async def test_a_cancellation_moves_nobody_who_has_another_meeting_to_come(
    database: Connection, organization: UUID, client: UUID
) -> None:
    one = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await make_meeting(database, organization, NOW + 2 * DAY, client_id=client)
    await change(database, one, status="cancelled")
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == ("booked", NOW + 2 * DAY)


async def test_a_meeting_that_is_cancelled_and_made_anew_at_once_stays_booked(
    database: Connection, organization: UUID, client: UUID
) -> None:
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    async with database.transaction():
        await change(database, meeting, status="cancelled")
        await make_meeting(database, organization, NOW + 2 * DAY, client_id=client)
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == ("booked", NOW + 2 * DAY)


async def test_who_was_met_before_we_heard_of_it_was_met_then(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await make_meeting(database, organization, NOW - DAY, client_id=client)
    place = await place_of(database, client)
    assert (place["stage"], place["stage_set_at"]) == ("met", NOW - DAY + HOUR)


async def test_a_meeting_completed_before_its_time_is_the_last_one_at_once(
    database: Connection, organization: UUID, client: UUID
) -> None:
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await change(database, meeting, status="completed")
    place = await place_of(database, client)
    assert (place["last_meeting_at"], place["next_meeting_at"]) == (NOW + DAY, None)


async def test_a_meeting_given_another_client_is_booked_for_that_one(
    database: Connection, organization: UUID, client: UUID
) -> None:
    other = await make_client(database, organization)
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await change(database, meeting, client_id=other)
    assert (await place_of(database, client))["next_meeting_at"] is None
    place = await place_of(database, other)
    assert (place["stage"], place["next_meeting_at"]) == ("booked", NOW + DAY)


async def test_a_deleted_meeting_is_no_next_one_and_one_restored_is(
    database: Connection, organization: UUID, client: UUID
) -> None:
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await change(database, meeting, deleted_at=NOW)
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == ("new", None)
    await change(database, meeting, deleted_at=None)
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == ("booked", NOW + DAY)


async def test_the_rule_for_the_stage_goes_before_the_rule_for_any(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_rules(
        database,
        organization,
        ("booked", None, "somewhere"),
        ("booked", "new", "first visit"),
        ("booked", "first visit", "regular"),
    )
    stages = []
    for day in (-2, -1, 1):
        await make_meeting(database, organization, NOW + day * DAY, client_id=client)
        stages.append(await stage_of(database, client))
    assert stages == ["first visit", "regular", "somewhere"]


async def test_a_rule_may_ask_for_what_was_booked_before(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_rules(
        database,
        organization,
        ("booked", None, "lead"),
        ("booked", "lost", "won back"),
        ("met", "lead", "customer"),
        ("cancelled", "lead", "lost"),
    )
    other = await make_client(database, organization)
    past, to_come = NOW - DAY, NOW + DAY
    await make_meeting(database, organization, past, client_id=client)
    assert await stage_of(database, client) == "customer"
    await make_meeting(
        database, organization, past, client_id=other, status="cancelled"
    )
    assert await stage_of(database, other) == "lost"
    await make_meeting(
        database, organization, to_come, client_id=other, status="no_show"
    )
    assert await stage_of(database, other) == "won back"


async def test_what_is_to_come_is_one_booking(
    calendar: Calendar, database: Connection
) -> None:
    await set_rules(
        database,
        calendar.organization_id,
        ("booked", "new", "first visit"),
        ("booked", "first visit", "regular"),
    )
    events = [make_event(f"e{n}", attendees=GUEST) for n in range(9)]
    for part in (events[:3], events[3:]):
        await calendar.apply(*part)
        stage = await database.fetchval("select stage from public.pipeline")
        assert stage == "first visit"


async def test_without_a_rule_nobody_moves(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_rules(database, organization, ("met", None, "met"))
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    place = await place_of(database, client)
    assert (place["stage"], place["next_meeting_at"]) == ("new", NOW + DAY)


async def test_what_a_calendar_says_moves_clients_as_what_users_say(
    calendar: Calendar, database: Connection
) -> None:
    stage = "select stage from public.pipeline"
    await calendar.apply(make_event("a", attendees=GUEST))
    assert await database.fetchval(stage) == "booked"
    await calendar.apply(tombstone("a"))
    assert await database.fetchval(stage) == "cancelled"
    await calendar.apply(make_event("a", attendees=GUEST, etag='"2"'))
    assert await database.fetchval(stage) == "booked"


# Users.


async def test_a_stage_that_a_user_set_stays_whatever_happens(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_stage(database, client, "vip")
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await change(database, meeting, status="no_show")
    place = await place_of(database, client)
    assert (place["stage"], place["stage_set_by"]) == ("vip", "user")


async def test_a_rule_for_a_stage_that_a_user_set_does_not_move_it_either(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_rules(database, organization, ("booked", "vip", "booked"))
    await set_stage(database, client, "vip")
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    assert await stage_of(database, client) == "vip"


async def test_next_and_last_meeting_move_on_under_a_users_stage(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_stage(database, client, "vip")
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    assert (await place_of(database, client))["next_meeting_at"] == NOW + DAY


async def test_who_sets_a_client_back_to_new_gives_them_back_to_the_rules(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await set_stage(database, client, "vip")
    await set_stage(database, client, "new")
    assert (await place_of(database, client))["stage_set_by"] == "rule"
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    assert await stage_of(database, client) == "booked"
    await set_stage(database, client, "vip")
    await set_stage(database, client, "new")
    assert await stage_of(database, client) == "booked"


async def test_what_is_over_moves_nobody_who_has_something_to_come(
    database: Connection,
    organization: UUID,
    client: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    # Yesterday's meeting is heard of, or completed, after they booked today.
    await make_meeting(database, organization, NOW - DAY, client_id=client)
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    await clock.advance(minutes=1)
    done = await advance(worker)
    assert done
    assert done["completed"] == 1
    place = await place_of(database, client)
    assert (place["stage"], place["last_meeting_at"]) == ("booked", NOW - DAY)


# At the same time.


async def test_two_who_change_meetings_of_one_client_at_once_leave_the_truth(
    database: Connection, organization: UUID, client: UUID, connect: Connect
) -> None:
    one = await make_meeting(database, organization, NOW + DAY, client_id=client)
    other = await make_meeting(database, organization, NOW + 2 * DAY, client_id=client)
    first, second = await connect(), await connect()
    begun = first.transaction()
    await begun.start()
    await change(first, one, status="cancelled")
    await first.execute("set constraints all immediate")

    waiting = asyncio.create_task(
        change(second, other, starts_at=NOW + 5 * DAY, ends_at=NOW + 6 * DAY)
    )
    await begun.commit()
    await waiting
    assert (await place_of(database, client))["next_meeting_at"] == NOW + 5 * DAY


async def test_who_write_the_same_clients_in_any_order_do_not_deadlock(
    database: Connection, organization: UUID, connect: Connect
) -> None:
    clients = [await make_client(database, organization) for _ in range(6)]
    meetings = [
        await make_meeting(database, organization, NOW + DAY, client_id=client)
        for client in clients
        for _ in range(2)
    ]

    async def work(mine: list[UUID], session: Connection) -> None:
        for round_ in range(15):
            async with session.transaction():
                for meeting in mine if round_ % 2 else reversed(mine):
                    await change(session, meeting, starts_at=NOW + round_ * DAY / 99)

    sessions = [await connect(), await connect()]
    await asyncio.gather(
        work(meetings[::2], sessions[0]), work(meetings[1::2], sessions[1])
    )
    await assert_true(database)


# What it costs, and whom it is told.


async def test_what_means_nothing_to_the_pipeline_writes_nothing(
    database: Connection, organization: UUID, client: UUID
) -> None:
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    before = await database.fetch("select xmin, xmax, ctid from public.pipeline")
    await change(database, meeting, title="Other", location="Room 2")
    assert (
        await database.fetch("select xmin, xmax, ctid from public.pipeline") == before
    )
    task = await advance_task(database)
    await change(database, meeting, starts_at=NOW + DAY + timedelta(minutes=1))
    assert await advance_task(database) == task


async def test_only_what_changed_is_told_to_frontends(
    admin: Connection, organization: UUID, client: UUID
) -> None:
    meeting = await make_meeting(admin, organization, NOW + DAY, client_id=client)
    bystander = await make_client(admin, organization)
    later = await make_meeting(admin, organization, NOW + 3 * DAY, client_id=client)
    assert bystander
    await admin.execute("delete from realtime.messages")
    told = """
    select payload #>> '{record,client_id}' from realtime.messages
    where payload ->> 'table' = 'pipeline'
    """

    await change(admin, later, starts_at=NOW + 2 * DAY)
    assert await admin.fetch(told) == []
    await change(admin, meeting, starts_at=NOW + DAY / 2)
    assert [row[0] for row in await admin.fetch(told)] == [str(client)]


async def test_between_transactions_no_news_is_kept(
    database: Connection, organization: UUID, client: UUID
) -> None:
    await make_meeting(database, organization, NOW + DAY, client_id=client)
    assert await database.fetchval("select count(*) from sync.pipeline_news") == 0


async def test_a_transaction_that_is_undone_leaves_no_trace(
    database: Connection, organization: UUID, client: UUID
) -> None:
    async def fail() -> None:
        async with database.transaction():
            await make_meeting(database, organization, NOW + DAY, client_id=client)
            await database.execute("set constraints all immediate")
            assert await stage_of(database, client) == "booked"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await stage_of(database, client) == "new"
    assert await database.fetchval("select count(*) from sync.pipeline_news") == 0


# Who may.


@pytest.fixture
async def tenant(database: Connection) -> Tenant:
    return await make_tenant(database)


async def test_a_members_meeting_moves_the_pipeline_which_they_may_not_write(
    database: Connection,
    tenant: Tenant,
    as_user: Callable[..., Awaitable[Connection]],
) -> None:
    member = await as_user(tenant.member)
    await member.execute(
        """
        insert into public.meetings
          (organization_id, client_id, title, starts_at, ends_at)
        values ($1, $2, 'Next', now() + interval '1 day', now() + interval '2 days')
        """,
        tenant.id,
        tenant.client,
    )
    assert (await place_of(member, tenant.client))["next_meeting_at"] is not None
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await member.execute("update public.pipeline set next_meeting_at = now()")
    for denied in ("sync.pipeline_news", "sync.tasks"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await member.execute(f"select * from {denied}")


async def test_admins_change_the_rules_and_members_read_them(
    database: Connection,
    tenant: Tenant,
    as_user: Callable[..., Awaitable[Connection]],
) -> None:
    admin, member = await as_user(tenant.admin), await as_user(tenant.member)
    change_rules = "update public.pipeline_rules set to_stage = 'x'"
    assert await member.execute(change_rules) == "UPDATE 0"
    assert len(await member.fetch("select * from public.pipeline_rules")) == 1
    assert await admin.execute(change_rules) == "UPDATE 1"
