"""Reading .ics files into a calendar.

Rules that no Outlook pattern can say are kept all the same: the expansion follows the
rule, and the pattern shown is none.
"""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import icalendar

from local_stack.twins.microsoft.bodies import Times, read_fields
from local_stack.twins.microsoft.recurrence import Inexpressible, pattern_of
from local_stack.twins.microsoft.state import CalendarState, EventRecord, Json
from local_stack.twins.microsoft.writer import Writer
from local_stack.twins.moments import When, instant, later, out_of_gap, zone_of
from local_stack.twins.series import Series

WEEK = timedelta(days=7)
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
        components: list[Any] = icalendar.Calendar.from_ical(source, multiple=True)
        self._zone = _file_zone(components) or ZoneInfo(calendar.time_zone)
        events = [e for c in components for e in c.walk("VEVENT") if "DTSTART" in e]
        self._plain = [event for event in events if "RECURRENCE-ID" not in event]
        self._changed = [event for event in events if "RECURRENCE-ID" in event]
        self._by = timedelta(0)
        self._made: dict[str, EventRecord] = {}

    def move_around(self, now: datetime) -> None:
        """Choose the number of weeks that puts the middle of the file at now."""
        starts = [
            instant(self._when(event["DTSTART"].dt), self._calendar.time_zone)
            for event in [*self._plain, *self._changed]
        ]
        if starts:
            middle = median(start.timestamp() for start in starts)
            self._by = WEEK * round((now.timestamp() - middle) / WEEK.total_seconds())

    def run(self) -> list[EventRecord]:
        plain = [
            self._import_plain(event)
            for event in self._plain
            if str(event.get("STATUS", "")).upper() != "CANCELLED"
        ]
        return plain + [self._import_changed(event) for event in self._changed]

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
        cancelled = str(event.get("STATUS", "")).upper() == "CANCELLED"
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
            for one in _listed(event.get("ATTENDEE"))
            if (address := _address(one))
        ]
        organizer = _address(event.get("ORGANIZER"))
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
        if not isinstance(value, datetime):
            return value + self._by
        if value.tzinfo is None:
            value = value.replace(tzinfo=self._zone)
        name = getattr(value.tzinfo, "key", None)
        if name is not None and name != "UTC":
            value = value.astimezone(ZoneInfo(name))
        else:
            # A series in UTC has to stay there, because its rule does.
            value = value.astimezone(ZoneInfo("UTC") if recurring else self._zone)
        moved = value.replace(tzinfo=None) + self._by
        return out_of_gap(moved.replace(tzinfo=value.tzinfo))

    def _lines(self, event: Any) -> list[str]:
        if "RRULE" not in event and "RDATE" not in event:
            return []
        lines = [f"RRULE:{self._moved(rule)}" for rule in _listed(event.get("RRULE"))]
        for dates in _listed(event.get("RDATE")):
            lines += [self._date_line("RDATE", value.dt) for value in dates.dts]
        return lines

    def _left_out(self, event: Any, series: Series) -> list[When]:
        """Return the deleted occurrences; a bare date means the one of that day."""
        found: list[When] = []
        for dates in _listed(event.get("EXDATE")):
            for value in dates.dts:
                when = self._when(value.dt)
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
            rule["UNTIL"] = [until + self._by for until in _listed(rule["UNTIL"])]
        return str(rule.to_ical().decode())

    def _date_line(self, name: str, value: Any) -> str:
        when: date = self._when(value[0] if isinstance(value, tuple) else value)
        if isinstance(when, datetime):
            return f"{name}:{when.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        return f"{name};VALUE=DATE:{when:%Y%m%d}"


def _file_zone(components: list[Any]) -> tzinfo | None:
    for component in components:
        try:
            return ZoneInfo(str(component["X-WR-TIMEZONE"]))
        except (KeyError, ValueError, ZoneInfoNotFoundError):
            continue
    return None


def _address(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).removeprefix("mailto:").removeprefix("MAILTO:") or None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
