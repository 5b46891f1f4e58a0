"""Cal.com's deliveries in our words: one of them may tell of several bookings.

Deliveries name a trigger, a booking's uid, and mostly not more than they must. Within
a uid the calendar's sequence orders what they tell, then the trigger, then the time of
sending: none of them alone is to be trusted.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from providers.bookings import Booking, BookingState, NoShow, Phase, Seats
from providers.calcom import resources
from providers.calcom.fields import (
    answers,
    cancellation,
    guests,
    is_one_of_series,
    link,
    metadata,
    person_fields,
    phone,
    place,
    references,
    series_of,
)
from providers.calcom.moves import first_of_chain, for_each, moved_from, tied
from providers.calcom.seats import Seat, seat_of
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
        return list(_delivered(delivery.trigger_event, payload, sent_at, raw))
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        reason = str(problem) or type(problem).__name__
        return Malformed(None, reason, msgspec.Raw(_bytes(body)))


def _delivered(
    trigger: str, payload: resources.Payload, sent_at: datetime | None, raw: msgspec.Raw
) -> Iterator[Booking]:
    uid = payload.uid or payload.booking_uid
    if not uid:
        raise Unreadable("uid is missing")
    if trigger == NO_SHOW:
        yield _no_show(uid, payload, sent_at, raw)
    elif trigger in PHASES:
        # A snapshot from when the booking was made: only that it takes place is news.
        yield _bare(
            uid, trigger, sent_at, raw, state=_state_of(payload), phase=PHASES[trigger]
        )
    else:
        for one in for_each(uid, trigger, payload):
            booking = _booked(uid, trigger, one, sent_at, raw)
            yield booking
            yield from tied(booking, one)


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
    seat = seat_of(uid, trigger, payload, booker)
    old = moved_from(uid, payload) or first_of_chain(uid, payload)
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
        supersedes=None if old is None else seat.key_in(old),
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
        recurs=is_one_of_series(payload) or None,
        raw=raw,
    )


def _ask(trigger: str, payload: resources.Payload, seat: Seat) -> Any:
    """Say what one delivery cannot tell: a whole series, or which seats are left."""
    of_many = {"BOOKING_CREATED", "BOOKING_REJECTED", CANCELLED}
    if trigger in of_many and is_one_of_series(payload):
        return "series"
    one_for_all = seat.whole_slot or (seat.slot_id and trigger == CANCELLED)
    return "booking" if one_for_all else None


def _state_of(payload: resources.Payload) -> BookingState | None:
    return STATES.get((payload.status or "").lower())


def _version(sequence: int | None, place_among: int, sent_at: datetime | None) -> str:
    sent = sent_at.isoformat(timespec="milliseconds") if sent_at else ""
    return f"{max(0, sequence or 0):010}|{place_among}|{sent}"


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body
