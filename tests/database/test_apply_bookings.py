"""Bookings become meetings, whatever order they are told in."""

import json
from datetime import timedelta

import pytest

from tests.support.bookings import Bookings, booking, next_week
from tests.support.events import meetings
from tests.support.sessions import Connection


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
