"""A booking that several accounts are told of: who is told last is no matter."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from providers.bookings import Booking, NoShow, Seats
from tests.support.bookings import Bookings, bare, booking, next_week
from tests.support.builders import make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.events import Calendar, make_event, meetings, mirrored, tombstone
from tests.support.every_order import EveryOrder
from tests.support.sessions import Connection

LATER = next_week(days=8)
CREATED = booking("u1")
MOVED = booking("u2", supersedes="u1", version="2", starts_at=LATER)
CANCELLED = bare("u1", state="cancelled", version="3")
MISSED = bare("u1", no_shows=[NoShow(None, True, next_week())])
CAME = bare("u1", no_shows=[NoShow(None, False, LATER)])
SLOT: dict[str, Any] = {"slot_id": "s1", "seats": Seats(limit=3)}
MIRA = booking("s1#1", seat_id="1", weak_key="s1#mira", **SLOT)
WEAK = booking("s1#mira", weak_key="s1#mira", version="2", title="New", **SLOT)
ABEL = booking("s1#2", seat_id="2", attendee_email="abel@example.com", **SLOT)
WHOLE = booking("s1", whole_slot=True, attendee_email=None, seats=Seats(limit=3))
ALL = bare("s1", whole_slot=True, state="cancelled", version="3", **SLOT)

Said = tuple[str, Booking]
# Who is told what: the host, and somebody who is host with them.
STORIES: dict[str, list[Said]] = {
    "cancelled, told to one": [
        ("host", CREATED),
        ("host", CANCELLED),
        ("cohost", CREATED),
    ],
    "moved, told to one": [("host", CREATED), ("host", MOVED), ("cohost", CREATED)],
    "moved, told to the other": [("host", CREATED), ("cohost", MOVED)],
    "moved, then cancelled": [
        ("host", CREATED),
        ("host", MOVED),
        ("cohost", MOVED),
        ("cohost", bare("u2", state="cancelled", version="3")),
    ],
    "all told to both": [
        (who, told) for who in ("host", "cohost") for told in (CREATED, MOVED)
    ],
    "missed, and not missed": [
        ("host", CREATED),
        ("host", MISSED),
        ("cohost", CREATED),
        ("cohost", CAME),
    ],
    "seats, one told to each": [("host", MIRA), ("cohost", WEAK), ("cohost", ABEL)],
    "a whole slot, told to who knows no seat": [("host", MIRA), ("cohost", ALL)],
    "a whole slot, told first to who knows no seat": [
        ("host", WHOLE),
        ("cohost", MIRA),
        ("cohost", ABEL),
    ],
}

# But for s1: what spoke for all seats before one was told leaves its key behind.
ROWS = {
    "meetings": """
select
  meeting.title, meeting.starts_at, meeting.ends_at, meeting.status,
  meeting.attendee_email, meeting.metadata, meeting.sync_state,
  client.email as client, event.provider_event_id as event,
  event.calendar_id is not distinct from meeting.calendar_id as is_in_its_calendar
from public.meetings as meeting
left join public.clients as client on client.id = meeting.client_id
left join public.calendar_events as event
  on event.id = meeting.event_id and event.meeting_id = meeting.id
where meeting.organization_id = $1 and meeting.merged_into is null
order by meeting.starts_at, meeting.attendee_email
""",
    "keys": """
select known.key, meeting.merged_into is null as leads_to_a_listed_meeting
from sync.meeting_keys as known
join public.meetings as meeting on meeting.id = known.meeting_id
where known.organization_id = $1 and known.key <> 'booking:calcom:s1'
order by known.key
""",
    "mirror": """
