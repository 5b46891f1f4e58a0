import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.bookings import Answer, Booking, Cancellation
from providers.calcom.bookings import read_delivery
from providers.calcom.fetched import read_fetched
from providers.model import Malformed
from tests.support.booking_bodies import MONDAY, CalcomLife, millis
from tests.support.booking_join import join

MIRA, IVO = "mira.ostrow@example.com", "ivo.brandt@example.com"


def read(body: str | bytes) -> list[Booking]:
    found = read_delivery(body)
    assert isinstance(found, list), found.reason
    return found


def one(body: str | bytes) -> Booking:
    (booking,) = read(body)
    return booking


def changed(body: str, **payload: Any) -> str:
    document = json.loads(body)
    document["payload"] |= payload
    return json.dumps(document)


def seat(body: str, seat_id: str | None, email: str = MIRA, **more: Any) -> str:
    known = {"seatsPerTimeSlot": 5, "attendees": [{"email": email, "name": email}]}
    if seat_id:
        known["attendeeSeatId"] = seat_id
    return changed(body, **known, **more)


def fetched(**more: Any) -> list[Booking]:
    life = CalcomLife()
    answer = {
        "uid": life.uid,
        "title": "30 min",
        "status": "accepted",
        "start": millis(MONDAY),
        "end": millis(MONDAY + timedelta(minutes=30)),
        "updatedAt": millis(life.now),
        "hosts": [{"id": 41, "email": "host@example.com"}],
        "attendees": [{"email": MIRA, "name": "Mira Ostrow", "absent": False}],
        "location": "https://video.example.com/room-1",
        "metadata": {"barkbookPetId": "p1"},
        **more,
    }
    found = read_fetched(json.dumps(answer).encode())
    assert isinstance(found, list), found.reason
    return found


def test_a_booking_carries_what_its_payload_tells() -> None:
    life = CalcomLife()
    booking = one(life.book()[0])
    assert (booking.key, booking.state, booking.slot_id) == (
        life.uid,
        "accepted",
        None,
    )
    assert booking.told() == {
        "title": "30 min",
        "starts_at": datetime(2026, 3, 9, 14, tzinfo=UTC),
        "ends_at": datetime(2026, 3, 9, 14, 30, tzinfo=UTC),
        "meeting_url": "https://video.example.com/room-1",
        "attendee_name": "Mira Ostrow",
        "attendee_email": MIRA,
        "attendee_time_zone": "America/Chicago",
        "guests": [],
        "organizer_email": "host@example.com",
        "answers": [Answer("Dog", "Rex", "dog")],
        "metadata": {"barkbookPetId": "p1"},
        "ical_uid": "gTq7bX2mPz4Kc9Lw3RfYh1@Cal.com",
        "sequence": 0,
    }


@pytest.mark.parametrize(
    ("trigger", "status", "state"),
    [
        ("BOOKING_CREATED", "ACCEPTED", "accepted"),
        ("BOOKING_CREATED", None, "accepted"),
        ("BOOKING_REQUESTED", "PENDING", "pending"),
        ("BOOKING_PAYMENT_INITIATED", "ACCEPTED", "pending"),
        ("BOOKING_PAID", "ACCEPTED", "accepted"),
        ("BOOKING_PAID", "PENDING", "pending"),
        ("BOOKING_REJECTED", "REJECTED", "rejected"),
        ("BOOKING_CANCELLED", "CANCELLED", "cancelled"),
        ("BOOKING_CANCELLED", None, "cancelled"),
        ("BOOKING_RESCHEDULED", "PENDING", "pending"),
        ("BOOKING_CREATED", "AWAITING_HOST", "pending"),
        ("BOOKING_CREATED", "INVENTED_LATER", "accepted"),
    ],
)
def test_a_trigger_and_a_status_mean_a_state(
    trigger: str, status: str | None, state: str
) -> None:
    body = changed(CalcomLife().book()[0], status=status)
    assert one(body.replace("BOOKING_CREATED", trigger)).state == state


def test_the_metadata_of_a_payment_is_not_the_bookings() -> None:
    assert one(CalcomLife().pay()[0]).metadata is None


def test_a_move_supersedes_the_old_uid_and_one_that_keeps_it_none() -> None:
    life = CalcomLife()
    old = life.uid
    assert one(life.reschedule()[0]).supersedes == old
    kept = CalcomLife(keeps_uid=True, partial=True)
    moved = one(kept.reschedule()[0])
    assert (moved.supersedes, moved.key) == (None, kept.uid)
    assert set(moved.told()) == {"starts_at", "ends_at"}


