"""Which booking of Cal.com's took over from which: moved ones get a new uid.

A delivery is posted once, and may be lost. So each says more than its own move.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from providers.bookings import Booking
from providers.calcom import resources
from providers.calcom.seats import weak_key
from providers.reading import text

# A move may have to be approved.
TRIGGERS: Final = frozenset({"BOOKING_RESCHEDULED", "BOOKING_REQUESTED"})
# Cal.com's own iCalUID: the uid, and the name of the installation. Calendars may put
# theirs in its place, which name no booking.
FIRST_UID: Final = re.compile(
    r"(?P<uid>[1-9A-HJ-NP-Za-km-z]{21,22})@(?!google\.com$).+"
)


def moved_from(uid: str, payload: resources.Payload) -> str | None:
    """Return the booking that this one takes over from; older payloads keep the uid."""
    old = text(payload.reschedule_uid)
    return None if old == uid else old


def first_of_chain(uid: str, payload: resources.Payload) -> str | None:
    """Return the booking that an iCalUID was made for: those it is moved to have it.

    Seats are moved from one booking to another, each of which has its own.
    """
    is_seated = payload.seats_per_time_slot or text(payload.attendee_seat_id)
    named = FIRST_UID.fullmatch(payload.ical_uid or "")
    if is_seated or not payload.ical_sequence or named is None or named["uid"] == uid:
        return None
    return named["uid"]


def for_each(
    uid: str, trigger: str, payload: resources.Payload
) -> list[resources.Payload]:
    """Return a move of all who share a booking as one of each: it names no seat."""
    people = [one for one in payload.attendees or [] if text(one.email)]
    is_shared = payload.seats_per_time_slot and not text(payload.attendee_seat_id)
    is_moved = trigger in TRIGGERS and moved_from(uid, payload) is not None
    if not is_shared or not is_moved or len(people) < 2:
        return [payload]
    # What was asked was answered by one of them.
    unasked = msgspec.structs.replace(
        payload,
        responses=None,
        user_fields_responses=None,
        custom_inputs=None,
        sms_reminder_number=None,
    )
    return [msgspec.structs.replace(unasked, attendees=[one]) for one in people]


def tied(booking: Booking, payload: resources.Payload) -> Iterator[Booking]:
    """Tell what else a move ties together."""
    old = moved_from(booking.provider_id, payload)
    if old is None or booking.supersedes is None:
        return
    bare = Booking(
        provider=booking.provider,
        key=booking.key,
        provider_id=booking.provider_id,
        source=booking.source,
        trigger=booking.trigger,
        as_of=booking.as_of,
        raw=booking.raw,
    )
    first = first_of_chain(booking.provider_id, payload)
    if first not in {None, old}:
        yield msgspec.structs.replace(bare, supersedes=first)
    if booking.seat_id is not None:
        # Whose seat it was there: it may have been told without its id.
        yield msgspec.structs.replace(
            bare,
            key=booking.supersedes,
            provider_id=old,
            weak_key=weak_key(old, booking.attendee_email),
            slot_id=old,
            seat_id=booking.seat_id,
        )
