"""Cal.com's API v2 in our words: what it answers about a booking.

A fetch adds and never undoes: Cal.com announces a cancellation before its own row shows
it, and a booking before its row knows everything.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from providers.bookings import Booking, BookingState, NoShow
from providers.calcom import resources
from providers.calcom.bookings import STATES
from providers.calcom.fields import (
    cancellation,
    custom_answers,
    link,
    metadata,
    person_fields,
    place,
    references,
)
from providers.calcom.seats import seat_key, weak_key
from providers.model import Malformed, Provider
from providers.reading import Unreadable, instant, text

ENDED: Final = frozenset({"cancelled", "rejected"})
_decoder = msgspec.json.Decoder(resources.Fetched)
_references_decoder = msgspec.json.Decoder(list[resources.Reference])


def read_fetched(
    booking: bytes, calendar_references: bytes | None = None
) -> list[Booking] | Malformed:
    """Understand one booking of the API: one for each seat where it has seats."""
    try:
        theirs = _decoder.decode(booking)
        named = calendar_references
        known = None if named is None else _references_decoder.decode(named)
        return list(_read(theirs, booking, known))
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        reason = str(problem) or type(problem).__name__
        return Malformed(None, reason, msgspec.Raw(booking))


def _read(
    theirs: resources.Fetched,
    content: bytes,
    known: list[resources.Reference] | None,
) -> Iterator[Booking]:
    if not theirs.uid:
        raise Unreadable("uid is missing")
    updated_at = instant(theirs.updated_at, "updatedAt")
    whole = _whole(theirs, content, known, updated_at)
    attendees = theirs.attendees or []
    seated = [person for person in attendees if text(person.seat_uid)]
    if not attendees or (seated and whole.state in ENDED):
        # Whoever is not listed stands elsewhere, or is cancelled.
        yield _slot_of(whole)
    if attendees and not seated:
        booker = attendees[0]
        marks = _marks(booker, updated_at)
        fields = person_fields(booker, text(booker.phone_number))
        yield msgspec.structs.replace(whole, no_shows=marks, **fields)
    for person in seated:
        seat_id = str(person.seat_uid)
        yield msgspec.structs.replace(
            whole,
            key=seat_key(theirs.uid, seat_id),
            weak_key=weak_key(theirs.uid, person.email),
            slot_id=theirs.uid,
            seat_id=seat_id,
            supersedes=_seat_in(whole.supersedes, seat_id),
            superseded_by=_seat_in(whole.superseded_by, seat_id),
            guests=None,
            no_shows=_marks(person, updated_at),
            **person_fields(person, text(person.phone_number)),
        )


def _whole(
    theirs: resources.Fetched,
    content: bytes,
    known: list[resources.Reference] | None,
    updated_at: datetime | None,
) -> Booking:
    superseded_by = text(theirs.rescheduled_to_uid)
    host = next(iter(theirs.hosts or []), resources.Person())
    return Booking(
        provider=Provider.CALCOM,
        key=theirs.uid,
        provider_id=theirs.uid,
        source="fetch",
        version=updated_at.isoformat(timespec="milliseconds") if updated_at else "",
        as_of=updated_at,
        supersedes=text(theirs.rescheduled_from_uid),
        superseded_by=superseded_by,
        moved=superseded_by is not None,
        state=_state(theirs),
        title=text(theirs.title),
        description=text(theirs.description),
        starts_at=instant(theirs.start, "start"),
        ends_at=instant(theirs.end, "end"),
        location=place(theirs.location),
        meeting_url=link(theirs.meeting_url or theirs.location, theirs.metadata, None),
        guests=theirs.guests,
        organizer_email=text(host.email),
        answers=custom_answers(theirs.booking_fields_responses),
        metadata=metadata(theirs.metadata),
        cancellation=cancellation(
            theirs.cancellation_reason, theirs.cancelled_by_email, host.email
        ),
        calendar_references=references(known),
        ical_uid=text(theirs.ics_uid),
        series_id=text(theirs.recurring_booking_uid),
        recurs=bool(text(theirs.recurring_booking_uid)) or None,
        raw=msgspec.Raw(content),
    )


def _slot_of(whole: Booking) -> Booking:
    """Tell how it stands with all seats; of whom is in it, nothing."""
    return Booking(
        provider=whole.provider,
        key=whole.key,
        provider_id=whole.provider_id,
        source=whole.source,
        version=whole.version,
        as_of=whole.as_of,
        slot_id=whole.key,
        whole_slot=True,
        state=whole.state,
        calendar_references=whole.calendar_references,
        raw=whole.raw,
    )


def _seat_in(uid: str | None, seat_id: str) -> str | None:
    return None if uid is None else seat_key(uid, seat_id)


def _state(theirs: resources.Fetched) -> BookingState | None:
    if theirs.rescheduled_to_uid:
        return "accepted"
    return STATES.get((theirs.status or "").lower())


def _marks(person: resources.Person, at: datetime | None) -> list[NoShow]:
    if person.absent is None or at is None:
        return []
    return [NoShow(text(person.email), person.absent, at)]
