"""A booking and the event that its page made in the host's calendar are one meeting."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from providers.bookings import Booking, CalendarReference, Seats
from tests.support.bookings import GUEST, Bookings, bare, booking, next_week
from tests.support.database_clock import DatabaseClock
from tests.support.events import Calendar, make_event, meetings, mirrored, tombstone
from tests.support.eventually import eventually
from tests.support.every_order import EveryOrder
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

BY_REFERENCE = {
    "calendar_references": [CalendarReference("google_calendar", "e1")],
}
BY_ICAL_UID = {"ical_uid": "U1@Cal.com"}


@pytest.fixture
async def bookings(
    calendar: Calendar, database: Connection, worker: Connection
) -> Bookings:
    """Bookings of the organization whose calendar is pulled."""
    return await Bookings.create(
        database, worker, organization_id=calendar.organization_id
    )


def event(event_id: str = "e1", **fields: Any) -> dict[str, Any]:
    """What the booking page wrote into the calendar."""
    return make_event(
        event_id,
        **{
            "title": "Visit: Mira and Ana",
            "ical_uid": "u1@cal.com",
            "starts_at": next_week(),
            **fields,
        },
    )


@pytest.mark.parametrize("tie", [BY_REFERENCE, BY_ICAL_UID], ids=["id", "iCalUID"])
@pytest.mark.parametrize("order", list(permutations("bec")), ids="".join)
async def test_a_booking_and_its_event_are_one_meeting_whichever_comes_first(
    calendar: Calendar,
    bookings: Bookings,
    database: Connection,
    worker: Connection,
    tie: dict[str, Any],
    order: tuple[str, ...],
) -> None:
    colleague = await Calendar.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "b": lambda: bookings.tell(booking("u1", **tie)),
        "e": lambda: calendar.apply(event()),
        "c": lambda: colleague.apply(event("copy", is_organizer=False)),
    }
    for step in order:
        await steps[step]()
    (meeting,) = await meetings(database)
    assert meeting["title"] == "Visit"
    assert meeting["ends_at"] == next_week() + timedelta(minutes=30)
    assert meeting["attendee_email"] == "mira.ostrow@example.com"
    assert meeting["calendar_id"] == bookings.calendar_id
    assert meeting["client_id"] is not None
    for event_id in ("e1", "copy", "u1"):
        assert (await mirrored(database, event_id))["meeting_id"] == meeting["id"]


async def test_a_booking_that_two_accounts_tell_of_is_one_meeting(
    calendar: Calendar, bookings: Bookings, database: Connection, worker: Connection
) -> None:
    other = await Bookings.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="cohost@example.com",
    )
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    await other.tell(booking("u1", **BY_ICAL_UID))
    await other.tell(booking("u1", title="New", version="2", **BY_ICAL_UID))
    await calendar.apply(event(description="By phone"))
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["description"]) == ("New", "By phone")
    assert meeting["calendar_id"] == min(
        (bookings.calendar_id, other.calendar_id), key=str
    )


@pytest.mark.parametrize("tie", [BY_REFERENCE, BY_ICAL_UID], ids=["id", "iCalUID"])
async def test_the_older_meeting_survives(
    calendar: Calendar, bookings: Bookings, database: Connection, tie: dict[str, Any]
) -> None:
    await calendar.apply(event())
    (before,) = await meetings(database)
    await bookings.tell(booking("u1"))
    assert len(await meetings(database)) == 2
    assert await bookings.tell(booking("u1", version="2", **tie)) == {"updated": 1}
    (after,) = await meetings(database)
    assert after["id"] == before["id"]
    merged = await database.fetchval(
        "select merged_into from public.meetings where id <> $1", before["id"]
    )
    assert merged == before["id"]


async def test_what_a_first_sync_finds_of_a_booked_meeting_is_adopted(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    (before,) = await meetings(database)
    await calendar.full_round(event())
    (after,) = await meetings(database)
    assert after["id"] == before["id"]
    assert after["title"] == "Visit"


async def test_an_id_of_another_providers_calendar_ties_nothing(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await calendar.apply(event())
    elsewhere = [CalendarReference("office365_calendar", "e1")]
    await bookings.tell(booking("u1", calendar_references=elsewhere))
    assert len(await meetings(database)) == 2


async def test_two_bookings_with_one_ical_uid_are_two_meetings(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    await calendar.apply(event())
    await bookings.tell(booking("u2", **BY_ICAL_UID))
    assert len(await meetings(database)) == 2


@pytest.mark.parametrize("first", ["booking", "event"])
async def test_words_that_a_booking_does_not_tell_are_its_events(
    calendar: Calendar, bookings: Bookings, database: Connection, first: str
) -> None:
    words = event(title="Other", description="By phone", location="Room 2")
    if first == "event":
        await calendar.apply(words)
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    if first == "booking":
        await calendar.apply(words)
    (meeting,) = await meetings(database)
    assert [meeting[name] for name in ("title", "description", "location")] == [
        "Visit",
        "By phone",
        "Room 2",
    ]
    await calendar.apply(event(description="In person", location="Room 2"))
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["description"]) == ("Visit", "In person")
    # What it tells itself, counts.
    await bookings.tell(booking("u1", description="Bring the dog", version="2"))
    await calendar.apply(event(description="Whatever", location="Room 2"))
    (meeting,) = await meetings(database)
    assert meeting["description"] == "Bring the dog"
    assert meeting["location"] == "Room 2"


async def test_an_event_that_is_told_again_changes_nothing_of_a_booked_meeting(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await calendar.apply(event(description="By phone"))
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    (before,) = await meetings(database)
    assert await calendar.apply(event(description="By phone", etag='"2"')) == {}
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    (after,) = await meetings(database)
    assert dict(after) == dict(before)


async def test_an_event_that_vanishes_makes_us_ask_for_its_booking_two_minutes_later(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    await calendar.apply(event())
    assert await calendar.apply(tombstone("e1")) == {}
    (meeting,) = await meetings(database)
    assert meeting["status"] == "confirmed"
    assert (await mirrored(database, "e1"))["status"] == "cancelled"
    asked = await database.fetchrow(
        """
        select provider_id, fetch_at - now() as away from sync.bookings_to_fetch
        where connection_id = $1
        """,
        bookings.connection_id,
    )
    assert asked is not None
    assert asked["provider_id"] == "u1"
    assert timedelta(seconds=100) < asked["away"] <= timedelta(seconds=120)
    # The host was changed: another event, the same meeting.
    await calendar.apply(event("e2", ical_uid="new@cal.com"))
    other = [CalendarReference("google_calendar", "e2")]
    await bookings.tell(booking("u1", calendar_references=other, version="2"))
    assert [one["id"] for one in await meetings(database)] == [
        (await mirrored(database, "e2"))["meeting_id"]
    ]


async def test_a_cancelled_booking_cancels_and_its_event_does_not_bring_it_back(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await calendar.apply(event())
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    assert await bookings.tell(bare("u1", state="cancelled", version="2")) == {
        "cancelled": 1
    }
    assert await calendar.apply(event(title="Still here", sequence=2)) == {}
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["status"]) == ("Visit", "cancelled")
    await calendar.apply(tombstone("e1"))
    assert await database.fetch("select * from sync.bookings_to_fetch") == []


async def test_an_event_of_a_meeting_that_is_over_asks_nobody_when_it_vanishes(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    over: dict[str, Any] = {"starts_at": next_week(days=-7)}
    await bookings.tell(booking("u1", phase="ended", **over, **BY_ICAL_UID))
    await calendar.apply(event(**over))
    await calendar.apply(tombstone("e1"))
    (meeting,) = await meetings(database)
    assert meeting["status"] == "completed"
    assert await database.fetch("select * from sync.bookings_to_fetch") == []


async def test_a_declined_event_leaves_its_booked_meeting_as_it_is(
    calendar: Calendar, bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", **BY_ICAL_UID))
    await calendar.apply(event())
    (before,) = await meetings(database)
    await calendar.apply(event(own_response="declined"))
    (after,) = await meetings(database)
    assert dict(after) == dict(before)


@pytest.mark.parametrize("tie", [BY_REFERENCE, BY_ICAL_UID], ids=["id", "iCalUID"])
@pytest.mark.parametrize("ends", ["confirmed", "cancelled"])
async def test_a_booking_and_its_event_end_the_same_however_their_news_mingle(
    database: Connection, worker: Connection, tie: dict[str, Any], ends: str
) -> None:
    moved: dict[str, Any] = {"starts_at": next_week(days=8), "title": "Moved"}
    told = {
        "b": booking("u1", **tie),
        "m": booking("u2", supersedes="u1", version="2", **moved, **tie),
        "c": bare("u2", state="cancelled", version="3"),
    }
    pulled = [
        event(description="By phone"),
        event(description="By phone", starts_at=next_week(days=8), sequence=1),
        tombstone("e1", sequence=2),
    ]
    news = ["b", "m", *("c" if ends == "cancelled" else ""), *pulled]
    await DatabaseClock(database).set(datetime.now(UTC))
    calendar = await Calendar.create(database, worker)
    bookings = await Bookings.create(
        database, worker, organization_id=calendar.organization_id
    )

    async def tell(place: int) -> None:
        match news[place]:
            case str(which):
                await bookings.tell(told[which], on=database)
            case event:
                await calendar.apply(event, on=database)

    async def arrived(order: Sequence[int]) -> None:
        found = await database.fetch(
            """
            select title, starts_at, status, description, attendee_email
            from public.meetings
            where organization_id = $1 and merged_into is null
            """,
            calendar.organization_id,
        )
        assert [tuple(row) for row in found] == [
            ("Moved", moved["starts_at"], ends, "By phone", GUEST)
        ], order

    in_turn = [place for place, one in enumerate(news) if one in pulled]
    await EveryOrder(
        database, [str(one) for one in news], tell, arrived, in_turn
    ).walk()


async def test_a_thousand_guests_are_one_meeting_and_one_client(
    bookings: Bookings, database: Connection
) -> None:
    guests = [f"guest{n}@example.com" for n in range(1000)]
    await bookings.tell(booking("u1", guests=guests))
    (meeting,) = await meetings(database)
    assert meeting["attendee_email"] == GUEST
    assert await database.fetchval("select count(*) from public.clients") == 1
    attendees = json.loads((await mirrored(database, "u1"))["attendees"])
    assert len(attendees) == 1001


# Seats.


def seat(key: str, *, slot: str = "s1", **fields: Any) -> Booking:
    """An invitee of a group event."""
    return booking(
        key,
        "calendly",
        **{
            "slot_id": slot,
            "attendee_email": f"{key}@example.com",
            "attendee_name": key,
            "seats": Seats(limit=3),
            **fields,
        },
    )


@pytest.fixture
async def invitees(
    calendar: Calendar, database: Connection, worker: Connection
) -> Bookings:
    """Calendly's bookings of the organization whose calendar is pulled."""
    return await Bookings.create(
        database,
        worker,
        provider="calendly",
        organization_id=calendar.organization_id,
    )


