import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from providers.bookings import Answer, Booking, Cancellation, NoShow, Seats
from providers.calendly.bookings import read_delivery, read_fetched
from providers.model import Malformed, Provider
from tests.support.booking_bodies import HOST, CalendlyLife, micros


def one(body: str | bytes) -> Booking:
    found = read_delivery(body)
    assert isinstance(found, list), found.reason
    (booking,) = found
    return booking


def changed(body: str, **payload: Any) -> str:
    document = json.loads(body)
    document["payload"] |= payload
    return json.dumps(document)


def with_event(body: str, **event: Any) -> str:
    document = json.loads(body)
    document["payload"]["scheduled_event"] |= event
    return json.dumps(document)


def test_a_booking_carries_what_its_invitee_and_its_event_tell() -> None:
    life = CalendlyLife()
    (body,) = life.book()
    booking = one(body)
    assert (booking.provider, booking.key) == (Provider.CALENDLY, life.uri)
    assert (booking.state, booking.slot_id) == ("accepted", life.event)
    assert booking.told() == {
        "title": "Planning call",
        "starts_at": datetime(2026, 3, 9, 14, tzinfo=UTC),
        "ends_at": datetime(2026, 3, 9, 14, 30, tzinfo=UTC),
        "meeting_url": "https://meet.example.com/abc",
        "link_pending": False,
        "attendee_name": "Mira Ostrow",
        "attendee_email": "mira.ostrow@example.com",
        "attendee_time_zone": "Europe/Lisbon",
        "guests": [],
        "organizer_email": "host@example.com",
        "organizer_id": HOST,
        "answers": [Answer("What to prepare?", "Q2")],
        "tracking": {"utm_campaign": "spring"},
        "seats": Seats(1, 1),
    }
    assert set(booking.told()) < set(json.loads(msgspec.json.encode(booking)))


def test_a_move_links_both_ways_and_cancels_nothing() -> None:
    life = CalendlyLife()
    old = life.uri
    canceled, created = map(one, life.reschedule())
    assert (canceled.key, canceled.superseded_by) == (old, life.uri)
    assert (canceled.state, canceled.moved, canceled.ask) == ("accepted", True, None)
    assert (created.key, created.supersedes, created.moved) == (life.uri, old, False)


def test_a_move_that_does_not_say_whereto_asks_for_the_booking() -> None:
    canceled = one(changed(CalendlyLife().reschedule()[0], new_invitee=None))
    assert (canceled.moved, canceled.state, canceled.ask) == (
        True,
        "accepted",
        "booking",
    )


def test_a_cancellation_tells_who_and_why_whatever_the_event_says() -> None:
    booking = one(CalendlyLife(limit=5).cancel()[0])
    assert booking.state == "cancelled"
    assert booking.cancellation == Cancellation("Clash", "Mira Ostrow", "invitee")


def test_a_canceled_that_shows_an_active_invitee_is_a_cancellation_all_the_same() -> (
    None
):
    assert one(changed(CalendlyLife().cancel()[0], status="active")).state == (
        "cancelled"
    )


def test_a_mark_has_the_time_it_was_made_and_its_end_the_time_it_was_told() -> None:
    life = CalendlyLife()
    marked, unmarked = one(life.mark()[0]), one(life.unmark()[0])
    (mark,), (end,) = marked.no_shows, unmarked.no_shows
    assert (mark.email, mark.marked, end.marked) == (None, True, False)
    assert mark.at < end.at


def test_a_mark_that_is_still_shown_when_it_is_taken_back_is_taken_back() -> None:
    life = CalendlyLife()
    life.mark()
    shown = life.no_show
    (end,) = one(changed(life.unmark()[0], no_show=shown)).no_shows
    assert not end.marked


def test_a_mark_that_is_taken_back_is_so_since_the_invitee_changed_last() -> None:
    life = CalendlyLife()
    (unmarked,) = life.unmark()
    unmarked_at = life.now
    assert one(life.retried(unmarked)) == one(unmarked)
    assert one(unmarked).no_shows == [NoShow(None, False, unmarked_at)]


def test_a_mark_that_is_named_when_it_is_taken_back_ends_right_after_it_was_made() -> (
    None
):
    life = CalendlyLife()
    (marked,) = life.mark()
    named = {"no_show": life.no_show, "updated_at": micros(life.now)}
    (unmarked,) = life.unmark()
    (made,), (end,) = one(marked).no_shows, one(changed(unmarked, **named)).no_shows
    assert end.at - made.at == timedelta.resolution


