"""Google's events in our words.

A page is split into items first, each with its id and hash, which is quick: 2,500 items
of 3 MB in about 7 ms. Only what differs from what we have is read further.

https://developers.google.com/workspace/calendar/api/v3/reference/events
"""

from datetime import UTC, date, datetime
from hashlib import blake2b
from zoneinfo import ZoneInfo

import msgspec

from providers.google import resources
from providers.model import (
    Attendee,
    Event,
    Item,
    Malformed,
    Page,
    Response,
    Role,
    Status,
    Visibility,
)
from providers.reading import Unreadable, storable

# Raise it when the mapping changes: every event is then mapped anew.
MAPPER_VERSION = 1
HASH_BYTES = 16

STATUSES: dict[str, Status] = {"tentative": "tentative", "cancelled": "cancelled"}
RESPONSES: dict[str, Response] = {
    "accepted": "accepted",
    "declined": "declined",
    "tentative": "tentative",
    "needsAction": "needsAction",
}
VISIBILITIES: dict[str, Visibility] = {
    "default": "default",
    "public": "public",
    "private": "private",
    "confidential": "confidential",
}

_list_decoder = msgspec.json.Decoder(resources.EventList)
_id_decoder = msgspec.json.Decoder(resources.Identified)
_event_decoder = msgspec.json.Decoder(resources.Event, strict=False)


class ItemReader:
    """Turns answers into items, hashed together with what a mapping depends on."""

    def __init__(self, projection: bytes = b"") -> None:
        self._hash = blake2b(b"%d:" % MAPPER_VERSION, digest_size=HASH_BYTES)
        self._hash.update(projection)

    def page(self, content: bytes) -> Page:
        """Split a list's answer; msgspec.DecodeError when it is none."""
        answer = _list_decoder.decode(storable(content))
        return Page(
            items=[self._item(raw) for raw in answer.items],
            next_page_token=answer.next_page_token,
            cursor=answer.next_sync_token,
            time_zone=answer.time_zone,
        )

    def item(self, content: bytes) -> Item:
        """Take an answer that is one event."""
        return self._item(msgspec.Raw(storable(content)))

    def _item(self, raw: msgspec.Raw) -> Item:
        content_hash = self._hash.copy()
        content_hash.update(raw)
        try:
            event_id = _id_decoder.decode(raw).id
        except msgspec.ValidationError:
            event_id = ""
        return Item(event_id, content_hash.digest(), raw)


def read_event(item: Item, *, expanded: bool) -> Event | Malformed:
    """Map an item; only what cannot be parsed is refused."""
    try:
        return _mapped(item, _event_decoder.decode(item.raw), expanded=expanded)
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        reason = str(problem) or type(problem).__name__
        return Malformed(item.provider_event_id or None, reason, item.raw)


def _mapped(item: Item, theirs: resources.Event, *, expanded: bool) -> Event:
    if not theirs.id:
        raise Unreadable("id is missing")
    start, end, original = theirs.start, theirs.end, theirs.original_start_time
    return Event(
        provider_event_id=theirs.id,
        role=_role(theirs, expanded=expanded),
        status=STATUSES.get(theirs.status or "", "confirmed"),
        ical_uid=theirs.ical_uid,
        etag=theirs.etag,
        sequence=theirs.sequence,
        title=theirs.summary,
        description=theirs.description,
        location=theirs.location,
        starts_at=_time(start, "start"),
        ends_at=_time(end, "end"),
        all_day=start.date is not None,
        start_date=_date(start, "start"),
        end_date=_date(end, "end"),
        time_zone=start.time_zone or end.time_zone,
        organizer_email=theirs.organizer.email if theirs.organizer else None,
        is_organizer=theirs.organizer.is_self if theirs.organizer else None,
        own_response=_own_response(theirs),
        attendees=_attendees(theirs),
        conference_url=_conference_url(theirs),
        series_provider_id=theirs.recurring_event_id,
        original_start=_time(original, "originalStartTime"),
        original_start_date=_date(original, "originalStartTime"),
        # What we do not know is kept from other eyes rather than shown.
        visibility=VISIBILITIES.get(theirs.visibility or "default", "private"),
        event_type=theirs.event_type or "default",
        provider_updated_at=_instant(theirs.updated, None, "updated"),
        content_hash=item.content_hash.hex(),
        raw=item.raw,
    )


def _role(theirs: resources.Event, *, expanded: bool) -> Role | None:
    if theirs.recurring_event_id:
        return "occurrence" if expanded and not _is_moved(theirs) else "exception"
    if theirs.recurrence:
        return "series"
    return "single" if theirs.start != resources.When() else None


def _is_moved(theirs: resources.Event) -> bool:
    """An expanded list shows exceptions too; those that were moved can be told."""
    start, original = theirs.start, theirs.original_start_time
    return start.date != original.date or _time(start, "start") != _time(
        original, "originalStartTime"
    )


def _time(when: resources.When, field: str) -> datetime | None:
    return _instant(when.date_time, when.time_zone, f"{field}.dateTime")


def _instant(value: str | None, time_zone: str | None, field: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is None:  # allowed where a time zone stands beside it
            moment = moment.replace(tzinfo=ZoneInfo(time_zone or ""))
        return moment.astimezone(UTC)
    # A zone's name is looked up as a file's: KeyError and OSError.
    except (ValueError, OverflowError, KeyError, OSError):
        raise Unreadable(f"{field} is not a time") from None


def _date(when: resources.When, field: str) -> date | None:
    if when.date is None:
        return None
    try:
        return date.fromisoformat(when.date)
    except ValueError:
        raise Unreadable(f"{field}.date is not a date") from None


def _own_response(theirs: resources.Event) -> Response | None:
    own = (person for person in theirs.attendees if person.is_self)
    return next((RESPONSES.get(person.response_status or "") for person in own), None)


def _attendees(theirs: resources.Event) -> list[Attendee] | None:
    not_told = theirs.status == "cancelled" and not theirs.attendees
    if theirs.attendees_omitted or not_told:
        return None
    return [
        Attendee(
            email=person.email,
            name=person.display_name,
            response=RESPONSES.get(person.response_status or ""),
            organizer=person.organizer,
            optional=person.optional,
            resource=person.resource,
            is_self=person.is_self,
        )
        for person in theirs.attendees
    ]


def _conference_url(theirs: resources.Event) -> str | None:
    """Return where to meet: a link that a page may show, so nothing but http."""
    ways = theirs.conference_data.entry_points
    video = (way.uri for way in ways if way.entry_point_type == "video")
    for url in (theirs.hangout_link, *video):
        if url and url.startswith(("https://", "http://")):
            return url
    return None
