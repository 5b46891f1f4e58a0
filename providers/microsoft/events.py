"""Outlook's events in our words.

A page is split into items first, each with its id and hash. Only what differs from what
we have is read further.

https://learn.microsoft.com/graph/api/resources/event
"""

import re
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from providers.microsoft import resources
from providers.microsoft.zones import iana_name
from providers.model import (
    Attendee,
    Event,
    Item,
    Malformed,
    Response,
    Role,
    Status,
    Visibility,
)
from providers.reading import Unreadable, instant, storable, web_address

# Raise it when the mapping changes: every event is then mapped anew.
MAPPER_VERSION: Final = 1
HASH_BYTES: Final = 16

# A delta dresses an item otherwise than a list or a single answer does.
DRESS: Final = re.compile(rb'^\{(?:"@odata\.(?:type|context)":"[^"]*",)+')
ROLES: Final[dict[str, Role]] = {
    "singleInstance": "single",
    "seriesMaster": "series",
    "occurrence": "occurrence",
    "exception": "exception",
}
RESPONSES: Final[dict[str, Response]] = {
    "organizer": "accepted",
    "accepted": "accepted",
    "declined": "declined",
    "tentativelyAccepted": "tentative",
    "notResponded": "needsAction",
}
VISIBILITIES: Final[dict[str, Visibility]] = {
    "normal": "default",
    "personal": "private",
    "private": "private",
    "confidential": "confidential",
}
NOON: Final = timedelta(hours=12)

_head_decoder = msgspec.json.Decoder(resources.Head)
_event_decoder = msgspec.json.Decoder(resources.Event)


class ItemReader:
    """Makes items, hashed together with what a mapping depends on."""

    def __init__(self, projection: bytes = b"") -> None:
        self._hash = blake2b(b"%d:" % MAPPER_VERSION, digest_size=HASH_BYTES)
        self._hash.update(projection)

    def answer(self, content: bytes) -> Item:
        """Take an answer that is one event; msgspec.DecodeError when it is none."""
        if not content.startswith(b"{"):
            raise msgspec.DecodeError("this is no object")
        raw = msgspec.Raw(storable(content))
        return self.item(raw, head(raw).id)

    def item(self, raw: msgspec.Raw, event_id: str) -> Item:
        """Take one of a page, which is storable already."""
        content_hash = self._hash.copy()
        content_hash.update(DRESS.sub(b"{", bytes(raw)))
        return Item(event_id, content_hash.digest(), raw)


def head(raw: msgspec.Raw) -> resources.Head:
    """Read what decides about an item; nothing where that makes no sense."""
    try:
        return _head_decoder.decode(raw)
    except msgspec.ValidationError:
        return resources.Head()


def read_event(item: Item) -> Event | Malformed:
    """Map an item; only what cannot be parsed is refused."""
    try:
        theirs = _event_decoder.decode(item.raw)
        if theirs.removed is not None and theirs.id:
            return Event.vanished(theirs.id)
        return _mapped(item, theirs)
    except (msgspec.DecodeError, Unreadable, RecursionError) as problem:
        reason = str(problem) or type(problem).__name__
        return Malformed(item.provider_event_id or None, reason, item.raw)


