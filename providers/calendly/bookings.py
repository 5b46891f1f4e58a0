"""Calendly's invitees in our words.

The booking is the invitee: an event may hold many. Invitee and event each tell when
they were last changed, and snapshots of both are taken together: so the later of the
two, then the earlier, orders what is told.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from providers.bookings import (
    Answer,
    Booking,
    BookingState,
    CalendarReference,
    Cancellation,
    NoShow,
    Seats,
    Source,
)
from providers.calendly import resources
from providers.model import Malformed, Provider
from providers.reading import Unreadable, instant, text, web_address

NO_SHOW_DELETED: Final = "invitee_no_show.deleted"
# There is no `invitee.updated`; set-ups that name it all the same shall not stumble.
TRIGGERS: Final = frozenset({
    "invitee.created",
    "invitee.canceled",
    "invitee.updated",
    "invitee_no_show.created",
    NO_SHOW_DELETED,
})  # fmt: skip
ENDED: Final = frozenset({"canceled", "cancelled"})
UNFINISHED: Final = frozenset({"initiated", "processing"})

_delivery_decoder = msgspec.json.Decoder(resources.Delivery)
_invitee_decoder = msgspec.json.Decoder(resources.Invitee)
_event_decoder = msgspec.json.Decoder(resources.ScheduledEvent)


def read_delivery(body: str | bytes) -> list[Booking] | Malformed:
    """Understand what a webhook posted; what is no booking gives none."""
    try:
        delivery = _delivery_decoder.decode(body)
        if delivery.event not in TRIGGERS:
            return []
        invitee = _invitee_decoder.decode(delivery.payload)
        sent_at = instant(delivery.created_at, "created_at")
        return [_delivered(delivery, invitee, sent_at)]
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        return Malformed(None, _reason(problem), _kept(body))


def read_fetched(invitee: bytes, event: bytes) -> Booking | Malformed:
    """Understand an invitee and its event, as the API answers them."""
    try:
        theirs = _invitee_decoder.decode(invitee)
        theirs = msgspec.structs.replace(
            theirs, scheduled_event=_event_decoder.decode(event)
        )
        raw = msgspec.Raw(b'{"invitee":%b,"scheduled_event":%b}' % (invitee, event))
        return _booking(theirs, "fetch", raw, trigger=None, marks=_mark(theirs))
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        return Malformed(None, _reason(problem), msgspec.Raw(invitee))


def _delivered(
    delivery: resources.Delivery, invitee: resources.Invitee, sent_at: datetime | None
) -> Booking:
    marks = _mark(invitee)
    if delivery.event == NO_SHOW_DELETED:
        at = _taken_back_at(invitee, sent_at)
        marks = [] if at is None else [NoShow(None, False, at)]
    booking = _booking(
        invitee, "delivery", delivery.payload, trigger=delivery.event, marks=marks
    )
    if delivery.event == "invitee.canceled" and booking.state == "accepted":
        # Its status says otherwise in some samples; the name of the event does not lie.
        state: BookingState = "accepted" if booking.moved else "cancelled"
        return msgspec.structs.replace(booking, state=state)
    return booking


def _booking(
    invitee: resources.Invitee,
    source: Source,
    raw: msgspec.Raw,
    *,
    trigger: str | None,
    marks: list[NoShow],
) -> Booking:
    if not invitee.uri:
        raise Unreadable("uri is missing")
    event = invitee.scheduled_event or resources.ScheduledEvent()
    moved = bool(invitee.rescheduled or invitee.new_invitee)
    ended = invitee.status in ENDED
    location = event.location or resources.Location()
    updated = _known(
        instant(invitee.updated_at, "updated_at"),
        instant(event.updated_at, "scheduled_event.updated_at"),
    )
    return Booking(
        provider=Provider.CALENDLY,
        key=invitee.uri,
        provider_id=invitee.uri,
        source=source,
        trigger=trigger,
        version="|".join(sorted((at.isoformat() for at in updated), reverse=True)),
        as_of=max(updated, default=None),
        slot_id=invitee.event or event.uri or None,
        supersedes=text(invitee.old_invitee),
        superseded_by=text(invitee.new_invitee),
        moved=moved,
        # Half of a move: who took over is not said.
        ask="booking" if moved and not invitee.new_invitee else None,
        state="cancelled" if ended and not moved else "accepted",
        no_shows=marks,
        title=text(event.name),
        description=text(event.meeting_notes_plain),
        starts_at=instant(event.start_time, "scheduled_event.start_time"),
        ends_at=instant(event.end_time, "scheduled_event.end_time"),
        location=text(location.location),
        meeting_url=web_address(location.join_url) or web_address(location.location),
        link_pending=_link_pending(event.location),
        attendee_name=_name(invitee),
        attendee_email=text(invitee.email),
        attendee_phone=_phone(invitee, location),
        attendee_time_zone=text(invitee.timezone),
        guests=_guests(event),
        organizer_email=next(_said(m.user_email for m in _hosts(event)), None),
        organizer_id=next(_said(m.user for m in _hosts(event)), None),
        answers=_answers(invitee),
        tracking=_tracking(invitee.tracking),
        cancellation=_cancellation(invitee),
        calendar_references=_references(event.calendar_event),
        seats=_seats(event.invitees_counter),
        raw=raw,
    )


def _mark(invitee: resources.Invitee) -> list[NoShow]:
    """Read the mark; that there is none is as old as the invitee's last change."""
    if invitee.no_show is not None:
        at = instant(invitee.no_show.created_at, "no_show.created_at")
    else:
        at = instant(invitee.updated_at, "updated_at")
    return [] if at is None else [NoShow(None, invitee.no_show is not None, at)]


