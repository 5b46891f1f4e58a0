"""What Google accepts as an event, and how it tidies what it was given."""

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from local_stack.twins.google.conferences import with_meeting
from local_stack.twins.google.errors import (
    ApiError,
    invalid,
    required,
    time_range_empty,
)
from local_stack.twins.google.state import CalendarState, Json
from local_stack.twins.google.times import read_when, write_when
from local_stack.twins.moments import When, is_all_day, length
from local_stack.twins.series import InvalidRule, Series

EVENT_ID = re.compile(r"^[a-v0-9]{5,1024}$")
STATUSES = frozenset({"confirmed", "tentative", "cancelled"})
THE_END = datetime(9999, 12, 31)  # noqa: DTZ001 - on any wall clock
MAX_PROPERTY_KEY = 44
MAX_PROPERTY_VALUE = 1024

READ_ONLY = frozenset(
    {
        "kind",
        "etag",
        "id",
        "htmlLink",
        "created",
        "updated",
        "creator",
        "organizer",
        "iCalUID",
        "recurringEventId",
        "originalStartTime",
        "eventType",
        "hangoutLink",
        "locked",
        "privateCopy",
        "attendeesOmitted",
    }
)
"""Sent by clients that write back what they read, and ignored in every write."""

KEPT_BY_PUT = frozenset(
    {
        "id",
        "created",
        "creator",
        "organizer",
        "iCalUID",
        "recurringEventId",
        "originalStartTime",
        "eventType",
        "hangoutLink",
    }
)

PERSONAL = frozenset(
    {"reminders", "colorId", "transparency", "visibility", "extendedProperties"}
)
"""What each guest keeps for their own copy."""

TIMING = ("start", "end", "recurrence")


def patched(old: Json, given: Json) -> Json:
    """Apply a PATCH of what the client may decide."""
    return merged(old, without_read_only(given))


def merged(old: Json, patch: Json) -> Json:
    """Apply a PATCH: null removes, objects merge, arrays are replaced whole."""
    result = dict(old)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def replaced(old: Json, given: Json) -> Json:
    """Apply a PUT: what is not given is cleared, what is not the client's stays."""
    kept = {key: old[key] for key in old if _kept_by_put(key, given)}
    return {**without_read_only(given), **kept}


def without_read_only(body: Json) -> Json:
    """Drop what a client may send but not decide."""
    return {key: value for key, value in body.items() if key not in READ_ONLY}


def tidied(calendar: CalendarState, body: Json) -> Json:
    """Check a whole event and return it in the form in which Google stores it.

    Raises:
        ApiError: 400 with Google's reason.
    """
    body = {key: value for key, value in body.items() if value is not None}
    body.setdefault("status", "confirmed")
    if body["status"] not in STATUSES:
        raise invalid("Invalid value for: status")
    body.setdefault("reminders", {"useDefault": True})
    body.setdefault("eventType", "default")
    _tidy_times(calendar, body)
    if "extendedProperties" in body:
        body["extendedProperties"] = _tidy_properties(body["extendedProperties"])
    if not body.get("attendees"):
        body.pop("attendees", None)
    mark_self(calendar, body)
    return with_meeting(body)


def _tidy_times(calendar: CalendarState, body: Json) -> None:
    zone_name = calendar.time_zone
    start = read_when(body.get("start"), zone_name, "start")
    end = read_when(body.get("end"), zone_name, "end")
    if is_all_day(start) != is_all_day(end):
        raise invalid("Invalid start time.")
    elapsed = length(start, end)
    if elapsed < timedelta(0) or (is_all_day(start) and not elapsed):
        raise time_range_empty()
    if body.get("recurrence"):
        if isinstance(start, datetime) and not body["start"].get("timeZone"):
            raise required("Missing time zone definition for start time.")
        if not _has_occurrences(start, list(body["recurrence"])):
            raise invalid("Invalid recurrence rule.")
    else:
        body.pop("recurrence", None)
    body["start"] = write_when(start, zone_name)
    body["end"] = write_when(end, zone_name)


def _has_occurrences(start: When, lines: list[str]) -> bool:
    try:
        return any(True for _ in Series(start, lines).starts(THE_END))
    except InvalidRule:
        return False


def shown_on(calendar: CalendarState, body: Json) -> Json:
    """Return a body with its times written with the offsets of another calendar."""
    shown = dict(body)
    for key in ("start", "end", "originalStartTime"):
        # A malformed time is copied as it is.
        with suppress(ApiError):
            when = read_when(body.get(key), calendar.time_zone, key)
            shown[key] = write_when(when, calendar.time_zone)
    return shown


def _tidy_properties(properties: Any) -> Json:
    """Do to extended properties what Google does, without a word: drop and cut."""
    if not isinstance(properties, dict):
        raise invalid("Invalid value for: extendedProperties")
    return {
        kind: {
            key: str(value)[:MAX_PROPERTY_VALUE]
            for key, value in (values or {}).items()
            if len(key) <= MAX_PROPERTY_KEY and value is not None
        }
        for kind, values in properties.items()
        if kind in {"private", "shared"}
    }


def mark_self(calendar: CalendarState, body: Json) -> None:
    """Say on whose calendar this copy lies: `self` for its organizer and attendee."""
    for key in ("organizer", "creator"):
        if body.get(key):
            body[key] = _marked(calendar, body[key])
    if body.get("attendees"):
        organizer = body.get("organizer", {}).get("email")
        body["attendees"] = [
            _attendee(calendar, attendee, organizer) for attendee in body["attendees"]
        ]


def _attendee(calendar: CalendarState, attendee: Json, organizer: str | None) -> Json:
    if not attendee.get("email"):
        raise required("Missing attendee email.")
    marked = _marked(calendar, attendee)
    marked.setdefault("responseStatus", "needsAction")
    marked.pop("organizer", None)
    if marked["email"].lower() == (organizer or "").lower():
        marked["organizer"] = True
    return marked


def _marked(calendar: CalendarState, person: Json) -> Json:
    marked = {key: value for key, value in person.items() if key != "self"}
    if str(marked.get("email", "")).lower() == calendar.id.lower():
        marked["self"] = True
    return marked


def is_organizers(body: Json) -> bool:
    """Tell whether this copy is the one that counts."""
    return bool(body.get("organizer", {}).get("self"))


def checked_id(event_id: object) -> str:
    """Return an id a client chose, if Google would take it."""
    if not isinstance(event_id, str) or not EVENT_ID.match(event_id):
        raise ApiError(400, "invalid", "Invalid resource id value.")
    return event_id


def _kept_by_put(key: str, given: Json) -> bool:
    if key == "conferenceData":
        return key not in given
    return key in KEPT_BY_PUT


def checked_sequence(old: Json, given: object) -> int:
    """Return the sequence after a write that may name one."""
    was = int(old.get("sequence", 0))
    if given is None:
        return was
    if not isinstance(given, int) or given < was:
        raise invalid(
            "Invalid sequence value. The specified sequence number is below the "
            "current sequence number of the resource. Re-fetch the resource and use "
            "its sequence number on the following request."
        )
    return given
