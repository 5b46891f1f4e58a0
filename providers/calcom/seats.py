"""Which of several who share one booking of Cal.com's is meant."""

import msgspec

from providers.calcom import resources
from providers.reading import text


class Seat(msgspec.Struct, frozen=True):
    """One of those who share a booking, or all of them; or whoever has it alone."""

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


def seat_of(
    uid: str, trigger: str, payload: resources.Payload, booker: resources.Person
) -> Seat:
    """Return who is meant."""
    seat_id = text(payload.attendee_seat_id)
    weak = weak_key(uid, booker.email)
    if seat_id:
        return Seat(uid, seat_key(uid, seat_id), weak, uid, seat_id)
    if not payload.seats_per_time_slot:
        return Seat(uid, uid)
    # One cancelled seat is not a cancelled booking: who cancels the whole is named. And
    # who moves the whole moves all who are in it.
    is_cancelled = trigger == "BOOKING_CANCELLED" and bool(text(payload.cancelled_by))
    is_moved = trigger == "BOOKING_RESCHEDULED" and len(payload.attendees or []) > 1
    if is_cancelled or is_moved or weak is None:
        return Seat(uid, uid, None, uid, whole_slot=True)
    return Seat(uid, weak, weak, uid)
