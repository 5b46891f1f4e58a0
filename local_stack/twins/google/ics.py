"""Reading .ics files into a calendar, as Google's own import does."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from local_stack.twins.google.ics_shift import Shift
from local_stack.twins.google.names import occurrence_id
from local_stack.twins.google.occurrences import differences, unchanged
from local_stack.twins.google.state import CalendarState, EventRecord, Json
from local_stack.twins.google.times import write_when
from local_stack.twins.google.writer import Writer
from local_stack.twins.ics_file import (
    IcsFile,
    address_of,
    date_line,
    dates_of,
    is_cancelled,
    listed,
)
from local_stack.twins.moments import When, later

A_DAY = timedelta(days=1)
RESPONSES = {
    "ACCEPTED": "accepted",
    "DECLINED": "declined",
    "TENTATIVE": "tentative",
}
SIMPLE = (
    ("SUMMARY", "summary", str),
    ("DESCRIPTION", "description", str),
    ("LOCATION", "location", str),
    ("STATUS", "status", str.lower),
    ("TRANSP", "transparency", str.lower),
    ("CLASS", "visibility", str.lower),
    ("X-GOOGLE-CONFERENCE", "hangoutLink", str),
)


def import_calendar(
    writer: Writer,
    calendar: CalendarState,
    source: bytes | str,
    *,
    around: datetime | None = None,
) -> list[str]:
    """Import every event of a file; `around` moves them by whole weeks to then.

    Returns the ids of what was imported. What is already there is replaced.
    """
    reading = Reading(writer, calendar, source)
    if around is not None:
        reading.move_around(around)
    return reading.run()


class Reading:
    """One import of one file."""

    def __init__(
        self, writer: Writer, calendar: CalendarState, source: bytes | str
    ) -> None:
        self._writer = writer
        self._calendar = calendar
        self._file = IcsFile(source, calendar.time_zone)
        self._shift = Shift(timedelta(0))
        self._ids: dict[str, str] = {}

    def move_around(self, now: datetime) -> None:
        """Move everything by the weeks that put the middle of the file at now."""
        self._shift = Shift(self._file.way_to(now))

    def run(self) -> list[str]:
        ids = [
            self._import_plain(event)
            for event in self._file.plain
            if not is_cancelled(event)
        ]
        return ids + [self._import_changed(event) for event in self._file.changed]

    def _import_plain(self, event: Any) -> str:
        uid = str(event.get("UID", hashlib.sha256(event.to_ical()).hexdigest()))
        body = self._body(event, uid)
        lines = self._lines(event)
        if lines:
            body |= self._shift.series(body, lines, self._calendar)
        event_id = self._new_id(uid)
        self._ids.setdefault(uid, event_id)
        self._put(event_id, body)
        return event_id

    def _import_changed(self, event: Any) -> str:
        uid = str(event.get("UID", ""))
        series_id = self._ids.get(uid) or _derived_id(self._calendar, uid)
        series = self._calendar.events.get(series_id)
        body = self._body(event, uid)
        original = self._shift.when(self._file.when(event["RECURRENCE-ID"].dt))
        if series is not None and series.series is not None:
            original = self._shift.nearest(series.series, original)
        event_id = occurrence_id(series_id, original)
        body |= {
            "recurringEventId": series_id,
            "originalStartTime": write_when(original, self._calendar.time_zone),
        }
        self._put(event_id, body, series, original)
        return event_id

    def _put(
        self,
        event_id: str,
        body: Json,
        series: EventRecord | None = None,
        original: When | None = None,
    ) -> None:
        record = self._calendar.events.get(event_id) or EventRecord(event_id, {})
        record.body = {"id": event_id, **body}
        if (
            series is not None
            and series.series is not None
            and original is not None
            and series.series.has(original)
        ):
            plain = unchanged(self._calendar, series, original)
            record.overrides = differences(plain, record.body)
        self._writer.store.save(self._calendar, record)

    def _body(self, event: Any, uid: str) -> Json:
        start, end = self._span(event)
        body: Json = {"status": "confirmed"}
        for name, key, read in SIMPLE:
            if event.get(name) not in {None, ""}:
                body[key] = read(str(event[name]))
        if body.get("visibility") == "public":
            # Nearly every export says PUBLIC, and means nothing special by it.
            del body["visibility"]
        return body | {
            "created": self._stamp(event, "CREATED"),
            "creator": {"email": self._calendar.owner},
            **self._people(event),
            "start": write_when(self._shift.when(start), self._calendar.time_zone),
            "end": write_when(self._shift.when(end), self._calendar.time_zone),
            "iCalUID": uid,
            "sequence": int(event.get("SEQUENCE", 0)),
            "reminders": {"useDefault": True},
            "eventType": "default",
        }

    def _span(self, event: Any) -> tuple[When, When]:
        start = self._file.when(event["DTSTART"].dt, recurring="RRULE" in event)
        if "DTEND" in event:
            return start, self._file.when(event["DTEND"].dt, recurring="RRULE" in event)
        if "DURATION" in event:
            return start, later(start, event["DURATION"].dt)
        return start, start if isinstance(start, datetime) else start + A_DAY

    def _lines(self, event: Any) -> list[str]:
        lines = [
            f"{name}:{rule.to_ical().decode()}"
            for name in ("RRULE", "EXRULE")
            for rule in listed(event.get(name))
        ]
        return lines + [
            date_line(name, self._file.when(value))
            for name in ("RDATE", "EXDATE")
            for value in dates_of(event, name)
        ]

    def _people(self, event: Any) -> Json:
        people: Json = {"organizer": {"email": self._calendar.id, "self": True}}
        organizer = address_of(event.get("ORGANIZER"))
        if organizer and organizer.lower() != self._calendar.id:
            people["organizer"] = {"email": organizer}
        attendees = [
            self._attendee(attendee) for attendee in listed(event.get("ATTENDEE"))
        ]
        return {**people, "attendees": attendees} if attendees else people

    def _attendee(self, attendee: Any) -> Json:
        email = address_of(attendee) or "unknown@example.invalid"
        parameters = attendee.params
        said = RESPONSES.get(str(parameters.get("PARTSTAT", "")).upper(), "needsAction")
        person: Json = {"email": email, "responseStatus": said}
        if parameters.get("CN"):
            person["displayName"] = str(parameters["CN"])
        if email.lower() == self._calendar.id:
            person["self"] = True
        return person

    def _stamp(self, event: Any, name: str) -> str:
        value = event[name].dt if name in event else None
        if not isinstance(value, datetime):
            value = self._writer.store.clock.now()
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")

    def _new_id(self, uid: str) -> str:
        """Return the id of an event; further ones of the same UID get their own."""
        event_id = _derived_id(self._calendar, uid)
        if uid in self._ids:
            event_id = _derived_id(self._calendar, f"{uid}#{len(self._ids)}")
            self._ids[event_id] = event_id
        return event_id


def _derived_id(calendar: CalendarState, uid: str) -> str:
    digest = hashlib.blake2b(f"{calendar.id}\n{uid}".encode(), digest_size=15).digest()
    return base64.b32hexencode(digest).decode().lower()
