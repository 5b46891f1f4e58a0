"""Two workers, two calendars, one organization."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.events import (
    Calendar,
    coming,
    expand,
    make_event,
    meetings,
    tombstone,
    weekly,
)
from tests.support.eventually import eventually
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

ROUNDS = 10

SOMEBODY_WAITS = """
select exists (
  select 1 from pg_stat_activity
  where datname = current_database() and wait_event_type = 'Lock'
)
"""


@pytest.fixture
async def other(calendar: Calendar, database: Connection, connect: Connect) -> Calendar:
    """A colleague's calendar, pulled by another worker."""
    return await Calendar.create(
        database,
        await connect(role="sync_worker"),
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )


async def test_two_workers_that_meet_the_same_events_make_one_meeting_of_each(
    calendar: Calendar, other: Calendar, database: Connection
) -> None:
    for round_ in range(ROUNDS):
        uids = [f"r{round_}e{n}" for n in range(40)]
        mine = [make_event(uid) for uid in uids]
        theirs = [make_event(uid, is_organizer=False) for uid in reversed(uids)]
        await asyncio.gather(calendar.apply(*mine), other.apply(*theirs))
    assert len(await meetings(database)) == ROUNDS * 40
    fed = await database.fetch("select distinct calendar_id from public.meetings")
    assert [row["calendar_id"] for row in fed] == [calendar.id]


async def test_two_workers_that_re_time_the_same_series_do_not_deadlock(
    calendar: Calendar, other: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 20)
    for round_ in range(ROUNDS):
        moved = [start.replace(hour=8 + round_) for start in starts]
        await asyncio.gather(
            calendar.apply_series(expand("s", moved)),
            other.apply_series(expand("s", moved, is_organizer=False)),
        )
    after = await meetings(database)
    assert len(after) == 20
    assert {meeting["status"] for meeting in after} == {"confirmed"}


async def test_a_move_between_calendars_read_by_two_workers_keeps_the_meetings(
    calendar: Calendar, other: Calendar, database: Connection
) -> None:
    events = [make_event(f"e{n}") for n in range(8)]
    await calendar.apply(*events)
    before = {meeting["id"] for meeting in await meetings(database)}
    here, there = calendar, other
    for round_ in range(ROUNDS):
        await asyncio.gather(
            here.apply(*[tombstone(f"e{n}", etag=str(round_)) for n in range(8)]),
            there.apply(*[make_event(f"e{n}", sequence=round_) for n in range(8)]),
        )
        here, there = there, here
    after = await meetings(database)
    assert {meeting["id"] for meeting in after} == before
    assert {meeting["status"] for meeting in after} == {"confirmed"}
    assert {meeting["calendar_id"] for meeting in after} == {here.id}


async def test_a_users_edit_does_not_wait_for_a_page_of_other_meetings(
    calendar: Calendar, database: Connection, connect: Connect
) -> None:
    await calendar.apply(make_event("a"), make_event("b", title="Other"))
    applying = await connect(role="sync_worker")
    async with applying.transaction():
        await calendar.apply(make_event("a", title="New"), on=applying)
        await database.execute(
            "update public.meetings set location = 'x' where title = 'Other'"
        )


async def test_an_edit_made_while_a_page_is_applied_is_merged_and_not_lost(
    calendar: Calendar, database: Connection, connect: Connect
) -> None:
    await calendar.apply(make_event("a"))
    editing = await connect()
    transaction = editing.transaction()
    await transaction.start()
    await editing.execute("update public.meetings set title = 'Ours'")
    applying = asyncio.create_task(calendar.apply(make_event("a", location="Room 2")))

    await eventually(lambda: database.fetchval(SOMEBODY_WAITS))
    await transaction.commit()
    await applying
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["location"]) == ("Ours", "Room 2")


async def test_a_webhooks_request_does_not_wait_for_a_page(
    calendar: Calendar, database: Connection, connect: Connect
) -> None:
    applying = await connect(role="sync_worker")
    async with applying.transaction():
        await calendar.apply(make_event("a"), on=applying)
        await database.execute("set lock_timeout = '1s'")
        await database.execute(
            """
            select sync.request_task(
              'pull', task.subject_id, task.connection_id, 1::smallint, now())
            from sync.tasks as task where task.id = $1
            """,
            calendar.task_id,
        )


RELEASE = "select sync.release_held_cancellations($1)"
DROP = "select sync.drop_held_cancellations($1)"


async def hold(calendar: Calendar) -> None:
    """Have the brake hold eleven cancellations."""
    ids = [f"e{n}" for n in range(11)]
    await calendar.apply(*[make_event(one) for one in ids])
    counts = await calendar.apply(*[tombstone(one) for one in ids])
    assert counts == {"held": 11}


@pytest.mark.parametrize("decide", [RELEASE, DROP])
async def test_what_comes_back_while_somebody_decides_is_not_decided(
    calendar: Calendar, database: Connection, connect: Connect, decide: str
) -> None:
    await hold(calendar)
    applying, deciding = await connect(role="sync_worker"), await connect()
    transaction = applying.transaction()
    await transaction.start()
    await calendar.apply(make_event("e0", title="Back"), on=applying)
    decision = asyncio.create_task(deciding.fetchval(decide, calendar.id))
    await eventually(lambda: database.fetchval(SOMEBODY_WAITS))
    await transaction.commit()

    assert await decision == 10
    back = await database.fetchrow(
        "select status, sync_state from public.meetings where title = 'Back'"
    )
    assert back is not None
    assert tuple(back) == ("confirmed", "synced")
    assert await database.fetchval("select count(*) from sync.held_cancellations") == 0


async def test_deciding_about_held_cancellations_does_not_deadlock_with_a_page(
    calendar: Calendar, connect: Connect
) -> None:
    deciding, applying = await connect(), await connect(role="sync_worker")
    for round_ in range(ROUNDS):
        await hold(calendar)
        back = [make_event(f"e{n}", title=f"Round {round_}") for n in range(11)]
        await asyncio.gather(
            deciding.fetchval(RELEASE, calendar.id), calendar.apply(*back, on=applying)
        )
        await calendar.apply(*[make_event(f"e{n}", sequence=round_) for n in range(11)])
