"""Guests' copies: what the organizer's event looks like on other calendars.

A copy keeps the event's id and iCalUID. Only its owner's answer and personal settings
can be changed on it; the rest is the organizer's.
"""

from typing import TYPE_CHECKING

from local_stack.twins.google.bodies import (
    PERSONAL,
    is_organizers,
    mark_self,
    shown_on,
)
from local_stack.twins.google.errors import ApiError, forbidden
from local_stack.twins.google.occurrences import effective, find
from local_stack.twins.google.state import CalendarState, EventRecord, Json, Store

if TYPE_CHECKING:
    from local_stack.twins.google.writer import Writer

NOT_SHARED = PERSONAL | {"updated", "etag", "kind", "sequence", "attendees"}


def send_to_guests(store: Store, calendar: CalendarState, record: EventRecord) -> None:
    """Bring every guest's copy up to what the organizer's record now says."""
    if not is_organizers(record.body):
        return
    if not record.body.get("attendees") and not store.was_shared(record):
        return
    store.shared.add(record.id)
    invited = {a["email"].lower() for a in record.body.get("attendees", ())}
    for guest in list(store.calendars.values()):
        if guest is calendar or guest.id not in store.accounts:
            continue
        copy = guest.events.get(record.id)
        if guest.id in invited and not record.cancelled:
            _send(store, guest, record, copy)
        elif copy is not None and not copy.cancelled:
            _withdraw(store, guest, copy)
        elif copy is None and _holds_series(guest, record):
            _send(store, guest, record, None)


def _send(
    store: Store, guest: CalendarState, record: EventRecord, copy: EventRecord | None
) -> None:
    if copy is not None and copy.cancelled and _declined(guest, record.body):
        return
    own = copy.body if copy is not None and not copy.cancelled else {}
    body = {k: v for k, v in record.body.items() if k not in PERSONAL}
    body |= {k: v for k, v in own.items() if k in PERSONAL}
    body.setdefault("reminders", {"useDefault": True})
    if record.body.get("extendedProperties", {}).get("shared"):
        shared = {"shared": record.body["extendedProperties"]["shared"]}
        body["extendedProperties"] = {**own.get("extendedProperties", {}), **shared}
    body["attendees"] = [dict(a) for a in record.body.get("attendees", ())]
    mark_self(guest, body)
    body = shown_on(guest, body)
    if record.cancelled or str(guest.id) not in {
        a["email"].lower() for a in body["attendees"]
    }:
        body["status"] = "cancelled"
    sent = copy or EventRecord(record.id, {})
    sent.overrides = dict(record.overrides)
    if _same(sent.body, body):
        return
    sent.body = body
    store.save(guest, sent)


def _declined(guest: CalendarState, body: Json) -> bool:
    return own_answer(guest, body) == "declined"


def _withdraw(store: Store, guest: CalendarState, copy: EventRecord) -> None:
    for exception in [*guest.exceptions_of(copy.id).values(), copy]:
        if not exception.cancelled:
            exception.body = {**exception.body, "status": "cancelled"}
            store.save(guest, exception)


def _holds_series(guest: CalendarState, record: EventRecord) -> bool:
    series = guest.events.get(record.series_id or "")
    return series is not None and not series.cancelled


def _same(old: Json, new: Json) -> bool:
    keys = (old.keys() | new.keys()) - {"updated"}
    return all(old.get(key) == new.get(key) for key in keys)


def refuse_foreign_changes(calendar: CalendarState, old: Json, new: Json) -> None:
    """Refuse to change on a guest's copy what is the organizer's to change."""
    for key in (old.keys() | new.keys()) - NOT_SHARED:
        if old.get(key) != new.get(key):
            raise _organizers_only()
    if _others(calendar, old) != _others(calendar, new):
        raise _organizers_only()


def own_answer(calendar: CalendarState, body: Json) -> str | None:
    """Return what the owner of a copy answered to the invitation."""
    for attendee in body.get("attendees", ()):
        if attendee["email"].lower() == calendar.id.lower():
            return str(attendee.get("responseStatus", "needsAction"))
    return None


def answer_invitation(
    writer: "Writer", calendar: CalendarState, event_id: str, answer: str | None
) -> bool:
    """Carry a guest's answer to the organizer's event; False if it is not here."""
    copy = effective(calendar, find(calendar, event_id))
    organizer = writer.store.calendars.get(copy["organizer"]["email"])
    if organizer is None or answer is None:
        return False
    try:
        found = find(organizer, event_id)
    except ApiError:
        return False
    old = effective(organizer, found)
    if old.get("status") == "cancelled":
        return False
    attendees = [
        {**a, "responseStatus": answer}
        if a["email"].lower() == calendar.id.lower()
        else a
        for a in old.get("attendees", ())
    ]
    writer.put(organizer, found, old, {**old, "attendees": attendees})
    return True


def decline_and_drop(writer: "Writer", calendar: CalendarState, event_id: str) -> None:
    """Tell the organizer that a guest removed the event from their calendar."""
    if own_answer(calendar, effective(calendar, find(calendar, event_id))) is not None:
        answer_invitation(writer, calendar, event_id, "declined")


def _others(calendar: CalendarState, body: Json) -> list[tuple[str, object]]:
    return [
        (a["email"].lower(), a.get("responseStatus"))
        for a in body.get("attendees", ())
        if a["email"].lower() != calendar.id.lower()
    ]


def _organizers_only() -> ApiError:
    return forbidden(
        "Shared properties can only be changed by the organizer of the event.",
        "forbiddenForNonOrganizer",
    )
