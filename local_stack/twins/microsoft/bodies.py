"""What Graph accepts as an event, and how it tidies what it was given."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from local_stack.twins.microsoft.errors import invalid
from local_stack.twins.microsoft.recurrence import first_by_rule, lines_of
from local_stack.twins.microsoft.state import EventRecord, Json
from local_stack.twins.microsoft.times import read_when
from local_stack.twins.moments import When, later, length

PLAIN = frozenset({
    "subject", "showAs", "sensitivity", "importance", "categories", "isReminderOn",
    "reminderMinutesBeforeStart", "responseRequested", "allowNewTimeProposals",
    "hideAttendees", "singleValueExtendedProperties",
})  # fmt: skip
TIMES = ("start", "end", "isAllDay")
MOST_ATTENDEES = 500
UNANSWERED = {"response": "none", "time": "0001-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Times:
    """When an event is, as a client wrote it."""

    start: When
    end: When
    zone: str


def read_fields(given: Mapping[str, Any], old: Json) -> Json:
    """Return the fields a client may decide, in the form in which they are kept."""
    fields = {key: value for key, value in given.items() if key in PLAIN}
    if "body" in given:
        fields |= _body(given["body"])
    if "location" in given:
        location = {"locationType": "default", **(given["location"] or {})}
        # Setting one location wipes whatever there was besides it.
        fields |= {"location": {"displayName": "", **location}, "locations": [location]}
    if "attendees" in given:
        known = {_address(one): one for one in old.get("attendees", ())}
        fields["attendees"] = [
            _attendee(one, known) for one in given["attendees"] or ()
        ]
        if len(fields["attendees"]) > MOST_ATTENDEES:
            raise invalid(
                "An event has at most 500 attendees.", "ErrorTooManyAttendees"
            )
    if given.get("isOnlineMeeting") and not old.get("isOnlineMeeting"):
        fields |= _online(given)
    return fields


def read_times(given: Mapping[str, Any], old: EventRecord | None) -> Times | None:
    """Return new times; None where a change names none.

    Raises:
        ApiError: 400 where they make no sense.
    """
    if old is not None and not any(name in given for name in TIMES):
        return None
    was_all_day = old is not None and not isinstance(old.start, datetime)
    all_day = bool(given.get("isAllDay", was_all_day))
    if old is not None and "start" not in given:
        start, zone = old.start, old.zone
    else:
        start, zone = read_when(given.get("start"), "start", all_day=all_day)
    if old is not None and "end" not in given:
        end, end_zone = old.end, zone
    else:
        end, end_zone = read_when(given.get("end"), "end", all_day=all_day)
    if isinstance(start, datetime) is not isinstance(end, datetime):
        raise invalid("Start and end must be of one kind.")
    if all_day and zone != end_zone:
        raise invalid("An all-day event starts and ends in the same time zone.")
    elapsed = length(start, end).total_seconds()
    if elapsed < 0 or (all_day and not elapsed):
        raise invalid(
            "End time must be after start time.",
            "ErrorCalendarEndDateIsEarlierThanStartDate",
        )
    return Times(start, end, zone)


def read_recurrence(recurrence: Json, times: Times) -> tuple[Times, list[str], Json]:
    """Return where a series really begins, its rule, and its pattern in full."""
    lines = lines_of(recurrence)
    start = first_by_rule(times.start, lines)
    end = later(start, length(times.start, times.end))
    day: date = start.date() if isinstance(start, datetime) else start
    span = {"recurrenceTimeZone": times.zone, **recurrence.get("range", {})}
    span = {"type": "noEnd", **span, "startDate": day.isoformat()}
    pattern = {"interval": 1, **recurrence["pattern"]}
    return Times(start, end, times.zone), lines, {"pattern": pattern, "range": span}


def _body(given: Any) -> Json:
    given = given or {}
    kind, content = str(given.get("contentType", "text")).lower(), given.get("content")
    text = str(content or "")
    if kind == "text" and text:
        # Exchange keeps HTML, whatever it was given.
        text = f"<html><body><div>{text}</div></body></html>"
    preview = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).strip()
    body = {"contentType": "html", "content": text}
    return {"body": body, "bodyPreview": preview[:255]}


def _attendee(given: Any, known: dict[str, Json]) -> Json:
    email = _address(given)
    if not email:
        raise invalid("An attendee has no address.", "ErrorInvalidRecipients")
    status = known.get(email, {}).get("status", UNANSWERED)
    address = given["emailAddress"]
    return {
        "type": given.get("type") or "required",
        "status": status,
        "emailAddress": {
            "name": address.get("name") or address["address"],
            "address": address["address"],
        },
    }


def _address(attendee: Any) -> str:
    if not isinstance(attendee, Mapping):
        return ""
    return str((attendee.get("emailAddress") or {}).get("address") or "").lower()


def _online(given: Mapping[str, Any]) -> Json:
    digest = hashlib.blake2b(repr(given).encode(), digest_size=9).hexdigest()
    link = f"https://teams.microsoft.com/l/meetup-join/19%3ameeting_{digest}"
    return {
        "isOnlineMeeting": True,
        "onlineMeetingProvider": given.get("onlineMeetingProvider")
        or "teamsForBusiness",
        "onlineMeeting": {"joinUrl": link, "conferenceId": digest[:9]},
    }