def test_who_has_not_changed_since_before_the_meeting_is_unmarked_when_it_is_sent() -> (
    None
):
    life = CalendlyLife()
    (unmarked,) = life.unmark()
    life.now = life.start
    (end,) = one(life.retried(unmarked)).no_shows
    assert micros(end.at) == micros(life.now)


@pytest.mark.parametrize(
    ("location", "place", "url", "pending"),
    [
        ({"type": "physical", "location": "Rua 1"}, "Rua 1", None, False),
        ({"type": "zoom", "status": "initiated", "join_url": None}, None, None, True),
        (
            {"type": "zoom_conference", "status": "pushed", "join_url": "https://z/1"},
            None,
            "https://z/1",
            False,
        ),
        (
            {"type": "custom", "location": "https://x/y"},
            "https://x/y",
            "https://x/y",
            0,
        ),
        ({"type": "zoom", "join_url": "javascript:alert(1)"}, None, None, False),
        (None, None, None, None),
    ],
)
def test_a_location_is_a_place_or_a_link_or_a_link_to_come(
    location: Any, place: str | None, url: str | None, pending: bool | None
) -> None:
    booking = one(with_event(CalendlyLife().book()[0], location=location))
    assert (booking.location, booking.meeting_url) == (place, url)
    assert booking.link_pending == pending


def test_the_number_that_the_host_calls_is_the_invitees() -> None:
    call = {"type": "outbound_call", "location": "+351 21 000"}
    booking = one(with_event(CalendlyLife().book()[0], location=call))
    assert booking.attendee_phone == "+351 21 000"


def test_a_name_told_in_two_halves_is_one() -> None:
    booking = one(changed(CalendlyLife().book()[0], name=None))
    assert booking.attendee_name == "Mira Ostrow"


def test_one_without_its_event_tells_less_and_is_a_booking_all_the_same() -> None:
    booking = one(changed(CalendlyLife().book()[0], scheduled_event=None))
    assert booking.state == "accepted"
    assert "starts_at" not in booking.told()


def test_a_later_change_of_the_event_alone_outranks() -> None:
    (body,) = CalendlyLife().book()
    later = with_event(body, updated_at="2026-03-05T00:00:00.000000Z", name="x")
    assert one(later).version > one(body).version


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"uri": ""}, "uri is missing"),
        ({"name": 7}, "Expected"),
        ({"updated_at": "soon"}, "updated_at is not a time"),
        ({"scheduled_event": []}, "Expected"),
        ({"scheduled_event": {"start_time": "2026-03-09T14:00:00"}}, "no offset"),
        ({"scheduled_event": {"start_time": "0001-01-01T00:00:00+14:00"}}, "time"),
    ],
)
def test_what_cannot_be_read_is_set_aside_with_a_reason_that_quotes_nothing(
    payload: dict[str, Any], reason: str
) -> None:
    found = read_delivery(changed(CalendlyLife().book()[0], **payload))
    assert isinstance(found, Malformed)
    assert reason in found.reason
    assert "Mira" not in found.reason


@pytest.mark.parametrize("body", ["{", "[]", '{"event":"invitee.created"}', "[" * 9999])
def test_what_is_no_delivery_is_set_aside(body: str) -> None:
    assert isinstance(read_delivery(body), Malformed)


def test_other_triggers_give_no_booking() -> None:
    assert read_delivery('{"event":"event_type.created","payload":{}}') == []


def test_a_fetch_tells_the_same_and_the_id_in_the_hosts_calendar() -> None:
    payload = json.loads(CalendlyLife().book()[0])["payload"]
    event = payload.pop("scheduled_event")
    event["calendar_event"] = {"kind": "google", "external_id": "abc123"}
    fetched = read_fetched(json.dumps(payload).encode(), json.dumps(event).encode())
    delivered = one(CalendlyLife().book()[0])
    assert isinstance(fetched, Booking)
    assert (fetched.source, fetched.key) == ("fetch", delivered.key)
    told = fetched.told()
    (reference,) = told.pop("calendar_references")  # type: ignore[misc]
    assert (reference.kind, reference.external_id) == ("google", "abc123")
    assert told == delivered.told()


def test_no_mark_is_as_old_as_the_invitee_so_that_a_fetch_cannot_undo_a_later_one() -> (
    None
):
    life = CalendlyLife()
    (body,) = life.book()
    at = datetime.fromisoformat(json.loads(body)["payload"]["updated_at"])
    assert one(body).no_shows == [NoShow(None, False, at)]
    assert micros(at) == micros(life.now)
