"""What the twin of Calendly knows."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from local_stack.twins.booking_store import BookingStore
from local_stack.twins.rest import Refusal
from runtime.clock import Clock

API = "https://api.calendly.com"
INSTANT = timedelta(microseconds=1)


class User(msgspec.Struct):
    """Somebody with an account, and what their plan allows."""

    id: str
    email: str
    name: str
    time_zone: str
    organization_id: str
    has_webhooks: bool = True

    @property
    def uri(self) -> str:
        return f"{API}/users/{self.id}"

    @property
    def organization(self) -> str:
        return f"{API}/organizations/{self.organization_id}"


class EventType(msgspec.Struct):
    """What can be booked with a host."""

    id: str
    host: str
    name: str
    minutes: int
    seats: int
    location: dict[str, Any] | None

    @property
    def uri(self) -> str:
        return f"{API}/event_types/{self.id}"


class Event(msgspec.Struct):
    """A scheduled event; its invitees share it."""

    id: str
    type_id: str
    host: str
    name: str
    starts_at: datetime
    ends_at: datetime
    created_at: datetime
    updated_at: datetime
    location: dict[str, Any] | None
    calendar_event: dict[str, str] | None
    cancellation: dict[str, Any] | None = None

    @property
    def uri(self) -> str:
        return f"{API}/scheduled_events/{self.id}"


class Invitee(msgspec.Struct):
    """One person's booking."""

    id: str
    event_id: str
    email: str
    name: str
    time_zone: str
    created_at: datetime
    updated_at: datetime
    answers: dict[str, str] = {}
    tracking: dict[str, str] = {}
    phone: str | None = None
    rescheduled: bool = False
    old_invitee: str | None = None
    new_invitee: str | None = None
    cancellation: dict[str, Any] | None = None
    no_show: dict[str, Any] | None = None
    scheduling_method: str | None = None

    @property
    def uri(self) -> str:
        return f"{API}/scheduled_events/{self.event_id}/invitees/{self.id}"


class Subscription(msgspec.Struct):
    """A registered webhook. `by_app` has its messages signed with the app's key."""

    id: str
    url: str
    events: list[str]
    scope: str
    organization: str
    user: str | None
    creator: str
    created_at: datetime
    updated_at: datetime
    signing_key: str | None
    by_app: bool
    is_active: bool = True
    retry_started_at: datetime | None = None

    @property
    def uri(self) -> str:
        return f"{API}/webhook_subscriptions/{self.id}"


class Grant(msgspec.Struct):
    """What a token speaks for. Without a client it is a personal token."""

    email: str
    client_id: str | None
    scopes: str
    expires_at: datetime | None = None


class Known(msgspec.Struct):
    """Everything, as it is carried over a restart."""

    users: dict[str, User] = {}
    types: dict[str, EventType] = {}
    events: dict[str, Event] = {}
    invitees: dict[str, Invitee] = {}
    subscriptions: dict[str, Subscription] = {}
    access: dict[str, Grant] = {}
    refresh: dict[str, Grant] = {}
    codes: dict[str, Grant] = {}


class Store(BookingStore[Known]):
    """What is known, and how to find it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, Known(), tick=INSTANT)

    def invitees_of(self, event: Event) -> list[Invitee]:
        """Return who booked an event, in the order they did, the gone included."""
        return [
            invitee
            for invitee in self.known.invitees.values()
            if invitee.event_id == event.id
        ]

    def user(self, email: str) -> User:
        return self.known.users[email]


def new_id() -> str:
    """Return an id as newer resources have it."""
    return str(uuid4())


def id_of(uri: object) -> str:
    """Return the last part of a URI."""
    return str(uri).rstrip("/").rpartition("/")[2]


def refusal(
    status: int, title: str, message: str, headers: dict[str, str] | None = None
) -> Refusal:
    """Say no as Calendly does."""
    return Refusal(status, {"title": title, "message": message}, headers)


def not_found() -> Refusal:
    """It is not there, or not yours: Calendly does not say which."""
    return refusal(404, "Resource Not Found", "The server could not find it.")


def invalid(message: str) -> Refusal:
    """The request itself is wrong."""
    return refusal(400, "Invalid Argument", message)