select provider_event_id, status, scope, ical_uid from public.calendar_events
where organization_id = $1 and provider_event_id <> 's1'
order by provider_event_id
""",
}
WHERE = """
select provider_event_id, calendar_id from public.calendar_events
where organization_id = $1 and provider_event_id <> 's1'
order by provider_event_id
"""


async def rows(database: Connection, organization_id: UUID) -> dict[str, list[Any]]:
    """What came of it all, but for the ids."""
    return {
        name: [dict(row) for row in await database.fetch(query, organization_id)]
        for name, query in ROWS.items()
    }


async def hosts(database: Connection, worker: Connection) -> dict[str, Bookings]:
    """Two accounts of an organization, both at Cal.com."""
    organization_id = await make_organization(database)
    return {
        name: await Bookings.create(
            database,
            worker,
            organization_id=organization_id,
            account_email=f"{name}@example.com",
        )
        for name in ("host", "cohost")
    }


@pytest.mark.parametrize("story", STORIES)
async def test_what_two_accounts_are_told_is_what_one_that_is_told_all_of_it_has(
    database: Connection, worker: Connection, story: str
) -> None:
    await DatabaseClock(database).set(datetime.now(UTC))
    said = STORIES[story]
    alone = await Bookings.create(database, worker)
    await alone.tell(*(told for _, told in said))
    expected = await rows(database, alone.organization_id)
    accounts = await hosts(database, worker)
    organization_id = accounts["host"].organization_id
    places = set()

    async def tell(place: int) -> None:
        who, told = said[place]
        await accounts[who].tell(told, on=database)

    async def arrived(order: Sequence[int]) -> None:
        assert await rows(database, organization_id) == expected, order
        places.add(tuple(await database.fetch(WHERE, organization_id)))

    await EveryOrder(database, [str(one) for one in said], tell, arrived).walk()
    assert len(places) == 1


async def test_two_accounts_bookings_and_their_event_end_the_same_however_they_mingle(
    database: Connection, worker: Connection
) -> None:
    await DatabaseClock(database).set(datetime.now(UTC))
    accounts = await hosts(database, worker)
    calendar = await Calendar.create(
        database, worker, organization_id=accounts["host"].organization_id
    )
    tie: dict[str, Any] = {"ical_uid": "U1@Cal.com"}
    pulled = make_event(
        "e1", ical_uid="u1@cal.com", starts_at=LATER, description="By phone"
    )
    news: list[Said | dict[str, Any]] = [
        ("host", replace(CREATED, **tie)),
        ("host", replace(MOVED, **tie)),
        ("cohost", replace(CREATED, **tie)),
        pulled,
        tombstone("e1", sequence=2),
    ]

    async def tell(place: int) -> None:
        match news[place]:
            case (who, told):
                await accounts[who].tell(told, on=database)
            case event:
                await calendar.apply(event, on=database)

    async def arrived(order: Sequence[int]) -> None:
        (meeting,) = await meetings(database)
        found = [meeting[name] for name in ("starts_at", "status", "description")]
        assert found == [LATER, "confirmed", "By phone"], order

    deliveries = [str(one) for one in news]
    await EveryOrder(database, deliveries, tell, arrived, in_turn=[3, 4]).walk()


async def test_all_accounts_that_are_told_are_asked_when_the_event_vanishes(
    database: Connection, worker: Connection
) -> None:
    accounts = await hosts(database, worker)
    calendar = await Calendar.create(
        database, worker, organization_id=accounts["host"].organization_id
    )
    for account in accounts.values():
        await account.tell(replace(CREATED, ical_uid="U1@Cal.com"))
    await calendar.apply(make_event("e1", ical_uid="u1@cal.com", starts_at=LATER))
    await calendar.apply(tombstone("e1"))
    asked = await database.fetch(
        "select connection_id, provider_id from sync.bookings_to_fetch"
    )
    assert {tuple(one) for one in asked} == {
        (account.connection_id, "u1") for account in accounts.values()
    }


async def test_a_booking_of_another_organization_is_another(
    database: Connection, worker: Connection
) -> None:
    ours = await Bookings.create(database, worker)
    theirs = await Bookings.create(database, worker, account_email="eve@example.com")
    await ours.tell(CREATED, MIRA)
    await theirs.tell(
        replace(CREATED, state="cancelled", version="9"),
        replace(MOVED, version="9"),
        ALL,
        replace(ABEL, title="Theirs"),
    )
    found = await database.fetch(
        """
        select title, status, starts_at from public.meetings
        where organization_id = $1 order by title
        """,
        ours.organization_id,
    )
    assert [tuple(one) for one in found] == [("Visit", "confirmed", next_week())] * 2


@pytest.mark.parametrize(
    "change",
    [
        "update public.calendars set sync_enabled = id = $1",
        """
        insert into sync.credentials (connection_id, key_id, ciphertext)
        select calendar.connection_id, 'k', 'c' from public.calendars as calendar
        where calendar.id = $1
        """,
    ],
    ids=["switched off", "webhooks alone"],
)
async def test_a_booking_stands_with_an_account_that_syncs_and_can_ask(
    database: Connection, worker: Connection, change: str
) -> None:
    accounts = await hosts(database, worker)
    first, second = sorted(accounts.values(), key=lambda one: str(one.calendar_id))
    for account in (first, second):
        await account.tell(CREATED)
    found = await meetings(database)
    assert [one["calendar_id"] for one in found] == [first.calendar_id]
    await database.execute(change, second.calendar_id)
    await second.tell(replace(CREATED, title="New", version="2"))
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["calendar_id"]) == ("New", second.calendar_id)
    assert (await mirrored(database, "u1"))["calendar_id"] == second.calendar_id


async def test_what_both_accounts_are_told_at_once_is_applied_without_a_deadlock(
    database: Connection,
    worker: Connection,
    connect: Callable[..., Awaitable[Connection]],
) -> None:
    accounts = await hosts(database, worker)
    calendar = await Calendar.create(
        database, worker, organization_id=accounts["host"].organization_id
    )
    sessions = [await connect(role="sync_worker") for _ in accounts]
    for round_ in range(8):
        new = {"title": str(round_), "version": str(round_)}
        told = [booking(f"m{n}", ical_uid=f"m{n}@cal.com", **new) for n in range(20)]
        await asyncio.gather(
            accounts["host"].tell(*told, on=sessions[0]),
            accounts["cohost"].tell(*reversed(told), on=sessions[1]),
            calendar.apply(make_event("e1", ical_uid="m1@cal.com", sequence=round_)),
        )
    found = await meetings(database)
    assert {one["title"] for one in found} == {"7"}
    assert len(found) == 20