TELLS_EVENT: dict[str, Any] = {
    "calendar_references": [CalendarReference("google", "e1")]
}


@pytest.mark.parametrize("limit", [1, 3, None], ids=["one", "three", "not told"])
@pytest.mark.parametrize("order", list(permutations("ema")), ids="".join)
async def test_every_invitee_is_a_meeting_and_their_event_is_none(
    calendar: Calendar,
    invitees: Bookings,
    database: Connection,
    limit: int | None,
    order: tuple[str, ...],
) -> None:
    many: dict[str, Any] = {"seats": Seats(limit=limit), **TELLS_EVENT}
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "e": lambda: calendar.apply(event()),
        "m": lambda: invitees.tell(seat("mira", **many)),
        "a": lambda: invitees.tell(seat("abel", **many)),
    }
    for step in order:
        await steps[step]()
    found = await meetings(database)
    assert sorted(one["attendee_name"] for one in found) == ["abel", "mira"]
    slot = await mirrored(database, "e1")
    assert (slot["role"], slot["meeting_id"]) == ("slot", None)
    keys = await database.fetch("select key from sync.meeting_keys order by key")
    assert [row["key"] for row in keys] == [
        "booking:calendly:abel",
        "booking:calendly:mira",
    ]

    # It says nothing to anybody, told anew or gone.
    before = [dict(one) for one in found]
    assert await calendar.apply(event()) == {"unchanged": 1}
    assert await calendar.apply(event(title="Other", sequence=2)) == {}
    assert await calendar.apply(tombstone("e1")) == {}
    assert [dict(one) for one in await meetings(database)] == before
    assert (await mirrored(database, "e1"))["meeting_id"] is None


