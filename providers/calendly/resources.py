"""Calendly's bodies as they are spelled, and only the fields that we read.

https://developer.calendly.com/api-docs
"""

from typing import Any

import msgspec


class _Resource(msgspec.Struct, frozen=True):
    """Older deliveries lack what newer ones always have: so defaults."""


class QuestionAndAnswer(_Resource, frozen=True):
    """Asked on the booking page."""

    question: str = ""
    answer: str | None = None


class Cancellation(_Resource, frozen=True):
    """Present on what was cancelled only. `canceled_by` is a name, or a URI: a text."""

    canceled_by: str | None = None
    reason: str | None = None
    canceler_type: str | None = None


class NoShow(_Resource, frozen=True):
    """The mark."""

    uri: str | None = None
    created_at: str | None = None


class Location(_Resource, frozen=True):
    """Where; polymorphic on a type whose names differ between schema and life."""

    type: str = ""
    location: str | None = None
    status: str | None = None
    join_url: str | None = None


class Membership(_Resource, frozen=True):
    """A host."""

    user: str | None = None
    user_email: str | None = None


class Guest(_Resource, frozen=True):
    """Somebody whom the invitee brings along."""

    email: str | None = None


class InviteesCounter(_Resource, frozen=True):
    """How full the event is."""

    total: int | None = None
    active: int | None = None
    limit: int | None = None


class CalendarEvent(_Resource, frozen=True):
    """The same event in the host's own calendar."""

    kind: str | None = None
    external_id: str | None = None


class ScheduledEvent(_Resource, frozen=True):
    """What the host's day shows; several invitees may share it."""

    uri: str = ""
    name: str | None = None
    meeting_notes_plain: str | None = None
    status: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    location: Location | None = None
    invitees_counter: InviteesCounter | None = None
    updated_at: str | None = None
    event_memberships: list[Membership] | None = None
    event_guests: list[Guest] | None = None
    calendar_event: CalendarEvent | None = None


class Invitee(_Resource, frozen=True):
    """One person's booking."""

    uri: str = ""
    event: str | None = None
    email: str | None = None
    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    status: str | None = None
    timezone: str | None = None
    updated_at: str | None = None
    questions_and_answers: list[QuestionAndAnswer] | None = None
    tracking: dict[str, Any] | None = None
    text_reminder_number: str | None = None
    rescheduled: bool | None = None
    old_invitee: str | None = None
    new_invitee: str | None = None
    cancellation: Cancellation | None = None
    no_show: NoShow | None = None
    scheduled_event: ScheduledEvent | None = None


class Delivery(_Resource, frozen=True):
    """What a webhook posts."""

    event: str
    created_at: str | None = None
    created_by: str | None = None
    payload: msgspec.Raw = msgspec.Raw(b"null")


class User(_Resource, frozen=True):
    """An account."""

    uri: str
    email: str = ""
    name: str = ""
    timezone: str | None = None
    current_organization: str | None = None


class WebhookSubscription(_Resource, frozen=True):
    """A registered webhook."""

    uri: str
    callback_url: str = ""
    state: str = ""


class Single(_Resource, frozen=True):
    """An answer that is one thing."""

    resource: msgspec.Raw


class Pagination(_Resource, frozen=True):
    """Where the next page is; we take its token, never its address."""

    next_page_token: str | None = None


class Collection(_Resource, frozen=True):
    """An answer that is a page."""

    collection: list[msgspec.Raw] = []
    pagination: Pagination = Pagination()


class TokenAnswer(_Resource, frozen=True):
    """What the token endpoint answers."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
    scope: str | None = None
