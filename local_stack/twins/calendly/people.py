"""What hosts and invitees do, as objects: they book, move, cancel, and do not come."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from local_stack.twins.calendly.actions import CONFERENCE
from local_stack.twins.calendly.state import (
    Event,
    EventType,
    Grant,
    Invitee,
    User,
    new_id,
)

if TYPE_CHECKING:
    from local_stack.twins.calendly.twin import CalendlyTwin

ALL_SCOPES = "default"
NOBODY: Mapping[str, str] = {}


@dataclass(frozen=True)
class Host:
    """Somebody who can be booked."""

    twin: "CalendlyTwin"
    email: str

    @property
    def user(self) -> User:
        return self.twin.store.user(self.email)

    @property
    def uri(self) -> str:
        return self.user.uri

    @property
    def bookings(self) -> list["Booking"]:
        """Everything that was ever booked with this host."""
        with self.twin.store.exclusive() as known:
            return [
                Booking(self.twin, invitee.id)
                for invitee in known.invitees.values()
                if known.events[invitee.event_id].host == self.email
            ]

    def event_type(
        self,
        name: str,
        *,
        minutes: int = 30,
        seats: int = 1,
        location: dict[str, Any] | None = None,
    ) -> EventType:
        """Offer something; more than one seat makes it a group event."""
        with self.twin.store.exclusive() as known:
            where = CONFERENCE if location is None else location
            made = EventType(new_id(), self.email, name, minutes, seats, dict(where))
            known.types[made.id] = made
            return made

    def book(
        self,
        kind: EventType,
        start: datetime,
        *,
        email: str,
        name: str,
        time_zone: str = "Europe/Lisbon",
        answers: Mapping[str, str] = NOBODY,
        tracking: Mapping[str, str] = NOBODY,
        phone: str | None = None,
    ) -> "Booking":
        """Book a time; a group event takes it if there is a seat left."""
        with self.twin.store.exclusive():
            event = self.twin.actions.event_at(kind, start)
            invitee = self.twin.actions.seat(
                event,
                email=email,
                name=name,
                time_zone=time_zone,
                answers=dict(answers),
                tracking=dict(tracking),
                phone=phone,
            )
            self.twin.webhooks.tell("invitee.created", invitee)
        return Booking(self.twin, invitee.id)

    def sign_in(self, *, client_id: str = "supacal") -> tuple[str, str]:
        """Consent: return an access token and a refresh token that works once."""
        with self.twin.store.exclusive():
            return self.twin.oauth.issue(Grant(self.email, client_id, ALL_SCOPES))

    def personal_token(self) -> str:
        """Return a token that has no end, and a signing key for each webhook."""
        with self.twin.store.exclusive():
            return self.twin.oauth.personal(self.email)

    def revoke(self) -> None:
        """Disconnect every app."""
        self.twin.revoke(self.email)


@dataclass(frozen=True)
class Booking:
    """One invitee of an event."""

    twin: "CalendlyTwin"
    id: str

    @property
    def invitee(self) -> Invitee:
        return self.twin.store.known.invitees[self.id]

    @property
    def event(self) -> Event:
        return self.twin.store.known.events[self.invitee.event_id]

    @property
    def uri(self) -> str:
        return self.invitee.uri

    @property
    def is_live(self) -> bool:
        return self.invitee.cancellation is None

    def reschedule(
        self, start: datetime, *, by: Literal["host", "invitee"] = "invitee"
    ) -> "Booking":
        """Move to another time: a new invitee of a new event takes over."""
        with self.twin.store.exclusive():
            return Booking(
                self.twin, self.twin.actions.move(self.invitee, start, by=by).id
            )

    def cancel(
        self, *, by: Literal["host", "invitee"] = "invitee", reason: str | None = None
    ) -> None:
        """Cancel for good."""
        with self.twin.store.exclusive():
            self.twin.actions.end(self.invitee, by=by, reason=reason)
            self.twin.webhooks.tell("invitee.canceled", self.invitee)

    def did_not_come(self) -> None:
        """Have the host mark a no-show."""
        with self.twin.store.exclusive():
            self.twin.actions.mark(self.invitee)

    def came_after_all(self) -> None:
        """Have the host take the mark back."""
        with self.twin.store.exclusive():
            self.twin.actions.unmark(self.invitee)

    def change_location(self, location: dict[str, Any]) -> None:
        """Change where it is: nobody is told of that."""
        with self.twin.store.exclusive():
            self.event.location = location
            self.event.updated_at = self.twin.store.now()