@pytest.mark.parametrize(
    "start",
    ["2026-05-25T09:30:00Z", "2026-05-25T11:30:00+02:00", "2026-05-25T09:30:00.000Z"],
)
def test_all_three_forms_of_a_time_are_one_moment(start: str) -> None:
    booking = one(changed(CalcomLife().book()[0], startTime=start))
    assert booking.starts_at == datetime(2026, 5, 25, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("flat", [True, False])
def test_a_meeting_that_took_place_tells_nothing_else(flat: bool) -> None:
    started, ended = map(one, CalcomLife().take_place(flat=flat))
    assert (started.phase, ended.phase) == ("started", "ended")
    assert (started.state, started.told(), started.version) == ("accepted", {}, "")


def test_a_no_show_marks_its_own_attendee_only() -> None:
    life = CalcomLife()
    body = changed(life.book()[0], attendees=[{"email": MIRA}, {"email": IVO}])
    (marked,) = life.mark()
    guest = changed(marked, attendees=[{"email": IVO, "noShow": True}])
    assert [m.no_show for m in join([one(body), one(guest)])] == [False]
    assert [m.no_show for m in join([one(body), one(guest), one(marked)])] == [True]


def test_a_cancellation_tells_who_and_why() -> None:
    assert one(CalcomLife().cancel()[0]).cancellation == Cancellation(
        "Travelling", "host@example.com", "host"
    )


def test_each_seat_is_a_booking_and_one_cancelled_seat_is_one() -> None:
    life = CalcomLife()
    (body,), (end,) = life.book(), life.cancel()
    bodies = [
        seat(body, "s1"),
        seat(body, "s2", IVO),
        seat(end, "s2", IVO, cancelledBy=None),
    ]
    for order in (bodies, bodies[::-1]):
        joined = {m.current: m.state for m in join([one(b) for b in order])}
        assert joined == {
            f"{life.uid}#s1": "accepted",
            f"{life.uid}#s2": "cancelled",
        }
    assert one(bodies[2]).ask == "booking"


def test_a_seat_told_without_its_id_is_found_by_who_sits_there() -> None:
    life = CalcomLife()
    (body,), (end,) = life.book(), life.cancel()
    bodies = [seat(body, None), seat(body, "s2", IVO), seat(end, "s1")]
    for order in (bodies, bodies[::-1]):
        joined = {m.current: m.state for m in join([one(b) for b in order])}
        assert joined == {
            f"{life.uid}#s1": "cancelled",
            f"{life.uid}#s2": "accepted",
        }


def test_a_seated_booking_that_the_host_cancels_is_cancelled_for_all() -> None:
    life = CalcomLife()
    (body,), (end,) = life.book(), life.cancel()
    whole = changed(end, seatsPerTimeSlot=5, attendees=[{"email": MIRA}])
    bookings = [one(b) for b in (seat(body, "s1"), seat(body, "s2", IVO), whole)]
    assert [m.state for m in join(bookings)] == ["cancelled", "cancelled"]
    assert one(whole).ask == "booking"


def test_a_seat_keeps_its_id_when_it_is_moved() -> None:
    life = CalcomLife()
    (body,) = life.book()
    old = life.uid
    (moved,) = life.reschedule()
    assert read(seat(moved, "s1"))[0].supersedes == f"{old}#s1"
    (joined,) = join([*read(seat(moved, "s1")), one(seat(body, "s1"))])
    assert joined.current == f"{life.uid}#s1"


def test_a_seat_told_without_its_id_is_found_when_it_is_moved() -> None:
    life = CalcomLife()
    (body,), old, (moved,) = life.book(), life.uid, life.reschedule()
    for told in ([seat(body, None), seat(moved, "s1")], [seat(moved, "s1")]):
        (joined,) = join([booking for body in told for booking in read(body)])
        assert joined.current == f"{life.uid}#s1"
        assert f"{old}#s1" in joined.keys


def test_a_move_of_all_in_a_slot_is_one_of_each_and_of_nobody_who_is_not_named() -> (
    None
):
    life = CalcomLife()
    (body,), old, (moved,) = life.book(), life.uid, life.reschedule()
    crowd = [{"email": MIRA, "name": "Mira"}, {"email": IVO.upper(), "name": "Ivo"}]
    whole = changed(moved, seatsPerTimeSlot=5, attendees=crowd)
    mira, ivo = read(whole)
    assert (mira.key, mira.supersedes) == (f"{life.uid}#{MIRA}", f"{old}#{MIRA}")
    assert (ivo.key, ivo.attendee_name) == (f"{life.uid}#{IVO}", "Ivo")
    assert (ivo.answers, ivo.starts_at) == (None, life.start)
    stays = seat(body, "s3", "lena@example.com")
    bodies = [seat(body, "s1"), seat(body, None, IVO), stays, whole]
    for order in (bodies, bodies[::-1]):
        joined = join([booking for body in order for booking in read(body)])
        assert [one.current for one in joined] == [
            f"{old}#s3",
            ivo.key,
            mira.key,
        ]


def test_a_move_of_all_that_keeps_the_uid_speaks_for_the_slot() -> None:
    life = CalcomLife(keeps_uid=True)
    (moved,) = life.reschedule()
    crowd = [{"email": MIRA}, {"email": IVO}]
    whole = one(changed(moved, seatsPerTimeSlot=5, attendees=crowd))
    assert (whole.key, whole.whole_slot, whole.supersedes) == (life.uid, True, None)


def test_one_webhook_for_a_series_asks_for_the_series() -> None:
    life = CalcomLife()
    rule = {"freq": 2, "count": 4, "interval": 1}
    booked = one(changed(life.book()[0], recurringEvent=rule))
    assert (booked.ask, booked.recurs, one(life.book()[0]).recurs) == (
        "series",
        True,
        None,
    )
    cancelled = one(changed(life.cancel()[0], recurringEvent=rule))
    assert (cancelled.ask, cancelled.state) == ("series", "cancelled")
    assert one(life.book()[0]).ask is None


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("integrations:google:meet", None),
        ("Rua 1", "Rua 1"),
        ({"value": "attendeeInPerson", "optionValue": "Rua 2"}, "Rua 2"),
        (None, None),
    ],
)
def test_a_location_is_a_place_unless_it_names_an_integration(
    location: Any, place: str | None
) -> None:
    assert one(changed(CalcomLife().book()[0], location=location)).location == place


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"uid": None}, "uid is missing"),
        ({"startTime": "2026-05-25T09:30:00"}, "startTime has no offset"),
        ({"startTime": "soon"}, "startTime is not a time"),
        ({"attendees": "Mira"}, "Expected"),
        ({"metadata": ["Mira"]}, "Expected"),
    ],
)
def test_what_cannot_be_read_is_set_aside_with_a_reason_that_quotes_nothing(
    payload: dict[str, Any], reason: str
) -> None:
    found = read_delivery(changed(CalcomLife().book()[0], **payload))
    assert isinstance(found, Malformed)
    assert reason in found.reason
    assert "Mira" not in found.reason


