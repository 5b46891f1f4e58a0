"""Cal.com's deliveries in our words: one of them may tell of several bookings.

Deliveries name a trigger, a booking's uid, and mostly not more than they must. Within
a uid the calendar's sequence orders what they tell, then the trigger, then the time of
sending: none of them alone is to be trusted.
"""

import re
from datetime import datetime
from typing import Any, Final

import msgspec

from providers.bookings import Booking, BookingState, NoShow, Phase, Seats
from providers.calcom import resources
from providers.calcom.fields import (
    answers,
    cancellation,
    guests,
    link,
    metadata,
    person_fields,
    phone,
    place,
    references,
    series_of,
)
from providers.model import Malformed, Provider
from providers.reading import Unreadable, instant, text

CANCELLED: Final = "BOOKING_CANCELLED"
RESCHEDULED: Final = "BOOKING_RESCHEDULED"
NO_SHOW: Final = "BOOKING_NO_SHOW_UPDATED"
PAYMENT_DUE: Final = "BOOKING_PAYMENT_INITIATED"
PAID: Final = "BOOKING_PAID"
PHASES: Final[dict[str, Phase]] = {
    "MEETING_STARTED": "started",
    "MEETING_ENDED": "ended",
}
# A trigger, the state it means where the payload names none, and its place among those
# of the same sequence.
BOOKED: Final[dict[str, tuple[BookingState, int]]] = {
    "BOOKING_REQUESTED": ("pending", 0),
    PAYMENT_DUE: ("pending", 0),
    "BOOKING_CREATED": ("accepted", 1),
    PAID: ("accepted", 1),
    RESCHEDULED: ("accepted", 2),
    "BOOKING_REJECTED": ("rejected", 3),
    CANCELLED: ("cancelled", 3),
}
TRIGGERS: Final = frozenset({*BOOKED, *PHASES, NO_SHOW})
STATES: Final[dict[str, BookingState]] = {
    "accepted": "accepted",
    "pending": "pending",
    "awaiting_host": "pending",
    "rejected": "rejected",
    "cancelled": "cancelled",
}
# These mean a state whatever the payload says: "ACCEPTED" while a payment is due, say.
DECIDED: Final = frozenset({
    "BOOKING_REQUESTED", PAYMENT_DUE, "BOOKING_REJECTED", CANCELLED
})  # fmt: skip

# Cal.com's own iCalUID: the uid, and the name of the installation. Calendars may put
# theirs in its place, which name no booking.
FIRST_UID: Final = re.compile(
    r"(?P<uid>[1-9A-HJ-NP-Za-km-z]{21,22})@(?!google\.com$).+"
)

_envelope_decoder = msgspec.json.Decoder(resources.Envelope)
_payload_decoder = msgspec.json.Decoder(resources.Payload)


def read_delivery(body: str | bytes) -> list[Booking] | Malformed:
    """Understand what a webhook posted; what is no booking gives none."""
    try:
        delivery = _envelope_decoder.decode(body)
        if delivery.trigger_event not in TRIGGERS:
            return []
        flat = not delivery.payload
        raw = msgspec.Raw(_bytes(body)) if flat else delivery.payload
        payload = _payload_decoder.decode(raw)
        # A flat body's createdAt is the booking's own.
        sent_at = None if flat else instant(delivery.created_at, "createdAt")
        return [_delivered(delivery.trigger_event, payload, sent_at, raw)]
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        reason = str(problem) or type(problem).__name__
        return Malformed(None, reason, msgspec.Raw(_bytes(body)))


def _delivered(
    trigger: str, payload: resources.Payload, sent_at: datetime | None, raw: msgspec.Raw
) -> Booking:
    uid = payload.uid or payload.booking_uid
    if not uid:
        raise Unreadable("uid is missing")
    if trigger == NO_SHOW:
        return _no_show(uid, payload, sent_at, raw)
    if trigger in PHASES:
        # A snapshot from when the booking was made: only that it takes place is news.
        return _bare(
            uid, trigger, sent_at, raw, state=_state_of(payload), phase=PHASES[trigger]
        )
    return _booked(uid, trigger, payload, sent_at, raw)


def _bare(
    uid: str,
    trigger: str,
    sent_at: datetime | None,
    raw: msgspec.Raw,
    *,
    state: BookingState | None = None,
    phase: Phase | None = None,
    no_shows: list[NoShow] | None = None,
) -> Booking:
    """Tell one thing of a booking; where it is seated, of every seat."""
    return Booking(
        provider=Provider.CALCOM,
        key=uid,
        provider_id=uid,
        source="delivery",
        trigger=trigger,
        as_of=sent_at,
        whole_slot=True,
        state=state,
        phase=phase,
        no_shows=no_shows or [],
        raw=raw,
    )


def _no_show(
    uid: str, payload: resources.Payload, sent_at: datetime | None, raw: msgspec.Raw
) -> Booking:
    if sent_at is None:
        raise Unreadable("createdAt is missing")
    marks = [
        NoShow(text(person.email), bool(person.no_show), sent_at)
        for person in payload.attendees or []
    ]
    return _bare(uid, NO_SHOW, sent_at, raw, no_shows=marks)