@pytest.mark.parametrize("order", list(permutations("sec")), ids="".join)
async def test_a_colleagues_copy_of_a_slot_is_a_slot_too(
    calendar: Calendar,
    invitees: Bookings,
    database: Connection,
    worker: Connection,
    order: tuple[str, ...],
) -> None:
    colleague = await Calendar.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "s": lambda: invitees.tell(seat("mira", **TELLS_EVENT)),
        "e": lambda: calendar.apply(event()),
        "c": lambda: colleague.apply(event("copy", is_organizer=False)),
    }
    for step in order:
        await steps[step]()
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["attendee_name"]) == ("Visit", "mira")
    assert meeting["calendar_id"] == invitees.calendar_id
    for event_id in ("e1", "copy"):
        row = await mirrored(database, event_id)
        assert (row["role"], row["meeting_id"]) == ("slot", None)


SEATED: dict[str, Any] = {
    "slot_id": "s1",
    "calendar_references": [CalendarReference("google_calendar", "e1")],
}


async def test_a_seated_booking_and_its_event_end_the_same_in_every_order(
    database: Connection, worker: Connection
) -> None:
    mira = {"weak_key": "s1#mira", "attendee_name": "mira", **SEATED}
    told = {
        "w": [booking("s1#mira", title="Moved", version="2", **mira)],
        "m": [booking("s1#1", seat_id="1", **mira)],
        "a": [booking("s1#2", seat_id="2", attendee_name="abel", **SEATED)],
        "c": [
            booking(
                "s1",
                whole_slot=True,
                state="cancelled",
                version="3",
                title=None,
                attendee_name=None,
                attendee_email=None,
                **SEATED,
            )
        ],
    }
    seen = set()
    for order in permutations("wmace"):
        calendar = await Calendar.create(database, worker)
        bookings = await Bookings.create(
            database, worker, organization_id=calendar.organization_id
        )
        for step in order:
            if step == "e":
                await calendar.apply(event())
            else:
                await bookings.tell(*told[step])
        seen.add(await outcome(database, calendar))
    assert seen == {
        (
            "Moved mira cancelled, Visit abel cancelled",
            "booking:calcom:s1#1, booking:calcom:s1#2",
            "slot",
        )
    }


