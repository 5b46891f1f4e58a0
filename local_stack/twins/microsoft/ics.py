"""Reading .ics files into a calendar.

Rules that no Outlook pattern can say are kept all the same: the expansion follows the
rule, and the pattern shown is none.
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from local_stack.twins.ics_file import (
    IcsFile,
    address_of,
    date_line,
    dates_of,
    is_cancelled,
    listed,
)
from local_stack.twins.microsoft.bodies import Times, read_fields
from local_stack.twins.microsoft.recurrence import Inexpressible, pattern_of
from local_stack.twins.microsoft.state import CalendarState, EventRecord, Json
from local_stack.twins.microsoft.writer import Writer
from local_stack.twins.moments import When, later, moved, zone_of
from local_stack.twins.series import Series

A_DAY = timedelta(days=1)
SENSITIVITIES = {"PRIVATE": "private", "CONFIDENTIAL": "confidential"}


def import_calendar(
    writer: Writer,
    calendar: CalendarState,
    source: bytes | str,
    *,
    around: datetime | None = None,
) -> list[EventRecord]:
    """Import every event of a file; `around` moves them by whole weeks to then."""
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
        self._by = timedelta(0)
        self._made: dict[str, EventRecord] = {}

    def move_around(self, now: datetime) -> None:
        """Move everything by the weeks that put the middle of the file at now."""
        self._by = self._file.way_to(now)

    def run(self) -> list[EventRecord]:
        plain = [
            self._import_plain(event)
            for event in self._file.plain
            if not is_cancelled(event)
        ]
        return plain + [self._import_changed(event) for event in self._file.changed]

    def _import_plain(self, event: Any) -> EventRecord:
        times, lines = self._times(event), self._lines(event)
        record = EventRecord(self._fields(event), times.start, times.end, times.zone)
        if lines:
            record.lines, record.series = lines, Series(times.start, lines)
            with suppress(Inexpressible):
                record.pattern = pattern_of(lines, times.start)
            for original in self._left_out(event, record.series):
                record.deleted[original] = 0
        self._writer.store.save(self._calendar, record, "created")
        self._made.setdefault(str(event.get("UID", "")), record)
        return record

    def _import_changed(self, event: Any) -> EventRecord:
        master = self._made.get(str(event.get("UID", "")))
        original = self._when(event["RECURRENCE-ID"].dt)
        times, fields = self._times(event), self._fields(event)
        cancelled = is_cancelled(event)
        if master is None or master.series is None or not master.series.has(original):
            # Of a series that is not in the file, or at no occurrence: on its own.
            record = EventRecord(fields, times.start, times.end, times.zone)
            record.gone = cancelled
            self._writer.store.save(self._calendar, record, "created")
            return record
        if cancelled:
            master.deleted[original] = self._calendar.version + 1
            self._writer.store.save(self._calendar, master)
            return master
        record = self._writer.exception(master, original)
        record.fields = {**fields, "_own": sorted(fields)}
        record.start, record.end, record.zone = times.start, times.end, times.zone
        self._writer.store.save(self._calendar, record, "created")
        return record

    def _fields(self, event: Any) -> Json:
        attendees = [
            {"emailAddress": {"address": address, "name": one.params.get("CN")}}
            for one in listed(event.get("ATTENDEE"))
            if (address := address_of(one))
        ]
        organizer = address_of(event.get("ORGANIZER"))
        is_ours = organizer is None or organizer.lower() == self._calendar.owner
        text = str(event.get("DESCRIPTION", ""))
        given: Json = {
            "subject": str(event.get("SUMMARY", "")),
            "body": {"contentType": "text", "content": text},
            "location": {"displayName": str(event.get("LOCATION", ""))},
            "showAs": "free" if event.get("TRANSP") == "TRANSPARENT" else "busy",
            "sensitivity": SENSITIVITIES.get(str(event.get("CLASS")), "normal"),
            "attendees": attendees,
        }
        answer = "organizer" if is_ours else "notResponded"
        return {
            **read_fields(given, {}),
            "isOrganizer": is_ours,
            "responseStatus": {"response": answer, "time": "0001-01-01T00:00:00Z"},
            "organizer": self._writer.person(
                self._calendar.owner if is_ours else organizer or ""
            ),
        }

    def _times(self, event: Any) -> Times:
        recurring = "RRULE" in event
        start = self._when(event["DTSTART"].dt, recurring=recurring)
        if "DTEND" in event:
            end = self._when(event["DTEND"].dt, recurring=recurring)
        elif "DURATION" in event:
            end = later(start, event["DURATION"].dt)
        else:
            end = start if isinstance(start, datetime) else start + A_DAY
        zone = zone_of(start) if isinstance(start, datetime) else None
        return Times(start, end, zone or self._calendar.time_zone)

    def _when(self, value: When, *, recurring: bool = False) -> When:
        """Return a time in a zone that has a name, moved to where the file goes."""
        return moved(self._file.when(value, recurring=recurring), self._by)

    def _lines(self, event: Any) -> list[str]:
        if "RRULE" not in event and "RDATE" not in event:
            return []
        lines = [f"RRULE:{self._moved(rule)}" for rule in listed(event.get("RRULE"))]
        added = dates_of(event, "RDATE")
        return lines + [date_line("RDATE", self._when(value)) for value in added]

    def _left_out(self, event: Any, series: Series) -> list[When]:
        """Return the deleted occurrences; a bare date means the one of that day."""
        found: list[When] = []
        for value in dates_of(event, "EXDATE"):
            when = self._when(value)
            if series.zone is not None and not isinstance(when, datetime):
                at = series.wall(series.start).time()
                when = datetime.combine(when, at, series.zone)
            original = series.find(when)
            if original is not None:
                found.append(original)
        return found

    def _moved(self, rule: Any) -> str:
        if "UNTIL" in rule:
            rule = rule.copy()
            rule["UNTIL"] = [until + self._by for until in listed(rule["UNTIL"])]
        return str(rule.to_ical().decode())
