"""What the twin of Cal.com knows."""

import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec

from local_stack.twins.booking_store import BookingStore
from local_stack.twins.rest import Refusal
from runtime.clock import Clock

ALPHABET = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
UID_LENGTH = 22
A_TICK = timedelta(milliseconds=1)


class User(msgspec.Struct):
    """Somebody with an account."""

    id: int
    email: str
    name: str
    time_zone: str
    # The app that their bookings are put into a calendar with; None = there is none.
    calendar: str | None = "google_calendar"


class EventType(msgspec.Struct):
    """What can be booked with a host."""

    id: int
    host: str
    slug: str
    title: str
    minutes: int
    seats: int | None
    needs_approval: bool
    needs_payment: bool
    location: str


class Attendee(msgspec.Struct):
    """Somebody who comes; in a seated booking each has a seat."""

    email: str
    name: str
    time_zone: str
    phone: str | None = None
    seat_id: str | None = None
    absent: bool = False


class Booking(msgspec.Struct):
    """A row. What the API shows of it may be older: see `Store.shown`."""

    id: int
    uid: str
    type_id: int
    host: str
    title: str
    starts_at: datetime
    ends_at: datetime
    status: str
    attendees: list[Attendee]
    created_at: datetime
    updated_at: datetime
    ical_uid: str
    sequence: int = 0
    location: str = ""
    metadata: dict[str, Any] = {}
    responses: dict[str, Any] = {}
    from_uid: str | None = None
    to_uid: str | None = None
    series_uid: str | None = None
    cancellation_reason: str | None = None
    cancelled_by: str | None = None
    # The id that it has in the host's calendar.
    calendar_event: str | None = None
    told: bool = False


class Webhook(msgspec.Struct):
    """A registered webhook of an account, or of another level above it."""

    id: str
    host: str
    url: str
    triggers: list[str]
    secret: str | None
    active: bool = True
    template: str | None = None


class Known(msgspec.Struct):
    """Everything, as it is carried over a restart."""

    users: dict[str, User] = {}
    types: dict[int, EventType] = {}
    bookings: dict[str, Booking] = {}
    # What the API still shows of a booking, and until when.
    older: dict[str, tuple[datetime, Booking]] = {}
    webhooks: dict[str, Webhook] = {}
    keys: dict[str, str] = {}
    last_id: int = 9000


class Store(BookingStore[Known]):
    """What is known, and how to find it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, Known(), tick=A_TICK)

    def new_id(self) -> int:
        self.known.last_id += 1
        return self.known.last_id

    def shown(self, uid: str) -> Booking | None:
        """Return a row as the API shows it now, which may be as it was before."""
        older = self.known.older.get(uid)
        if older is not None and self.clock.now() < older[0]:
            return older[1]
        return self.known.bookings.get(uid)

    def hide(self, row: Booking, lag: timedelta) -> None:
        """Let the API show a row as it is now for a while, whatever becomes of it."""
        self.known.older[row.uid] = (self.clock.now() + lag, copy_of(row))


def copy_of(row: Booking) -> Booking:
    """Return a row that no longer changes with the other."""
    return msgspec.json.decode(msgspec.json.encode(row), type=Booking)


def new_uid() -> str:
    """Return a uid as bookings have it."""
    return "".join(secrets.choice(ALPHABET) for _ in range(UID_LENGTH))


def new_key() -> str:
    """Return an id as seats and webhooks have it."""
    return str(uuid4())


def refusal(
    status: int,
    code: str,
    message: str,
    headers: dict[str, str] | None = None,
) -> Refusal:
    """Say no as Cal.com does."""
    body = {"status": "error", "error": {"code": code, "message": message}}
    return Refusal(status, body, headers)


def not_found(uid: str) -> Refusal:
    """It is not there, or not yours."""
    message = f"Booking with uid={uid} was not found"
    return refusal(404, "NotFoundException", message)


def bad_request(message: str) -> Refusal:
    """The request itself is wrong."""
    return refusal(400, "BadRequestException", message)
