"""Moments as calendars have them: an instant in some zone, or a whole day."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

When: TypeAlias = datetime | date
"""An aware datetime in the event's own zone, or a date for all-day events."""

ZERO = timedelta(0)


@lru_cache(maxsize=1024)
def known_zone(name: str) -> ZoneInfo:
    """Return a zone; ValueError when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as problem:
        raise ValueError(f"unknown time zone: {name}") from problem


def is_all_day(when: When) -> bool:
    """Tell a date from a datetime, which is a date to Python too."""
    return not isinstance(when, datetime)


def zone_of(when: datetime) -> str:
    """Return the IANA name of a time's zone."""
    return getattr(when.tzinfo, "key", "UTC")


def out_of_gap(when: datetime) -> datetime:
    """Move a local time that a clock change skips to where the clocks go on."""
    return when.astimezone(UTC).astimezone(when.tzinfo)


def instant(when: When, zone_name: str) -> datetime:
    """Return the moment in UTC; a date begins at midnight in the calendar's zone."""
    if isinstance(when, datetime):
        return when.astimezone(UTC)
    return datetime.combine(when, time(), known_zone(zone_name)).astimezone(UTC)


def length(start: When, end: When) -> timedelta:
    """Return how long an event really takes, clock changes included."""
    if isinstance(start, datetime) and isinstance(end, datetime):
        return end.astimezone(UTC) - start.astimezone(UTC)
    return _date_of(end) - _date_of(start)


def later(when: When, by: timedelta) -> When:
    """Add elapsed time to an instant, or days to a date."""
    if isinstance(when, datetime):
        return (when.astimezone(UTC) + by).astimezone(when.tzinfo)
    return when + by


def moved(when: When, by: timedelta) -> When:
    """Move a time on its wall clock, a date as it is."""
    if not isinstance(when, datetime):
        return when + by
    return out_of_gap((when.replace(tzinfo=None) + by).replace(tzinfo=when.tzinfo))


def _date_of(when: When) -> date:
    return when.date() if isinstance(when, datetime) else when