@pytest.mark.parametrize("body", ["{", "false", "[" * 9999])
def test_what_is_no_delivery_is_set_aside(body: str) -> None:
    assert isinstance(read_delivery(body), Malformed)


def test_other_triggers_give_no_booking() -> None:
    assert read('{"triggerEvent":"OOO_CREATED","payload":{}}') == []


def test_a_thousand_attendees_are_one_booking() -> None:
    crowd = [{"email": f"a{n}@example.com", "name": "x"} for n in range(1000)]
    booking = one(changed(CalcomLife().book()[0], attendees=crowd))
    assert booking.guests is not None
    assert (booking.attendee_email, len(booking.guests)) == ("a0@example.com", 999)


def test_a_fetch_tells_the_same_booking() -> None:
    (booking,) = fetched()
    assert (booking.key, booking.state, booking.source) == (
        CalcomLife().uid,
        "accepted",
        "fetch",
    )
    assert (booking.meeting_url, booking.metadata) == (
        "https://video.example.com/room-1",
        {"barkbookPetId": "p1"},
    )


def test_a_fetch_of_the_row_before_the_cancellation_undoes_nothing() -> None:
    life = CalcomLife()
    told = [one(life.book()[0]), one(life.cancel()[0])]
    (joined,) = join([*told, *fetched()])
    assert joined.state == "cancelled"