def _booked(
    uid: str,
    trigger: str,
    payload: resources.Payload,
    sent_at: datetime | None,
    raw: msgspec.Raw,
) -> Booking:
    state, place_among = BOOKED[trigger]
    if trigger not in DECIDED:
        state = _state_of(payload) or state
    booker = next(iter(payload.attendees or []), resources.Person())
    seat = _seat(uid, trigger, payload, booker)
    old = text(payload.reschedule_uid)
    if old is None and seat.slot_id is None and payload.ical_sequence:
        old = _first_of_chain(payload.ical_uid)
    moved_from = None if old is None or old == uid else seat.key_in(old)
    sequence = payload.ical_sequence
    host = payload.organizer or resources.Person()
    return Booking(
        provider=Provider.CALCOM,
        key=seat.key,
        provider_id=uid,
        source="delivery",
        trigger=trigger,
        version=_version(sequence, place_among, sent_at),
        as_of=sent_at,
        weak_key=seat.weak_key,
        slot_id=seat.slot_id,
        seat_id=seat.seat_id,
        whole_slot=seat.whole_slot,
        supersedes=moved_from,
        ask=_ask(trigger, payload, seat),
        state=state,
        title=text(payload.title),
        description=text(payload.description) or text(payload.additional_notes),
        starts_at=instant(payload.start_time, "startTime"),
        ends_at=instant(payload.end_time, "endTime"),
        location=place(payload.location),
        meeting_url=link(payload.location, payload.metadata, payload.video_call_data),
        **person_fields(None if seat.whole_slot else booker, phone(payload, booker)),
        guests=None if seat.slot_id else guests(payload.attendees),
        organizer_email=text(host.email),
        answers=answers(payload),
        # A payment's delivery has facts of the payment in their place.
        metadata=None if trigger == PAID else metadata(payload.metadata),
        cancellation=cancellation(
            payload.cancellation_reason or payload.rejection_reason,
            payload.cancelled_by,
            host.email,
        ),
        calendar_references=references(payload.references),
        ical_uid=text(payload.ical_uid),
        sequence=sequence,
        seats=Seats(limit=payload.seats_per_time_slot) if seat.slot_id else None,
        series_id=series_of(payload),
        raw=raw,
    )


class _Seat(msgspec.Struct, frozen=True):
    """Which of several who share a booking is meant."""

    uid: str
    key: str
    weak_key: str | None = None
    slot_id: str | None = None
    seat_id: str | None = None
    whole_slot: bool = False

    def key_in(self, uid: str) -> str:
        """Return the key that the same seat has in another booking: it keeps its id."""
        if self.seat_id is not None:
            return seat_key(uid, self.seat_id)
        return uid if self.weak_key is None else uid + self.weak_key[len(self.uid) :]


def seat_key(uid: str, seat_id: str) -> str:
    """Return the key of one seat."""
    return f"{uid}#{seat_id}"


def weak_key(uid: str, email: str | None) -> str | None:
    """Return what stands in for a seat's key until its id is known."""
    return f"{uid}#{email.strip().lower()}" if text(email) and email else None


def _seat(
    uid: str, trigger: str, payload: resources.Payload, booker: resources.Person
) -> _Seat:
    seat_id = text(payload.attendee_seat_id)
    weak = weak_key(uid, booker.email)
    if seat_id:
        return _Seat(uid, seat_key(uid, seat_id), weak, uid, seat_id)
    if not payload.seats_per_time_slot:
        return _Seat(uid, uid)
    # One cancelled seat is not a cancelled booking: who cancels the whole is named. And
    # who moves the whole moves all who are in it.
    is_cancelled = trigger == CANCELLED and bool(text(payload.cancelled_by))
    is_moved = trigger == RESCHEDULED and len(payload.attendees or []) > 1
    if is_cancelled or is_moved or weak is None:
        return _Seat(uid, uid, None, uid, whole_slot=True)
    return _Seat(uid, weak, weak, uid)


def _ask(trigger: str, payload: resources.Payload, seat: _Seat) -> Any:
    """Say what one delivery cannot tell: a whole series, or which seats are left."""
    is_series = bool(payload.recurring_event or series_of(payload))
    if is_series and trigger in {"BOOKING_CREATED", "BOOKING_REJECTED", CANCELLED}:
        return "series"
    one_for_all = seat.whole_slot or (seat.slot_id and trigger == CANCELLED)
    return "booking" if one_for_all else None


def _first_of_chain(ical_uid: str | None) -> str | None:
    """Return the booking that an iCalUID was made for: those it is moved to inherit it.

    A delivery of the move itself says more; it may have been lost.
    """
    named = FIRST_UID.fullmatch(ical_uid or "")
    return named["uid"] if named else None


def _state_of(payload: resources.Payload) -> BookingState | None:
    return STATES.get((payload.status or "").lower())


def _version(sequence: int | None, place_among: int, sent_at: datetime | None) -> str:
    sent = sent_at.isoformat(timespec="milliseconds") if sent_at else ""
    return f"{max(0, sequence or 0):010}|{place_among}|{sent}"


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body
