"""What happens, below who does it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from local_stack.twins.calendly.bodies import UNFINISHED, moment
from local_stack.twins.calendly.state import (
    API,
    Event,
    EventType,
    Invitee,
    id_of,
    new_id,
    refusal,
)

if TYPE_CHECKING:
    from local_stack.twins.calendly.twin import CalendlyTwin

CONFERENCE = {
    "type": "google_conference",
    "status": "pushed",
    "join_url": "https://meet.example.com/abc-defg-hij",
}


class Actions:
    """Changes of the store, which the caller holds."""

    def __init__(self, twin: "CalendlyTwin") -> None:
        self._twin = twin
        self._store = twin.store

    def event_at(self, kind: EventType, start: datetime) -> Event:
        """Return the event at a time, made if there is none with a seat left.

        Raises:
            Refusal: the time is taken.
        """
        start = start.astimezone(UTC)
        same = (
            event
            for event in self._store.known.events.values()
            if (event.type_id, event.starts_at) == (kind.id, start)
            and event.cancellation is None
        )
        event = next(same, None)
        if event is None:
            return self._new_event(kind, start)
        taken = [i for i in self._store.invitees_of(event) if i.cancellation is None]
        if len(taken) >= kind.seats:
            raise refusal(404, "Resource Not Found", "That time slot is not available")
        return event

    def seat(self, event: Event, **told: Any) -> Invitee:
        """Let somebody in."""
        now = self._store.now()
        invitee = Invitee(new_id(), event.id, created_at=now, updated_at=now, **told)
        self._store.known.invitees[invitee.id] = invitee
        event.updated_at = now
        return invitee

    def move(
        self, old: Invitee, start: datetime, *, by: Literal["host", "invitee"]
    ) -> Invitee:
        """Move one invitee; the old event lives on where others are in it."""
        kind = self._store.known.types[self._store.known.events[old.event_id].type_id]
        event = self.event_at(kind, start)
        told = ("email", "name", "time_zone", "answers", "tracking", "phone")
        new = self.seat(event, **{name: getattr(old, name) for name in told})
        new.old_invitee = old.uri
        old.rescheduled, old.new_invitee = True, new.uri
        self.end(old, by=by, reason=None)
        behaviour = self._twin.behaviour
        halves = [("invitee.canceled", old), ("invitee.created", new)]
        if behaviour.reschedule_order == "created_first":
            halves.reverse()
        for name, invitee in halves:
            late = behaviour.reschedule_gap_s if (name, invitee) == halves[1] else 0.0
            self._twin.webhooks.tell(name, invitee, after_s=late)
        return new

    def end(
        self, invitee: Invitee, *, by: Literal["host", "invitee"], reason: str | None
    ) -> None:
        """Cancel one invitee, and the event with its last one."""
        if invitee.cancellation is not None:
            raise refusal(403, "Permission Denied", "Event is already canceled")
        event = self._store.known.events[invitee.event_id]
        now = self._store.now()
        host = self._store.user(event.host)
        invitee.cancellation = {
            "canceled_by": invitee.name if by == "invitee" else host.name,
            "reason": reason,
            "canceler_type": by,
            "created_at": moment(now),
        }
        invitee.updated_at = event.updated_at = now
        left = [i for i in self._store.invitees_of(event) if i.cancellation is None]
        if not left and self._twin.behaviour.event_canceled_with_its_last_invitee:
            event.cancellation = invitee.cancellation

    def mark(self, invitee: Invitee) -> dict[str, Any]:
        """Mark a no-show."""
        now = self._store.now()
        uri = f"{API}/invitee_no_shows/{new_id()}"
        invitee.no_show = {"uri": uri, "created_at": moment(now)}
        invitee.updated_at = now
        self._twin.webhooks.tell("invitee_no_show.created", invitee)
        return invitee.no_show

    def unmark(self, invitee: Invitee) -> None:
        """Take the mark back."""
        invitee.no_show = None
        invitee.updated_at = self._store.now()
        self._twin.webhooks.tell("invitee_no_show.deleted", invitee)

    def finish_link(self, event: Event) -> None:
        """Let the conference be there by the time somebody reads the event again."""
        if event.location and event.location.get("status") in UNFINISHED:
            event.location = {**event.location, "status": "pushed"}
            event.location["join_url"] = CONFERENCE["join_url"]
            event.updated_at = self._store.now()

    def marked(self, no_show_id: str) -> Invitee | None:
        """Return whose mark it is."""
        return next(
            (
                invitee
                for invitee in self._store.known.invitees.values()
                if invitee.no_show and id_of(invitee.no_show["uri"]) == no_show_id
            ),
            None,
        )

    def _new_event(self, kind: EventType, start: datetime) -> Event:
        now = self._store.now()
        location = kind.location and dict(kind.location)
        if (
            location
            and "join_url" in location
            and self._twin.behaviour.links_come_later
        ):
            location |= {"status": "initiated", "join_url": None}
        event = Event(
            id=new_id(),
            type_id=kind.id,
            host=kind.host,
            name=kind.name,
            starts_at=start,
            ends_at=start + timedelta(minutes=kind.minutes),
            created_at=now,
            updated_at=now,
            location=location,
            calendar_event={"kind": "google", "external_id": f"cal{new_id()[:8]}"},
        )
        self._store.known.events[event.id] = event
        return event