async def outcome(database: Connection, calendar: Calendar) -> tuple[str, ...]:
    """Meetings, keys of theirs, and what the calendar's event is."""
    row = await database.fetchrow(
        """
        select
          (
            select string_agg(
              concat_ws(' ', title, attendee_name, status), ', '
              order by attendee_name desc
            )
            from public.meetings where organization_id = $1 and merged_into is null
          ),
          (
            select string_agg(distinct key, ', ' order by key)
            from sync.meeting_keys
            where organization_id = $1 and key not in
              ('booking:calcom:s1', 'booking:calcom:s1#mira')
          ),
          (
            select string_agg(role, ', ') from public.calendar_events
            where calendar_id = $2 and meeting_id is null
          )
        """,
        calendar.organization_id,
        calendar.id,
    )
    assert row is not None
    return tuple(row)


async def test_the_meeting_that_a_slots_event_had_made_is_the_first_seats(
    calendar: Calendar, invitees: Bookings, database: Connection
) -> None:
    await calendar.apply(event())
    (before,) = await meetings(database)
    await invitees.tell(seat("mira", **TELLS_EVENT), seat("abel", **TELLS_EVENT))
    found = await meetings(database)
    assert len(found) == 2
    assert before["id"] in {one["id"] for one in found}
    assert await database.fetchval("select count(*) from public.meetings") == 2


async def test_one_cancelled_seat_cancels_nobody_else(
    calendar: Calendar, invitees: Bookings, database: Connection
) -> None:
    await invitees.tell(seat("mira"), seat("abel"))
    await invitees.tell(seat("mira", state="cancelled", version="2"))
    found = await meetings(database)
    assert {one["attendee_name"]: one["status"] for one in found} == {
        "mira": "cancelled",
        "abel": "confirmed",
    }


