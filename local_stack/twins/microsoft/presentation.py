"""How an event is shown: under which kind of id, in which zone, how much of it.

An item is first taken down as it is (a snapshot), and shown as each request asks:
pages of one round may be asked for with other preferences than its first one.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from local_stack.twins.microsoft.ids import Ids, change_key, etag, ical_uid
from local_stack.twins.microsoft.state import CalendarState, EventRecord, Json
from local_stack.twins.microsoft.times import stamp, write_when
from local_stack.twins.microsoft.zones import windows_name, zone_named
from local_stack.twins.moments import When, later

PREFERENCE = re.compile(r"""\s*([\w.-]+)\s*(?:=\s*("[^"]*"|[^,;]*))?\s*(?:,|;|$)""")
DEFAULTS: Json = {
    "categories": [],
    "hasAttachments": False,
    "subject": "",
    "bodyPreview": "",
    "importance": "normal",
    "sensitivity": "normal",
    "isCancelled": False,
    "isOrganizer": True,
    "isDraft": False,
    "responseRequested": True,
    "showAs": "busy",
    "reminderMinutesBeforeStart": 15,
    "isReminderOn": True,
    "onlineMeetingUrl": None,
    "isOnlineMeeting": False,
    "onlineMeetingProvider": "unknown",
    "onlineMeeting": None,
    "allowNewTimeProposals": True,
    "hideAttendees": False,
    "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
    "body": {"contentType": "html", "content": ""},
    "location": {
        "displayName": "",
        "locationType": "default",
        "uniqueIdType": "unknown",
    },
    "locations": [],
    "attendees": [],
}
NEVER_SHOWN = frozenset({"singleValueExtendedProperties", "_own"})


@dataclass(frozen=True)
class Preferences:
    """What a request's Prefer header asks for; it is never remembered."""

    immutable: bool = False
    time_zone: str | None = None
    page_size: int | None = None
    text_body: bool = False
    applied: tuple[str, ...] = ()


def read_preferences(header: str | None) -> Preferences:
    """Read a Prefer header; an unknown zone is refused, the rest is ignored."""
    given: dict[str, str] = {}
    for name, value in PREFERENCE.findall(header or ""):
        given[name.lower()] = value.strip().strip('"')
    zone = given.get("outlook.timezone")
    if zone is not None:
        zone_named(zone)
    size = given.get("odata.maxpagesize", "")
    immutable = given.get("idtype") == "ImmutableId"
    applied = [f'IdType="{given["idtype"]}"'] if immutable else []
    applied += [f'outlook.timezone="{zone}"'] if zone else []
    text = given.get("outlook.body-content-type") == "text"
    return Preferences(
        immutable, zone, int(size) if size.isdecimal() else None, text, tuple(applied)
    )


@dataclass(frozen=True)
class Snapshot:
    """An item as it was at one moment. Without fields it is a stub, or removed."""

    kind: str
    ids: Ids
    number: int = 0
    start: When | None = None
    end: When | None = None
    master: Ids | None = None
    original: datetime | None = None
    fields: Json = field(default_factory=dict)


def taken(
    calendar: CalendarState, record: EventRecord, original: When | None = None
) -> Snapshot:
    """Take down an event, or with an original start an occurrence of a series."""
    master = record.master
    if original is not None:
        return Snapshot(
            "occurrence",
            calendar.name_occurrence(record, original),
            record.number,
            original,
            later(original, record.elapsed),
            record.ids,
            _moment(original, record.zone),
            _fields(record, original),
        )
    if master is not None and record.original is not None:
        calendar.name_occurrence(master, record.original)
        return Snapshot(
            "exception",
            record.ids,
            record.number,
            record.start,
            record.end,
            master.ids,
            _moment(record.original, record.zone),
            _fields(record, record.original),
        )
    return Snapshot(
        record.kind,
        record.ids,
        record.number,
        record.start,
        record.end,
        fields=_fields(record, None) | {"recurrence": record.pattern},
    )


def removed(ids: Ids) -> Snapshot:
    """Take down that something is no longer in sight."""
    return Snapshot("removed", ids)


def show(snapshot: Snapshot, wishes: Preferences, *, in_delta: bool = False) -> Json:
    """Show a snapshot as a request asks for it."""

    def name(ids: Ids) -> str:
        return ids.immutable if wishes.immutable else ids.mutable

    head: Json = {"@odata.type": "#microsoft.graph.event"} if in_delta else {}
    if snapshot.kind == "removed":
        return {**head, "id": name(snapshot.ids), "@removed": {"reason": "deleted"}}
    head |= {"@odata.etag": etag(snapshot.number), "id": name(snapshot.ids)}
    assert snapshot.start is not None and snapshot.end is not None  # noqa: S101, PT018
    times = {
        "start": write_when(snapshot.start, wishes.time_zone),
        "end": write_when(snapshot.end, wishes.time_zone),
    }
    tail: Json = {
        "seriesMasterId": name(snapshot.master) if snapshot.master else None,
        "type": snapshot.kind,
    }
    if in_delta and snapshot.kind == "occurrence":
        return {**head, **tail, **times}
    fields = snapshot.fields
    if wishes.text_body:
        text = re.sub(r"<[^>]+>", "", fields["body"]["content"])
        fields = {**fields, "body": {"contentType": "text", "content": text}}
    if snapshot.original is not None:
        fields = {**fields, "originalStart": stamp(snapshot.original)}
    key = {"changeKey": change_key(snapshot.number)}
    return {**head, **key, **fields, **tail, **times}


def _fields(record: EventRecord, original: When | None) -> Json:
    own = {k: v for k, v in record.fields.items() if k not in NEVER_SHOWN}
    zone = windows_name(record.zone)
    return {
        "createdDateTime": stamp(record.created_at),
        "lastModifiedDateTime": stamp(record.changed_at),
        **DEFAULTS,
        **own,
        "originalStartTimeZone": zone,
        "originalEndTimeZone": zone,
        "iCalUId": ical_uid(_shared_key(record), original),
        "isAllDay": not isinstance(record.start, datetime),
        "recurrence": None,
        "webLink": f"https://outlook.example/calendar/item/{record.key}",
    }


def _shared_key(record: EventRecord) -> str:
    return (record.master or record).shared_key


def _moment(original: When, zone: str) -> datetime:
    """Return an original start; of a whole day it is midnight in its own zone."""
    if isinstance(original, datetime):
        return original
    return datetime.combine(original, datetime.min.time(), zone_named(zone))
