"""Google's answers as they are spelled, and only the fields that we read.

https://developers.google.com/workspace/calendar/api/v3/reference
"""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

# What a column of Postgres' integer holds.
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
# Until the year 9999.
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_000)]


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    """Google leaves fields out more often than its reference admits: so defaults."""


class When(_Resource, frozen=True):
    """A date, or a time: never both."""

    date: str | None = None
    date_time: str | None = None
    time_zone: str | None = None


class Person(_Resource, frozen=True):
    """An attendee or the organizer."""

    email: str | None = None
    display_name: str | None = None
    response_status: str | None = None
    organizer: bool = False
    optional: bool = False
    resource: bool = False
    is_self: bool = msgspec.field(default=False, name="self")


class EntryPoint(_Resource, frozen=True):
    """One way into a conference."""

    entry_point_type: str | None = None
    uri: str | None = None


class Conference(_Resource, frozen=True):
    """Where an event is held online."""

    entry_points: list[EntryPoint] = []


class Event(_Resource, frozen=True):
    """A single event, a series, one of its instances, or what is left of one."""

    id: str = ""
    status: str | None = None
    ical_uid: str | None = msgspec.field(default=None, name="iCalUID")
    etag: str | None = None
    sequence: Int32 | None = None
    summary: str | None = None
    description: str | None = None
    location: str | None = None
    start: When = When()
    end: When = When()
    original_start_time: When = When()
    recurring_event_id: str | None = None
    recurrence: list[str] | None = None
    organizer: Person | None = None
    attendees: list[Person] = []
    attendees_omitted: bool = False
    hangout_link: str | None = None
    conference_data: Conference = Conference()
    visibility: str | None = None
    event_type: str | None = None
    updated: str | None = None


class Identified(_Resource, frozen=True):
    """What every event has."""

    id: str = ""


class EventList(_Resource, frozen=True):
    """A page of events, each left as it came."""

    items: list[msgspec.Raw] = []
    next_page_token: str | None = None
    next_sync_token: str | None = None
    time_zone: str | None = None


class Channel(_Resource, frozen=True):
    """What watch answers; its end in milliseconds since the epoch."""

    resource_id: str
    # int64, so a text in JSON, though the guides print a number.
    expiration: Milliseconds | None = None

    def expires_at(self) -> datetime | None:
        if self.expiration is None:
            return None
        return datetime.fromtimestamp(self.expiration / 1000, UTC)


class CalendarListEntry(_Resource, frozen=True):
    """A calendar as its user has it in the list."""

    id: str
    summary: str = ""
    summary_override: str | None = None
    time_zone: str | None = None
    primary: bool = False
    access_role: str = ""
    deleted: bool = False


class CalendarList(_Resource, frozen=True):
    """A page of calendars."""

    items: list[CalendarListEntry] = []
    next_page_token: str | None = None


class TokenAnswer(_Resource, frozen=True, rename=None):
    """What the token endpoint answers, in OAuth's spelling."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    scope: str | None = None
