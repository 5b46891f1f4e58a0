"""Start and end as Graph writes them: a wall time without an offset, and a zone."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from local_stack.twins.microsoft.errors import invalid
from local_stack.twins.microsoft.zones import zone_named
from local_stack.twins.moments import When, out_of_gap


def read_when(
    value: Mapping[str, Any] | None, which: str, *, all_day: bool
) -> tuple[When, str]:
    """Read a dateTimeTimeZone; returns the time and its zone's IANA name."""
    if not isinstance(value, Mapping) or not value.get("dateTime"):
        raise invalid(f"The event's {which} is missing.", "ErrorPropertyValidation")
    zone = zone_named(str(value.get("timeZone") or "UTC"))
    try:
        read = datetime.fromisoformat(_short(str(value["dateTime"])))
    except ValueError as problem:
        raise invalid(f"The {which} is no date and time.") from problem
    local = read.astimezone(zone) if read.tzinfo else read.replace(tzinfo=zone)
    if not all_day:
        return out_of_gap(local), zone.key
    if local.time() != time():
        raise invalid(
            "The Event.Start property for an all-day event needs to be set to midnight."
        )
    return local.date(), zone.key


def read_bound(text: str | None, which: str) -> datetime:
    """Read startDateTime and the like; without an offset it is UTC."""
    if not text:
        raise invalid(
            "This request requires a time window specified by the query string "
            f"parameters StartDateTime and EndDateTime; {which} is missing."
        )
    try:
        bound = datetime.fromisoformat(_short(text.replace(" ", "+")))
    except ValueError as problem:
        raise invalid(f"The value '{text[:40]}' of {which} is invalid.") from problem
    return (bound if bound.tzinfo else bound.replace(tzinfo=UTC)).astimezone(UTC)


def write_when(when: When, shown_in: str | None) -> dict[str, str]:
    """Write a time in the zone that was asked for, or in UTC.

    A whole day is midnight whatever the zone is: that is by design.
    """
    name = shown_in or "UTC"
    if isinstance(when, datetime):
        wall = when.astimezone(zone_named(name)).replace(tzinfo=None)
    else:
        wall = datetime.combine(when, time())
    return {"dateTime": f"{wall:%Y-%m-%dT%H:%M:%S.%f}0", "timeZone": name}


def stamp(when: datetime) -> str:
    """Write a moment: UTC with seven digits."""
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"


def start_of(when: date) -> datetime:
    """Return a day's first moment on a wall clock."""
    return datetime.combine(when, time())


def _short(text: str) -> str:
    """Cut Graph's seventh digit, which Python does not read."""
    head, dot, tail = text.partition(".")
    if not dot:
        return text
    digits = len(tail) - len(tail.lstrip("0123456789"))
    return f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}"