def _taken_back_at(
    invitee: resources.Invitee, sent_at: datetime | None
) -> datetime | None:
    """Date the end of a mark by the invitee's last change: retries may be dated anew.

    Nobody says that the end of a mark is such a change. If the last one was before the
    meeting began, it is not, for nobody has missed what is to come.
    """
    updated_at = instant(invitee.updated_at, "updated_at")
    if invitee.no_show is not None:
        made_at = instant(invitee.no_show.created_at, "no_show.created_at")
        after = [] if made_at is None else [made_at + datetime.resolution]
        return max([*_known(updated_at), *after], default=sent_at)
    event = invitee.scheduled_event or resources.ScheduledEvent()
    began_at = instant(event.start_time, "scheduled_event.start_time")
    if updated_at is None or sent_at is None:
        return updated_at or sent_at
    is_older = began_at is not None and updated_at < began_at <= sent_at
    return sent_at if is_older else updated_at


def _known(*moments: datetime | None) -> list[datetime]:
    return [moment for moment in moments if moment is not None]


def _said(values: Iterable[str | None]) -> Any:
    return (value for value in map(text, values) if value)


def _hosts(event: resources.ScheduledEvent) -> list[resources.Membership]:
    return event.event_memberships or []


def _name(invitee: resources.Invitee) -> str | None:
    return text(invitee.name) or text(
        f"{invitee.first_name or ''} {invitee.last_name or ''}"
    )


def _phone(invitee: resources.Invitee, location: resources.Location) -> str | None:
    # The host calls: the place is the invitee's number.
    called = location.location if location.type == "outbound_call" else None
    return text(invitee.text_reminder_number) or text(called)


def _link_pending(location: resources.Location | None) -> bool | None:
    if location is None:
        return None
    return location.status in UNFINISHED and not location.join_url


def _guests(event: resources.ScheduledEvent) -> list[str] | None:
    if event.event_guests is None:
        return None
    return list(_said(guest.email for guest in event.event_guests))


def _answers(invitee: resources.Invitee) -> list[Answer] | None:
    if invitee.questions_and_answers is None:
        return None
    return [
        Answer(asked.question, asked.answer or "")
        for asked in invitee.questions_and_answers
    ]


def _tracking(tracking: dict[str, Any] | None) -> dict[str, str] | None:
    if tracking is None:
        return None
    return {name: value for name, value in tracking.items() if text(value)}


def _cancellation(invitee: resources.Invitee) -> Cancellation | None:
    told = invitee.cancellation
    if told is None:
        return None
    return Cancellation(
        text(told.reason),
        text(told.canceled_by),
        "host" if told.canceler_type == "host" else "invitee",
    )


def _references(
    event: resources.CalendarEvent | None,
) -> list[CalendarReference] | None:
    if event is None or not event.external_id:
        return None
    return [CalendarReference(event.kind or "", event.external_id)]


def _seats(counter: resources.InviteesCounter | None) -> Seats | None:
    if counter is None:
        return None
    return Seats(counter.limit, counter.active)


def _reason(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _kept(body: str | bytes) -> msgspec.Raw:
    return msgspec.Raw(body.encode() if isinstance(body, str) else body)
