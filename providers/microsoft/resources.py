"""Graph's answers as they are spelled, and only the fields that we read.

https://learn.microsoft.com/graph/api/resources/event
"""

import msgspec


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    """Graph says null as often as it leaves a field out: so both are the same."""


class When(_Resource, frozen=True):
    """A wall time and the zone it is shown in, never an offset."""

    date_time: str | None = None
    time_zone: str | None = None


class EmailAddress(_Resource, frozen=True):
    """Somebody's address."""

    name: str | None = None
    address: str | None = None


class Response(_Resource, frozen=True):
    """An answer to an invitation."""

    response: str | None = None


class Person(_Resource, frozen=True):
    """An attendee, or the organizer."""

    email_address: EmailAddress | None = None
    type: str | None = None
    status: Response | None = None


class Body(_Resource, frozen=True):
    """The text of an event; HTML, for that is what Exchange keeps."""

    content: str | None = None


class Location(_Resource, frozen=True):
    """Where it is."""

    display_name: str | None = None


class OnlineMeeting(_Resource, frozen=True):
    """Where an event is held online."""

    join_url: str | None = None


class Removed(_Resource, frozen=True):
    """Why an item is no longer in sight; "deleted" says less than it seems to."""

    reason: str | None = None


class Event(_Resource, frozen=True):
    """A single event, a series, one of its members, or what is left of one."""

    id: str = ""
    etag: str | None = msgspec.field(default=None, name="@odata.etag")
    removed: Removed | None = msgspec.field(default=None, name="@removed")
    type: str | None = None
    series_master_id: str | None = None
    ical_uid: str | None = msgspec.field(default=None, name="iCalUId")
    subject: str | None = None
    body: Body | None = None
    body_preview: str | None = None
    location: Location | None = None
    start: When | None = None
    end: When | None = None
    is_all_day: bool | None = None
    original_start: str | None = None
    original_start_time_zone: str | None = None
    is_cancelled: bool | None = None
    is_organizer: bool | None = None
    response_status: Response | None = None
    show_as: str | None = None
    sensitivity: str | None = None
    attendees: list[Person] | None = None
    organizer: Person | None = None
    online_meeting: OnlineMeeting | None = None
    online_meeting_url: str | None = None
    last_modified_date_time: str | None = None


class Head(_Resource, frozen=True):
    """What decides what becomes of an item of a delta."""

    id: str = ""
    type: str | None = None
    series_master_id: str | None = None
    removed: Removed | None = msgspec.field(default=None, name="@removed")


class EventList(_Resource, frozen=True):
    """A page of events, each left as it came."""

    value: list[msgspec.Raw]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")
    delta_link: str | None = msgspec.field(default=None, name="@odata.deltaLink")


class Calendar(_Resource, frozen=True):
    """A calendar as its user has it in the list."""

    id: str
    name: str | None = None
    is_default_calendar: bool | None = None
    can_edit: bool | None = None
    can_share: bool | None = None


class CalendarList(_Resource, frozen=True):
    """A page of calendars."""

    value: list[Calendar]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")


class Subscription(_Resource, frozen=True):
    """What creating, renewing and listing answer."""

    id: str
    expiration_date_time: str
    resource: str | None = None
    notification_url: str | None = None


class SubscriptionList(_Resource, frozen=True):
    """A page of subscriptions."""

    value: list[Subscription]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")


class TranslatedId(_Resource, frozen=True):
    """An id, and what it is in the other form; null where nothing has it."""

    source_id: str
    target_id: str | None = None


class TranslatedIds(_Resource, frozen=True):
    """What translateExchangeIds answers."""

    value: list[TranslatedId]


class NotificationItem(_Resource, frozen=True):
    """One item of a notification."""

    subscription_id: str = ""
    client_state: str | None = None
    change_type: str | None = None
    lifecycle_event: str | None = None
    subscription_expiration_date_time: str | None = None


class Notifications(_Resource, frozen=True):
    """What Graph posts: several items, of several subscriptions and tenants."""

    value: list[NotificationItem]


class TokenAnswer(_Resource, frozen=True, rename=None):
    """What the token endpoint answers, in OAuth's spelling."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    scope: str | None = None