@pytest.mark.parametrize("first", ["whole", "seats"])
async def test_what_is_told_of_a_whole_slot_counts_for_each_seat(
    bookings: Bookings, database: Connection, first: str
) -> None:
    whole = booking(
        "s1", whole_slot=True, slot_id="s1", state="cancelled", version="2",
        attendee_email=None, attendee_name=None,
    )  # fmt: skip
    seats = [
        booking(f"s1#{n}", slot_id="s1", seat_id=str(n), attendee_name=str(n))
        for n in range(2)
    ]
    for told in ([whole], seats) if first == "whole" else (seats, [whole]):
        await bookings.tell(*told)
    found = await meetings(database)
    assert sorted((one["attendee_name"], one["status"]) for one in found) == [
        ("0", "cancelled"),
        ("1", "cancelled"),
    ]


@pytest.mark.parametrize("first", ["weak", "seat"])
async def test_a_seat_told_without_its_id_is_the_same_meeting_once_that_is_known(
    bookings: Bookings, database: Connection, first: str
) -> None:
    weak = booking("s1#m", weak_key="s1#m", slot_id="s1", title="New", version="2")
    known = booking("s1#7", weak_key="s1#m", slot_id="s1", seat_id="7")
    for told in (weak, known) if first == "weak" else (known, weak):
        await bookings.tell(told)
    (meeting,) = await meetings(database)
    assert meeting["title"] == "New"
    assert (await mirrored(database, "s1#7"))["meeting_id"] == meeting["id"]


# Races.

ROUNDS = 8


@pytest.mark.parametrize("tie", [BY_REFERENCE, BY_ICAL_UID], ids=["id", "iCalUID"])
async def test_a_pull_and_an_ingest_beside_each_other_make_one_meeting(
    calendar: Calendar,
    bookings: Bookings,
    database: Connection,
    connect: Connect,
    tie: dict[str, Any],
) -> None:
    other = await connect(role="sync_worker")
    for round_ in range(ROUNDS):
        uids = [f"r{round_}n{n}" for n in range(20)]
        booked = [
            booking(
                uid,
                ical_uid=f"{uid}@cal.com" if "ical_uid" in tie else None,
                calendar_references=[CalendarReference("google_calendar", uid)]
                if "calendar_references" in tie
                else None,
            )
            for uid in uids
        ]
        events = [event(uid, ical_uid=f"{uid}@cal.com") for uid in reversed(uids)]
        await asyncio.gather(bookings.tell(*booked, on=other), calendar.apply(*events))
    found = await meetings(database)
    assert len(found) == ROUNDS * 20
    assert {one["title"] for one in found} == {"Visit"}
    linked = await database.fetch(
        """
        select count(distinct calendar_id) as calendars
        from public.calendar_events group by meeting_id
        """
    )
    assert [row["calendars"] for row in linked] == [2] * (ROUNDS * 20)


async def test_two_connections_that_take_bookings_in_do_not_deadlock(
    calendar: Calendar,
    bookings: Bookings,
    invitees: Bookings,
    database: Connection,
    connect: Connect,
) -> None:
    first, second = [await connect(role="sync_worker") for _ in range(2)]
    for round_ in range(ROUNDS):
        new = {"title": str(round_), "version": str(round_)}
        mine = [booking(f"m{n}", **new) for n in range(20)]
        theirs = [
            seat(f"t{n}", slot=f"slot{n % 3}", **new) for n in reversed(range(20))
        ]
        await asyncio.gather(
            bookings.tell(*mine, on=first),
            invitees.tell(*theirs, on=second),
            calendar.apply(event(sequence=round_, title=str(round_))),
        )
    assert len(await meetings(database)) == 41


async def test_an_edit_made_while_bookings_are_applied_is_merged_and_not_lost(
    bookings: Bookings, database: Connection, connect: Connect
) -> None:
    await database.execute("update public.calendars set direction = 'two_way'")
    await bookings.tell(booking("u1"))
    editing = await connect()
    async with editing.transaction():
        await editing.execute("update public.meetings set title = 'Ours'")
        told = booking("u1", version="2", location="Room 2")
        applying = asyncio.create_task(bookings.tell(told))
        await eventually(lambda: database.fetchval(SOMEBODY_WAITS))
    await applying
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["location"]) == ("Ours", "Room 2")


SOMEBODY_WAITS = """
select exists (
  select 1 from pg_stat_activity
  where datname = current_database() and wait_event_type = 'Lock'
)
"""
