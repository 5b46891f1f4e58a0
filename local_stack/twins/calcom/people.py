"""What hosts and guests do, as objects: they book, move, cancel, and do not come."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from local_stack.twins.calcom.state import (
    Attendee,
    Booking,
    EventType,
    User,
    Webhook,
    new_key,
)

if TYPE_CHECKING:
    from local_stack.twins.calcom.twin import CalcomTwin

NOTHING: Mapping[str, Any] = {}
TRIGGERS = (
    "BOOKING_CREATED",
    "BOOKING_RESCHEDULED",
    "BOOKING_CANCELLED",
    "BOOKING_REQUESTED",
    "BOOKING_REJECTED",
    "BOOKING_PAYMENT_INITIATED",
    "BOOKING_PAID",
    "BOOKING_NO_SHOW_UPDATED",
    "MEETING_STARTED",
    "MEETING_ENDED",
)


@dataclass(frozen=True)
class Host:
    """Somebody who can be booked."""

    twin: "CalcomTwin"
    email: str

    @property
    def user(self) -> User:
        return self.twin.store.known.users[self.email]

    @property
    def bookings(self) -> list["Booked"]:
        """Everything that was ever booked with this host."""
        with self.twin.store.exclusive() as known:
            rows = [row for row in known.bookings.values() if row.host == self.email]
            return [Booked(self.twin, row.uid) for row in rows]

    def event_type(
        self,
        title: str,
        *,
        minutes: int = 30,
        seats: int | None = None,
        needs_approval: bool = False,
        needs_payment: bool = False,
        location: str = "integrations:daily",
    ) -> EventType:
        """Offer something; seats let several share one booking."""
        with self.twin.store.exclusive() as known:
            made = EventType(
                self.twin.store.new_id(),
                self.email,
                title.lower().replace(" ", "-"),
                title,
                minutes,
                seats,
                needs_approval,
                needs_payment,
                location,
            )
            known.types[made.id] = made
            return made

    def book(
        self,
        kind: EventType,
        start: datetime,
        *,
        email: str,
        name: str,
        time_zone: str = "America/Chicago",
        phone: str | None = None,
        metadata: Mapping[str, Any] = NOTHING,
        responses: Mapping[str, Any] = NOTHING,
    ) -> "Booked":
        """Book a time, or a seat of it. Responses are {slug: {label, value}}."""
        with self.twin.store.exclusive():
            row, who = self.twin.actions.book(
                kind,
                start,
                Attendee(email, name, time_zone, phone),
                metadata=dict(metadata),
                responses=dict(responses),
            )
        return Booked(self.twin, row.uid, who.seat_id)

    def book_series(
        self, kind: EventType, starts: Sequence[datetime], *, email: str, name: str
    ) -> list["Booked"]:
        """Book several times at once."""
        with self.twin.store.exclusive():
            who = Attendee(email, name, "America/Chicago")
            rows = self.twin.actions.book_series(kind, list(starts), who)
        return [Booked(self.twin, row.uid) for row in rows]

    def api_key(self) -> str:
        """Return a key that has no end."""
        key = f"cal_live_{secrets.token_hex(16)}"
        self.twin.store.known.keys[key] = self.email
        return key

    def revoke(self) -> None:
        """Delete every key."""
        self.twin.revoke(self.email)

    def add_webhook(
        self,
        url: str,
        *,
        secret: str | None,
        triggers: Sequence[str] = TRIGGERS,
        template: str | None = None,
    ) -> Webhook:
        """Add a webhook by hand, which may be at any level: the same URL again, too."""
        with self.twin.store.exclusive() as known:
            made = Webhook(new_key(), self.email, url, list(triggers), secret)
            made.template = template
            known.webhooks[made.id] = made
            return made

    def ping(self, webhook: Webhook) -> None:
        """Press the button for a test."""
        self.twin.webhooks.ping(webhook)


@dataclass(frozen=True)
class Booked:
    """One booking, or one seat of it."""

    twin: "CalcomTwin"
    uid: str
    seat_id: str | None = None

    @property
    def row(self) -> Booking:
        return self.twin.store.known.bookings[self.uid]

    @property
    def attendee(self) -> Attendee:
        """Whose seat it is; without seats, who booked."""
        seats = (one for one in self.row.attendees if one.seat_id == self.seat_id)
        return next(seats)

    @property
    def is_live(self) -> bool:
        if self.row.status not in {"ACCEPTED", "PENDING"}:
            return False
        return any(one.seat_id == self.seat_id for one in self.row.attendees)

    def pay(self) -> None:
        """Let the payment succeed."""
        with self.twin.store.exclusive():
            self.twin.actions.pay(self.row)

    def approve(self) -> None:
        """Have the host confirm."""
        with self.twin.store.exclusive():
            self.twin.actions.approve(self.row)

    def decline(self, reason: str | None = None) -> None:
        """Have the host decline."""
        with self.twin.store.exclusive():
            self.twin.actions.decline(self.row, reason)

    def reschedule(self, start: datetime, *, by: str | None = None) -> "Booked":
        """Move to another time."""
        actions = self.twin.actions
        with self.twin.store.exclusive():
            if self.seat_id is not None:
                moved = actions.move_seat(self.row, self.attendee, start)
            else:
                moved = actions.move(self.row, start, by or self.attendee.email)
        return Booked(self.twin, moved.uid, self.seat_id)

    def cancel(self, *, by: str | None = None, reason: str | None = None) -> None:
        """Cancel the booking; of a seated one the seat, unless the host does it."""
        with self.twin.store.exclusive():
            if self.seat_id is not None and by != self.row.host:
                self.twin.actions.cancel_seat(self.row, self.attendee, reason)
            else:
                who = by or self.attendee.email
                self.twin.actions.cancel(self.row, who, reason)

    def cancel_series(self, *, reason: str | None = None) -> None:
        """Cancel every booking of the series, told by one."""
        with self.twin.store.exclusive():
            self.twin.actions.cancel(self.row, self.row.host, reason, whole_series=True)

    def ask_to_move(self) -> None:
        """Have the host ask for another time."""
        with self.twin.store.exclusive():
            self.twin.actions.ask_to_move(self.row)

    def did_not_come(self) -> None:
        """Have the host mark a no-show."""
        with self.twin.store.exclusive():
            self.twin.actions.mark(self.row, self.attendee.email, absent=True)

    def came_after_all(self) -> None:
        """Have the host take the mark back."""
        with self.twin.store.exclusive():
            self.twin.actions.mark(self.row, self.attendee.email, absent=False)

    def put_into_calendar(self, event_id: str) -> None:
        """Let the host's calendar have it under this id."""
        with self.twin.store.exclusive():
            self.row.calendar_event = event_id

    def take_place(self) -> None:
        """Let start and end come."""
        with self.twin.store.exclusive():
            for trigger in ("MEETING_STARTED", "MEETING_ENDED"):
                self.twin.actions.take_place(self.row, trigger)

    def change(self, **values: Any) -> None:
        """Change what no webhook tells: title, location, metadata."""
        with self.twin.store.exclusive():
            self.twin.actions.change(self.row, **values)