def _mapped(item: Item, theirs: resources.Event) -> Event:
    if not theirs.id:
        raise Unreadable("id is missing")
    all_day = bool(theirs.is_all_day)
    zone = iana_name(theirs.original_start_time_zone)
    original = instant(theirs.original_start, "originalStart")
    organizer = _address(theirs.organizer)
    meeting = theirs.online_meeting or resources.OnlineMeeting()
    answered = theirs.response_status and theirs.response_status.response
    return Event(
        provider_event_id=theirs.id,
        role=_role(theirs),
        status=_status(theirs),
        ical_uid=theirs.ical_uid,
        etag=theirs.etag,
        sequence=None,
        title=theirs.subject,
        description=_description(theirs),
        location=(theirs.location and theirs.location.display_name) or None,
        starts_at=None if all_day else _time(theirs.start, "start"),
        ends_at=None if all_day else _time(theirs.end, "end"),
        all_day=all_day,
        start_date=_date(theirs.start, "start") if all_day else None,
        end_date=_date(theirs.end, "end") if all_day else None,
        time_zone=zone,
        organizer_email=organizer,
        is_organizer=theirs.is_organizer,
        own_response=RESPONSES.get(answered or ""),
        attendees=_attendees(theirs, organizer),
        conference_url=web_address(meeting.join_url)
        or web_address(theirs.online_meeting_url),
        series_provider_id=theirs.series_master_id,
        original_start=None if all_day else original,
        original_start_date=_original_date(original, zone) if all_day else None,
        # What we do not know is kept from other eyes rather than shown.
        visibility=VISIBILITIES.get(theirs.sensitivity or "normal", "private"),
        event_type="default",
        provider_updated_at=instant(
            theirs.last_modified_date_time, "lastModifiedDateTime"
        ),
        content_hash=item.content_hash.hex(),
        raw=item.raw,
    )


def _role(theirs: resources.Event) -> Role:
    if theirs.type is None:
        return "single"
    if theirs.type not in ROLES:
        raise Unreadable("type is not known")
    return ROLES[theirs.type]


def _status(theirs: resources.Event) -> Status:
    if theirs.is_cancelled:
        return "cancelled"
    return "tentative" if theirs.show_as == "tentative" else "confirmed"


def _description(theirs: resources.Event) -> str | None:
    """Return the body as it is; one without text is a frame around nothing."""
    content = theirs.body and theirs.body.content
    if not content:
        return None
    is_empty = theirs.body_preview is not None and not theirs.body_preview.strip()
    return None if is_empty and "<img" not in content.lower() else content


def _time(when: resources.When | None, field: str) -> datetime | None:
    if when is None or when.date_time is None:
        return None
    # We ask for UTC; another zone comes of a server that does not heed the wish.
    zone = iana_name(when.time_zone or "UTC")
    try:
        moment = datetime.fromisoformat(when.date_time)
        if moment.utcoffset() is None:
            # Without a zone there is none to look up either.
            moment = moment.replace(tzinfo=ZoneInfo(zone or ""))
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable(f"{field} is not a time") from None


def _date(when: resources.When | None, field: str) -> date | None:
    """Return a whole day's date: midnight in whatever zone, so never shifted."""
    if when is None or when.date_time is None:
        return None
    try:
        return date.fromisoformat(when.date_time[:10])
    except ValueError:
        raise Unreadable(f"{field}.dateTime is not a date") from None


def _original_date(original: datetime | None, zone: str | None) -> date | None:
    """Return the day that an original start means: a midnight, told in UTC."""
    if original is None:
        return None
    if zone is not None and zone != "UTC":
        return original.astimezone(ZoneInfo(zone)).date()
    # Of a zone that nobody knows: the midnight that is nearest.
    return (original + NOON).date()


def _attendees(theirs: resources.Event, organizer: str | None) -> list[Attendee] | None:
    if theirs.attendees is None:
        return None
    return [
        Attendee(
            email=address,
            name=_name(person),
            response=RESPONSES.get((person.status and person.status.response) or ""),
            organizer=bool(address) and _same(address, organizer),
            optional=person.type == "optional",
            resource=person.type == "resource",
            # Graph marks nobody as us; only of the organizer's own copy it is known.
            is_self=bool(theirs.is_organizer) and _same(address, organizer),
        )
        for person in theirs.attendees
        for address in (_address(person),)
    ]


def _address(person: resources.Person | None) -> str | None:
    if person is None or person.email_address is None:
        return None
    return person.email_address.address


def _name(person: resources.Person) -> str | None:
    return person.email_address.name if person.email_address else None


def _same(one: str | None, other: str | None) -> bool:
    return (one or "").lower() == (other or "").lower()
