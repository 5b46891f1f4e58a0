"""Locks are taken in one order: keys, clients, meetings, events, each sorted.

Each test stops two calls, by locks of a third session, where each would meet the
locks of the other if either took them in an order of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest

from tests.support.events import Calendar, Event, make_event, meetings
from tests.support.eventually import eventually
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

SO_MANY_WAIT = """
select count(*) >= $1 from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.fixture
async def colleague(
    calendar: Calendar, database: Connection, connect: Connect
) -> Calendar:
    """A colleague's calendar, pulled by another worker."""
    return await Calendar.create(
        database,
        await connect(role="sync_worker"),
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )


@pytest.fixture
async def shared(
    calendar: Calendar, database: Connection, connect: Connect
) -> Calendar:
    """The calendar that has what turns out to be the same."""
    return await Calendar.create(
        database,
        await connect(role="sync_worker"),
        organization_id=calendar.organization_id,
        account_email="cleo@example.org",
    )


@asynccontextmanager
async def held_by_a_user(
    connect: Connect, *statements: tuple[str, object]
) -> AsyncIterator[None]:
    """Leave the statements uncommitted for as long as the context lasts."""
    session = await connect()
    async with session.transaction():
        for statement, argument in statements:
            await session.execute(statement, argument)
        yield


EDIT = "update public.meetings set metadata = '{}' where id = any ($1::uuid[])"
NEW_CLIENT = """
insert into public.clients (organization_id, email)
select organization.id, 'zoe@example.com' from public.organizations as organization
where organization.id = $1
"""


async def apply_by_id(
    calendar: Calendar, database: Connection, prefix: str, count: int = 8
) -> list[tuple[UUID, str]]:
    """Some events of a calendar; returns (meeting, event), by the meeting's id."""
    await calendar.apply(
        *[make_event(f"{prefix}{n}", title=f"{prefix}{n}") for n in range(count)]
    )
    return sorted(
        (meeting["id"], meeting["title"])
        for meeting in await meetings(database)
        if meeting["title"].startswith(prefix)
    )


def bearing(event_id: str, uid: str) -> Event:
    """A guest's event that turns out to be the one with this iCalUID."""
    return make_event(
        event_id, ical_uid=f"{uid}@google.com", is_organizer=False, title=event_id
    )


async def merged(database: Connection) -> list[tuple[UUID, UUID]]:
    return [
        (row["id"], row["merged_into"])
        for row in await database.fetch(
            "select id, merged_into from public.meetings where merged_into is not null"
        )
    ]


async def test_two_calls_with_ties_in_opposite_orders_do_not_deadlock(
    calendar: Calendar,
    colleague: Calendar,
    shared: Calendar,
    database: Connection,
    connect: Connect,
) -> None:
    *_, (one, one_uid), (two, two_uid) = await apply_by_id(shared, database, "s")
    (mine, mine_id), *_, (_, my_first) = await apply_by_id(calendar, database, "m")
    (his, his_id), *_, (_, his_first) = await apply_by_id(colleague, database, "h")
    # A meeting may have several keys: a booking's, say, beside that of its event.
    for meeting_id, uid in ((one, one_uid), (two, two_uid)):
        await database.execute(
            """
            insert into sync.meeting_keys (organization_id, key, meeting_id)
            select known.organization_id, replace(known.key, $2, $2 || '-too'), $1
            from sync.meeting_keys as known where known.meeting_id = $1
            """,
            meeting_id,
            uid,
        )

    async with held_by_a_user(connect, (EDIT, [mine, his])):
        me = asyncio.create_task(
            calendar.apply(bearing(my_first, one_uid), bearing(mine_id, two_uid))
        )
        him = asyncio.create_task(
            colleague.apply(
                bearing(his_first, f"{two_uid}-too"), bearing(his_id, f"{one_uid}-too")
            )
        )
        await eventually(lambda: database.fetchval(SO_MANY_WAIT, 2))
    await asyncio.gather(me, him)

    assert sorted(survivor for _, survivor in await merged(database)) == sorted(
        [one, one, two, two]
    )
    keys = "select count(*) from sync.meeting_keys where meeting_id = any ($1::uuid[])"
    assert await database.fetchval(keys, [one, two]) == 4


async def test_a_call_with_ties_and_a_page_of_the_same_meetings_do_not_deadlock(
    calendar: Calendar,
    colleague: Calendar,
    database: Connection,
    connect: Connect,
) -> None:
    *_, (low, low_uid), (high, high_uid) = await apply_by_id(colleague, database, "h")
    (mine, mine_id), *_, (_, my_first) = await apply_by_id(calendar, database, "m")

    async with held_by_a_user(connect, (EDIT, [mine])):
        tied = asyncio.create_task(
            calendar.apply(bearing(my_first, high_uid), bearing(mine_id, low_uid))
        )
        await eventually(lambda: database.fetchval(SO_MANY_WAIT, 1))
        page = asyncio.create_task(
            colleague.apply(
                make_event(high_uid, title="New"), make_event(low_uid, title="New")
            )
        )
        # It waits for the call with ties, or need not.
        await eventually(lambda: page.done() or database.fetchval(SO_MANY_WAIT, 2))
    await asyncio.gather(tied, page)

    assert {survivor for _, survivor in await merged(database)} == {low, high}
    new = await database.fetch("select id from public.meetings where title = 'New'")
    assert {row["id"] for row in new} == {low, high}


async def test_a_tie_waits_for_clients_before_it_locks_meetings(
    calendar: Calendar,
    colleague: Calendar,
    database: Connection,
    connect: Connect,
) -> None:
    await colleague.apply(make_event("theirs"))
    await calendar.apply(make_event("mine"))
    (known,) = await database.fetch(
        """
        select meeting_id from public.calendar_events
        where provider_event_id = 'theirs'
        """
    )

    def guest(name: str) -> list[dict[str, str]]:
        return [{"email": f"{name}@example.com"}]

    async with held_by_a_user(connect, (NEW_CLIENT, calendar.organization_id)):
        page = asyncio.create_task(
            colleague.apply(
                make_event("theirs", title="New"),
                make_event("a", attendees=guest("ann")),
                make_event("z", attendees=guest("zoe")),
            )
        )
        await eventually(lambda: database.fetchval(SO_MANY_WAIT, 1))
        tied = asyncio.create_task(
            calendar.apply(
                bearing("mine", "theirs"), make_event("b", attendees=guest("ann"))
            )
        )
        await eventually(lambda: database.fetchval(SO_MANY_WAIT, 2))
    await asyncio.gather(page, tied)

    assert [survivor for _, survivor in await merged(database)] == [known["meeting_id"]]
