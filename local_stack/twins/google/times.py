"""Start and end as Google writes them: a date, or an instant shown in some zone."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from local_stack.twins.google.errors import invalid, required
from local_stack.twins.moments import When, known_zone, out_of_gap, zone_of


def zone_named(name: str) -> ZoneInfo:
    """Return a zone; an unknown one is the client's mistake."""
    try:
        return known_zone(name)
    except ValueError as problem:
        raise invalid(f"Invalid time zone definition: {name}") from problem


def read_when(value: Mapping[str, Any] | None, zone_name: str, which: str) -> When:
    """Read `start`, `end` or `originalStartTime`; which is its name in messages."""
    if not value or (value.get("date") is None and value.get("dateTime") is None):
        raise required(f"Missing {which} time.")
    if value.get("date") is not None and value.get("dateTime") is not None:
        raise invalid(f"Invalid {which} time.")
    try:
        if value.get("date") is not None:
            return date.fromisoformat(value["date"])
        read = datetime.fromisoformat(value["dateTime"])
    except (TypeError, ValueError) as problem:
        raise invalid(f"Invalid value for: {which} time") from problem
    zone = zone_named(value.get("timeZone") or zone_name)
    if read.tzinfo is not None:
        return read.astimezone(zone)
    if value.get("timeZone") is None:
        raise required(f"Missing time zone definition for {which} time.")
    return out_of_gap(read.replace(tzinfo=zone))


def write_when(when: When, shown_in: str) -> dict[str, str]:
    """Write a time with the offset of the calendar, but the name of its own zone."""
    if not isinstance(when, datetime):
        return {"date": when.isoformat()}
    shown = when.astimezone(zone_named(shown_in)).isoformat(timespec="seconds")
    if shown.endswith("+00:00"):
        shown = shown[:-6] + "Z"
    return {"dateTime": shown, "timeZone": zone_of(when)}


def read_bound(text: str | None, name: str) -> datetime | None:
    """Read timeMin and the like: RFC 3339 with an offset, milliseconds ignored."""
    if text is None:
        return None
    try:
        bound = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as problem:
        raise invalid("Bad Request", name) from problem
    if bound.tzinfo is None:
        raise invalid("Bad Request", name)
    return bound.astimezone(UTC).replace(microsecond=0)


def stamp(when: datetime) -> str:
    """Write `created` and `updated`: UTC with milliseconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + (
        f"{when.microsecond // 1000:03d}Z"
    )
