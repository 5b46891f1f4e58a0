"""An .ics file, read as far as every calendar provider reads it alike."""

from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import icalendar

from local_stack.twins.moments import When, instant

WEEK = timedelta(days=7)


class IcsFile:
    """The events of a file, those that change an occurrence apart from the others."""

    def __init__(self, source: bytes | str, time_zone: str) -> None:
        components: list[Any] = icalendar.Calendar.from_ical(source, multiple=True)
        self._zone = _zone_of(components) or ZoneInfo(time_zone)
        self._time_zone = time_zone
        events = [e for c in components for e in c.walk("VEVENT") if "DTSTART" in e]
        self.plain = [event for event in events if "RECURRENCE-ID" not in event]
        self.changed = [event for event in events if "RECURRENCE-ID" in event]

    def way_to(self, now: datetime) -> timedelta:
        """Return the number of weeks that puts the middle of the file at now."""
        starts = [
            instant(self.when(event["DTSTART"].dt), self._time_zone)
            for event in [*self.plain, *self.changed]
        ]
        if not starts:
            return timedelta(0)
        middle = median(start.timestamp() for start in starts)
        return WEEK * round((now.timestamp() - middle) / WEEK.total_seconds())

    def when(self, value: When, *, recurring: bool = False) -> When:
        """Return a time in a zone that has a name."""
        if not isinstance(value, datetime):
            return value
        if value.tzinfo is None:
            return value.replace(tzinfo=self._zone)
        name = getattr(value.tzinfo, "key", None)
        if name is not None and name != "UTC":
            return value.astimezone(ZoneInfo(name))
        # A single time in UTC is shown where the file is at home; a series in UTC
        # has to stay there, because its rule does.
        return value.astimezone(ZoneInfo("UTC") if recurring else self._zone)


def is_cancelled(event: Any) -> bool:
    """Tell whether an event's own status says so."""
    return str(event.get("STATUS", "")).upper() == "CANCELLED"


def listed(value: Any) -> list[Any]:
    """Return a property's values: a parser gives one of them, or many, or none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def dates_of(event: Any, name: str) -> list[When]:
    """Return the dates of RDATE or EXDATE; of a period its start."""
    values = [value.dt for dates in listed(event.get(name)) for value in dates.dts]
    return [value[0] if isinstance(value, tuple) else value for value in values]


def date_line(name: str, when: When) -> str:
    """Write one date of RDATE or EXDATE."""
    if isinstance(when, datetime):
        return f"{name}:{when.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{name};VALUE=DATE:{when:%Y%m%d}"


def address_of(person: Any) -> str | None:
    """Return the e-mail address of an attendee or an organizer."""
    if person is None:
        return None
    return str(person).removeprefix("mailto:").removeprefix("MAILTO:") or None


def _zone_of(components: list[Any]) -> ZoneInfo | None:
    for component in components:
        try:
            return ZoneInfo(str(component["X-WR-TIMEZONE"]))
        except (KeyError, ValueError, ZoneInfoNotFoundError):
            continue
    return None
