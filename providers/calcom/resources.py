"""Cal.com's bodies as they are spelled, and only the fields that we read.

Webhooks and API spell the same booking differently. Deliveries are often partial.

https://cal.com/docs/developing/guides/automation/webhooks
https://cal.com/docs/api-reference/v2
"""

from typing import Any

import msgspec


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    """Absent keys are common, and so are nulls: so defaults."""


class Person(_Resource, frozen=True):
    """An attendee, an organizer, or the user of a flat body."""

    name: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    time_zone: str | None = None
    phone_number: str | None = None
    no_show: bool | None = None
    absent: bool | None = None
    seat_uid: str | None = None


class Reference(_Resource, frozen=True):
    """The booking in a calendar of the host; webhook and API name its id unlike."""

    type: str = ""
    uid: str | None = None
    event_uid: str | None = None
    external_calendar_id: str | None = None


class VideoCall(_Resource, frozen=True):
    """Where to meet online; its password stays out."""

    url: str | None = None


class Payload(_Resource, frozen=True):
    """A booking as webhooks tell it, whatever the trigger; flat ones too."""

    uid: str | None = None
    booking_uid: str | None = None
    title: str | None = None
    description: str | None = None
    additional_notes: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    organizer: Person | None = None
    user: Person | None = None
    user_primary_email: str | None = None
    attendees: list[Person] | None = None
    responses: dict[str, Any] | None = None
    user_fields_responses: dict[str, Any] | None = None
    custom_inputs: dict[str, Any] | None = None
    location: str | dict[str, Any] | None = None
    video_call_data: VideoCall | None = None
    ical_uid: str | None = msgspec.field(default=None, name="iCalUID")
    ical_sequence: int | None = msgspec.field(default=None, name="iCalSequence")
    metadata: dict[str, Any] | None = None
    status: str | None = None
    reschedule_uid: str | None = None
    from_reschedule: str | None = None
    request_reschedule: bool | None = None
    cancellation_reason: str | None = None
    cancelled_by: str | None = None
    rejection_reason: str | None = None
    seats_per_time_slot: int | None = None
    attendee_seat_id: str | None = None
    recurring_event: dict[str, Any] | None = None
    existing_recurring_event: dict[str, Any] | None = None
    recurring_event_id: str | None = None
    sms_reminder_number: str | None = None
    references: list[Reference] | None = None


class Envelope(_Resource, frozen=True):
    """What a webhook posts; flat bodies have no payload."""

    trigger_event: str
    created_at: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"")


class EventTypeOfBooking(_Resource, frozen=True):
    """Which kind of booking."""

    id: int | None = None
    slug: str | None = None


class Fetched(_Resource, frozen=True):
    """A booking as the API v2 tells it (2024-08-13)."""

    uid: str = ""
    title: str | None = None
    description: str | None = None
    hosts: list[Person] | None = None
    status: str | None = None
    start: str | None = None
    end: str | None = None
    location: str | None = None
    meeting_url: str | None = None
    updated_at: str | None = None
    metadata: dict[str, Any] | None = None
    ics_uid: str | None = None
    attendees: list[Person] | None = None
    guests: list[str] | None = None
    booking_fields_responses: dict[str, Any] | None = None
    cancellation_reason: str | None = None
    cancelled_by_email: str | None = None
    rescheduled_from_uid: str | None = None
    rescheduled_to_uid: str | None = None
    recurring_booking_uid: str | None = None


class Pagination(_Resource, frozen=True):
    """How much is left."""

    returned_items: int = 0
    has_next_page: bool = False


class Answer(_Resource, frozen=True):
    """What the API answers."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    pagination: Pagination = Pagination()


class Webhook(_Resource, frozen=True):
    """A registered webhook; its secret comes in clear, and is not read."""

    id: int | str
    subscriber_url: str = ""
    active: bool = True
    payload_template: str | None = None


class Me(_Resource, frozen=True):
    """The account."""

    id: int | str
    email: str = ""
    name: str | None = None
    username: str | None = None
    time_zone: str | None = None
    organization_id: int | None = None