def test_a_fetch_later_than_the_delivery_brings_what_no_webhook_tells() -> None:
    life = CalcomLife()
    booking = one(life.book()[0])
    later = fetched(updatedAt=millis(life.now + timedelta(hours=1)), title="renamed")
    earlier = fetched(updatedAt=millis(life.now - timedelta(hours=2)), title="before")
    assert join([booking, *later])[0].title == "renamed"
    assert join([booking, *earlier])[0].title == "30 min"


def test_a_fetch_of_a_moved_booking_names_who_took_over_and_cancels_nothing() -> None:
    (old,) = fetched(status="cancelled", rescheduledToUid="new")
    assert (old.state, old.moved, old.superseded_by) == ("accepted", True, "new")
    (new,) = fetched(uid="new", rescheduledFromUid=old.key)
    assert join([old, new]) == join([new, old])
    assert join([old, new])[0].current == "new"


def test_a_fetch_of_seats_tells_each() -> None:
    crowd = [{"email": MIRA, "seatUid": "s1"}, {"email": IVO, "seatUid": "s2"}]
    uid = CalcomLife().uid
    assert [(b.key, b.attendee_email, b.slot_id) for b in fetched(attendees=crowd)] == [
        (f"{uid}#s1", MIRA, uid),
        (f"{uid}#s2", IVO, uid),
    ]


def test_a_fetch_of_a_slot_that_ended_speaks_for_the_seats_that_left_it_too() -> None:
    (left,) = fetched(attendees=[{"email": MIRA, "seatUid": "s1"}])
    ended = fetched(status="cancelled", attendees=[{"email": IVO, "seatUid": "s2"}])
    assert {one.current: one.state for one in join([left, *ended])} == {
        f"{left.provider_id}#s1": "cancelled",
        f"{left.provider_id}#s2": "cancelled",
    }


def test_references_of_calendars_are_kept_and_those_of_rooms_are_not() -> None:
    answer = json.dumps({"uid": "u1"}).encode()
    known = [
        {"type": "google_calendar", "eventUid": "g1", "id": 7},
        {"type": "daily_video", "eventUid": "room"},
        {"type": "office365_calendar", "eventUid": None},
    ]
    found = read_fetched(answer, json.dumps(known).encode())
    assert isinstance(found, list)
    (references,) = [booking.calendar_references for booking in found]
    assert references is not None
    assert [(r.kind, r.external_id) for r in references] == [("google_calendar", "g1")]


@pytest.mark.parametrize(
    ("ical_uid", "sequence", "supersedes"),
    [
        ("gTq7bX2mPz4Kc9Lw3RfYhN@Cal.com", 2, "gTq7bX2mPz4Kc9Lw3RfYhN"),
        ("gTq7bX2mPz4Kc9Lw3RfYhN@Our Practice", 1, "gTq7bX2mPz4Kc9Lw3RfYhN"),
        # Not moved, or its own, or what a calendar gave it.
        ("gTq7bX2mPz4Kc9Lw3RfYhN@Cal.com", 0, None),
        ("kZx4eF9oRt6We2Ny7UhAkQ@Cal.com", 1, None),
        ("gTq7bX2mPz4Kc9Lw3RfYhN@google.com", 1, None),
        ("040000008200E00074C5B7101A82E008", 1, None),
        (None, 1, None),
    ],
)
def test_a_booking_that_was_moved_unheard_of_names_the_first_of_its_chain(
    ical_uid: str | None, sequence: int, supersedes: str | None
) -> None:
    payload = {
        "uid": "kZx4eF9oRt6We2Ny7UhAkQ",
        "iCalUID": ical_uid,
        "iCalSequence": sequence,
        "startTime": "2026-03-09T14:00:00Z",
    }
    body = json.dumps({"triggerEvent": "BOOKING_CANCELLED", "payload": payload})
    found = read_delivery(body)
    assert isinstance(found, list)
    assert [one.supersedes for one in found] == [supersedes]


def test_a_later_move_names_the_first_of_its_chain_too() -> None:
    life = CalcomLife()
    first, (moved,) = life.uid, life.reschedule()
    assert [booking.supersedes for booking in read(moved)] == [first]
    second, (moved,) = life.uid, life.reschedule()
    assert [booking.supersedes for booking in read(moved)] == [second, first]
    seated = read(seat(moved, "s1"))
    assert [booking.supersedes for booking in seated] == [f"{second}#s1", None]
