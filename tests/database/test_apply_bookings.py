"""Bookings become meetings, whatever order they are told in."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from msgspec.structs import replace

from providers.bookings import NoShow
from tests.support.bookings import Bookings, bare, booking, next_week
from tests.support.builders import make_organization
from tests.support.events import meetings
from tests.support.sessions import Connection

LAST_WEEK = next_week(days=-7)
MISSED = NoShow(None, True, next_week())


@pytest.fixture
async def bookings(database: Connection, worker: Connection) -> Bookings:
    """A connection to Cal.com, its bookings being taken in."""
    return await Bookings.create(database, worker)


async def test_a_booking_becomes_a_meeting_with_all_that_it_tells(
    bookings: Bookings, database: Connection
) -> None:
    counts = await bookings.tell(
        booking(
            "u1",
            description="Bring the dog",
            location="12 High Street",
            meeting_url="https://video.example.com/1",
            attendee_phone="+44 1",
            metadata={"pet": "p1"},
            tracking={"utm_source": "mail"},
        )
    )
    assert counts == {"created": 1}
    (meeting,) = await meetings(database)
    assert meeting["title"] == "Visit"
    assert meeting["description"] == "Bring the dog"
    assert meeting["location"] == "12 High Street"
    assert meeting["starts_at"] == next_week()
    assert meeting["ends_at"] == next_week() + timedelta(minutes=30)
    assert meeting["status"] == "confirmed"
    assert meeting["meeting_url"] == "https://video.example.com/1"
    assert meeting["attendee_name"] == "Mira Ostrow"
    assert meeting["attendee_email"] == "mira.ostrow@example.com"
    assert meeting["attendee_phone"] == "+44 1"
    assert meeting["calendar_id"] == bookings.calendar_id
    metadata = json.loads(meeting["metadata"])
    assert metadata["pet"] == "p1"
    assert metadata["booking"]["id"] == "u1"
    assert metadata["booking"]["tracking"] == {"utm_source": "mail"}
    client = await database.fetchrow("select * from public.clients")
    assert client is not None
    assert client["id"] == meeting["client_id"]
    assert client["email"] == "mira.ostrow@example.com"


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"state": "pending"}, "tentative"),
        ({"state": "accepted"}, "confirmed"),
        ({"state": None}, "confirmed"),
        ({"state": "rejected"}, "cancelled"),
        ({"state": "cancelled"}, "cancelled"),
        ({"phase": "started"}, "confirmed"),
        ({"phase": "ended", "starts_at": LAST_WEEK}, "completed"),
        ({"phase": "ended", "state": "pending", "starts_at": LAST_WEEK}, "completed"),
        ({"phase": "ended"}, "confirmed"),
        ({"phase": "ended", "state": "pending"}, "confirmed"),
        ({"phase": "ended", "state": "cancelled"}, "cancelled"),
        ({"state": "cancelled", "no_shows": [MISSED]}, "no_show"),
        ({"phase": "ended", "no_shows": [MISSED]}, "no_show"),
    ],
)
async def test_a_meeting_has_the_status_of_its_booking(
    bookings: Bookings, database: Connection, told: dict[str, Any], status: str
) -> None:
    await bookings.tell(booking("u1", **told))
    assert await statuses(database) == [status]


async def test_a_no_show_that_is_taken_back_returns_to_the_bookings_status(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1"))
    await bookings.tell(bare("u1", no_shows=[MISSED]))
    assert await statuses(database) == ["no_show"]
    came = NoShow(None, False, MISSED.at + timedelta(hours=1))
    await bookings.tell(bare("u1", no_shows=[came]))
    assert await statuses(database) == ["confirmed"]


@pytest.mark.parametrize("is_told_first", [True, False])
async def test_a_booking_that_is_put_off_under_its_key_has_not_ended(
    bookings: Bookings, database: Connection, is_told_first: bool
) -> None:
    before = booking("u1", starts_at=LAST_WEEK)
    put_off = booking("u1", version="2")
    ended = bare("u1", phase="ended")
    for told in (before, ended, put_off) if is_told_first else (before, put_off, ended):
        await bookings.tell(told)
    assert await statuses(database) == ["confirmed"]
    await bookings.tell(booking("u1", version="3", title="Later"))
    assert await statuses(database) == ["confirmed"]


async def test_a_booking_that_is_moved_starts_afresh(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", starts_at=LAST_WEEK, phase="ended"))
    assert await statuses(database) == ["completed"]
    await bookings.tell(booking("u2", supersedes="u1"))
    await bookings.tell(bare("u1", phase="ended", version="2"))
    await bookings.tell(booking("u2", version="2", title="Later"))
    assert await statuses(database) == ["confirmed"]


@pytest.mark.parametrize("ours", ["completed", "no_show"])
@pytest.mark.parametrize("direction", ["two_way", "inbound"])
async def test_a_status_that_a_user_gave_a_meeting_stays(
    bookings: Bookings, database: Connection, ours: str, direction: str
) -> None:
    await database.execute("update public.calendars set direction = $1", direction)
    await bookings.tell(booking("u1"))
    await database.execute("update public.meetings set status = $1", ours)
    for version, title in (("2", "New"), ("3", "Newer")):
        await bookings.tell(booking("u1", title=title, version=version))
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["status"]) == ("Newer", ours)


async def test_what_time_completed_is_a_no_show_once_its_booking_says_so(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1"))
    async with database.transaction():
        await database.execute("set local role sync_engine")
        await database.execute("update public.meetings set status = 'completed'")
    await bookings.tell(bare("u1", no_shows=[MISSED]))
    assert await statuses(database) == ["no_show"]


async def test_what_a_user_edited_is_merged_and_not_overwritten(
    bookings: Bookings, database: Connection
) -> None:
    await database.execute("update public.calendars set direction = 'two_way'")
    await bookings.tell(booking("u1"))
    await database.execute("update public.meetings set title = 'Ours'")
    await bookings.tell(
        booking("u1", version="2", location="Room 2", attendee_phone="+44 1")
    )
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["location"]) == ("Ours", "Room 2")
    assert meeting["attendee_phone"] == "+44 1"


async def test_a_phone_number_that_a_user_wrote_stays(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", attendee_phone="+44 1"))
    await bookings.tell(booking("u1", attendee_phone="+44 2", version="2"))
    assert (await meetings(database))[0]["attendee_phone"] == "+44 2"
    await database.execute("update public.meetings set attendee_phone = '+44 3'")
    await bookings.tell(booking("u1", attendee_phone="+44 4", version="3"))
    assert (await meetings(database))[0]["attendee_phone"] == "+44 3"


async def test_metadata_of_the_application_stays_and_told_metadata_is_replaced(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", metadata={"pet": "p1", "farm": "f1"}))
    await database.execute(
        """update public.meetings set metadata = metadata || '{"room": "3"}'"""
    )
    await bookings.tell(booking("u1", metadata={"pet": "p2"}, version="2"))
    metadata = json.loads((await meetings(database))[0]["metadata"])
    metadata.pop("booking")
    assert metadata == {"pet": "p2", "room": "3"}


async def test_a_booking_without_a_start_waits_for_it(
    bookings: Bookings, database: Connection
) -> None:
    assert await bookings.tell(bare("u1", no_shows=[MISSED])) == {"unchanged": 1}
    assert await meetings(database) == []
    await bookings.tell(booking("u1"))
    assert await statuses(database) == ["no_show"]


async def test_the_hosts_own_address_is_nobodys_client(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", attendee_email="Host@Example.com"))
    (meeting,) = await meetings(database)
    assert (meeting["client_id"], meeting["attendee_email"]) == (None, None)
    assert await database.fetchval("select count(*) from public.clients") == 0


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            {"ends_at": next_week() - timedelta(hours=1)},
            "its end is before its start",
        ),
        ({"title": "x" * 10_001}, "its title has 10001 characters"),
        ({"ical_uid": "x" * 1025}, "its iCalUID has 1025 bytes"),
        ({"slot_id": "x" * 1025}, "its id has 1025 bytes"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_the_others_go_on(
    bookings: Bookings, database: Connection, bad: dict[str, Any], reason: str
) -> None:
    counts = await bookings.tell(booking("u1"), booking("u2", **bad), booking("u3"))
    assert counts == {
        "created": 2,
        "set_aside": 1,
        "refused": [{"place": 2, "key": "u2", "reason": reason}],
    }
    aside = await database.fetch("select * from sync.set_aside_events")
    assert [(one["provider_event_id"], one["reason"]) for one in aside] == [
        ("u2", reason)
    ]


@pytest.mark.parametrize(
    ("zone", "kept"),
    [
        ("Europe/Vienna", True),
        ("US/Eastern", True),
        ("Etc/GMT+5", True),
        ("GMT", True),
        ("UTC", True),
        ("Mars/Olympus", False),
        ("Eastern Standard Time", False),
        ("EST+5", False),
        ("x" * 3000, False),
    ],
)
async def test_an_invitees_clock_refuses_no_booking_and_is_kept_where_it_is_known(
    bookings: Bookings, database: Connection, zone: str, kept: bool
) -> None:
    assert await bookings.tell(booking("u1", attendee_time_zone=zone)) == {"created": 1}
    (meeting,) = await meetings(database)
    told = json.loads(meeting["metadata"])["booking"]
    assert told.get("attendee_time_zone") == (zone if kept else None)


async def test_a_booking_that_comes_again_well_is_not_set_aside_any_more(
    bookings: Bookings, database: Connection
) -> None:
    await bookings.tell(booking("u1", title="x" * 10_001))
    assert await bookings.tell(booking("u1", version="2")) == {"created": 1}
    assert await database.fetch("select * from sync.set_aside_events") == []


async def test_telling_the_same_again_writes_nothing_and_tells_nobody(
    bookings: Bookings, database: Connection
) -> None:
    told = [booking(f"u{n}", metadata={"pet": f"p{n}"}) for n in range(3)]
    await bookings.tell(*told, bare("u1", state="cancelled"))
    before = await rows_written(database)
    assert await bookings.tell(*told) == {"unchanged": 3}
    # New words, but nothing new in them.
    later = [replace(one, version="2", as_of=MISSED.at) for one in told[:1]]
    assert await bookings.tell(*later) == {"unchanged": 1}
    assert await rows_written(database) == before


async def rows_written(database: Connection) -> list[Any]:
    """Which rows were written by whom: nothing that is written stays the same."""
    return [
        await database.fetch(f"select ctid::text, xmin::text from {table}")
        for table in (
            "public.meetings",
            "public.clients",
            "public.pipeline",
            "public.calendar_events",
            "public.calendars",
            "public.meeting_history",
            "sync.meeting_keys",
            "realtime.messages",
        )
    ]


async def test_a_delivery_is_settled_with_the_bookings_it_told(
    bookings: Bookings, database: Connection
) -> None:
    await database.execute(
        """
        insert into sync.delivery_states (delivery_id, received_at, connection_id)
        values (12, now(), $1)
        """,
        bookings.connection_id,
    )
    await bookings.tell(
        booking("u1"), settled=[{"id": 12, "state": "done", "error": None}]
    )
    state = await database.fetchval("select state from sync.delivery_states")
    assert state == "done"


async def test_a_worker_whose_lease_is_gone_applies_nothing(
    bookings: Bookings, database: Connection
) -> None:
    bookings.lease = uuid4()
    with pytest.raises(asyncpg.PostgresError, match="lease") as refused:
        await bookings.tell(booking("u1"))
    assert refused.value.sqlstate == "CS001"
    assert await meetings(database) == []


async def test_bookings_of_a_connection_without_a_calendar_get_one(
    bookings: Bookings, database: Connection
) -> None:
    await database.execute("delete from public.calendars")
    await bookings.tell(booking("u1"))
    await bookings.tell(booking("u2"))
    kinds = await database.fetch("select kind from public.calendars")
    assert [row["kind"] for row in kinds] == ["bookings"]
    assert len(await meetings(database)) == 2


async def test_a_client_of_another_organization_is_not_linked(
    bookings: Bookings, database: Connection
) -> None:
    theirs = await database.fetchval(
        """
        insert into public.clients (organization_id, email, external_refs)
        values ($1, 'them@example.com', '{"crm": "c1"}') returning id
        """,
        await make_organization(database),
    )
    await database.execute(
        """
        insert into public.reference_mappings
          (connection_id, organization_id, metadata_key, reference)
        values ($1, $2, 'crmId', 'crm')
        """,
        bookings.connection_id,
        bookings.organization_id,
    )
    await bookings.tell(booking("u1", metadata={"crmId": "c1"}))
    (meeting,) = await meetings(database)
    client = await database.fetchrow(
        "select * from public.clients where id = $1", meeting["client_id"]
    )
    assert client is not None
    assert client["id"] != theirs
    assert client["organization_id"] == bookings.organization_id
    assert client["email"] == "mira.ostrow@example.com"


async def statuses(database: Connection) -> list[str]:
    return [meeting["status"] for meeting in await meetings(database)]
