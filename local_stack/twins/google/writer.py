"""Every write to an event: checks first, then the record, then what follows from it."""

import secrets
from dataclasses import dataclass

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.bodies import (
    TIMING,
    checked_id,
    checked_sequence,
    is_organizers,
    patched,
    replaced,
    shown_on,
    tidied,
    without_read_only,
)
from local_stack.twins.google.errors import (
    ApiError,
    condition_not_met,
    deleted,
    duplicate,
    forbidden,
    invalid,
    required,
)
from local_stack.twins.google.guests import (
    answer_invitation,
    decline_and_drop,
    own_answer,
    refuse_foreign_changes,
)
from local_stack.twins.google.occurrences import (
    Found,
    differences,
    effective,
    etag_of,
    find,
    unchanged,
)
from local_stack.twins.google.retiming import carry_exceptions_over
from local_stack.twins.google.state import (
    ROLE_ORDER,
    CalendarState,
    EventRecord,
    Json,
    Store,
)
from local_stack.twins.google.times import stamp

BASE32HEX = "0123456789abcdefghijklmnopqrstuv"
SETTABLE_ON_IMPORT = ("organizer", "iCalUID", "sequence", "attendees")


@dataclass
class Writer:
    """Writes to calendars on somebody's behalf, as the API and as the web page do."""

    store: Store
    behaviour: Behaviour

    def insert(
        self,
        calendar: CalendarState,
        actor: str,
        given: Json,
        *,
        server_id: str | None = None,
    ) -> Found:
        """Make a new event, under the client's id where it chose one."""
        require_role(calendar, actor, "writer")
        event_id = server_id or new_id()
        if given.get("id") is not None:
            event_id = checked_id(given["id"])
        if event_id in calendar.events:
            raise duplicate()
        if given.get("eventType") in {"fromGmail", "birthday"}:
            raise invalid("Invalid value for: eventType", "eventType")
        body = {
            **without_read_only(given),
            **self._birth(calendar, actor, event_id, given),
        }
        record = EventRecord(event_id, tidied(calendar, body))
        self.store.save(calendar, record)
        return Found(event_id, record)

    def import_(self, calendar: CalendarState, actor: str, given: Json) -> Found:
        """Take in a private copy of an event that somebody else organizes."""
        require_role(calendar, actor, "writer")
        if not given.get("iCalUID"):
            raise required("Missing iCalUID.")
        if given.get("eventType", "default") != "default":
            raise invalid("Invalid value for: eventType", "eventType")
        for known in calendar.events.values():
            same = known.body.get("iCalUID") == given["iCalUID"]
            if same and known.series_id is None and not known.cancelled:
                return self.write(calendar, actor, known.id, given, replace=True)
        found = self.insert(calendar, actor, given)
        assert found.record is not None  # noqa: S101 - insert makes one
        for key in SETTABLE_ON_IMPORT:
            if key in given:
                found.record.body[key] = given[key]
        found.record.body = tidied(calendar, found.record.body)
        self.store.save(calendar, found.record)
        return found

    def write(
        self,
        calendar: CalendarState,
        actor: str,
        event_id: str,
        given: Json,
        *,
        replace: bool,
        if_match: str | None = None,
    ) -> Found:
        """Change an event: PUT (replace) clears what is missing, PATCH merges."""
        require_role(calendar, actor, "writer")
        found = find(calendar, event_id)
        self._check_writable(calendar, found, if_match)
        old = effective(calendar, found)
        new = (replaced if replace else patched)(old, given)
        if given.get("conferenceData", ...) is None:
            new.pop("hangoutLink", None)
        new["sequence"] = checked_sequence(old, given.get("sequence"))
        if found.series is not None:
            new.pop("recurrence", None)
        new = tidied(calendar, new)
        if is_organizers(old) or "organizer" not in old:
            return self.put(calendar, found, old, new)
        refuse_foreign_changes(calendar, old, new)
        answer = own_answer(calendar, new)
        if answer != own_answer(calendar, old) and answer_invitation(
            self, calendar, event_id, answer
        ):
            new["attendees"] = effective(calendar, find(calendar, event_id))[
                "attendees"
            ]
        return self.put(calendar, find(calendar, event_id), old, new)

    def put(self, calendar: CalendarState, found: Found, old: Json, new: Json) -> Found:
        """Store a checked body, and everything that follows from it."""
        if any(old.get(key) != new.get(key) for key in (*TIMING, "status")):
            new["sequence"] = max(new.get("sequence", 0), old.get("sequence", 0) + 1)
        if found.series is not None and found.original is not None:
            return self._put_occurrence(calendar, found, new)
        record = calendar.record(found.id)
        was = record.series
        record.body = new
        self.store.save(calendar, record)
        if was is not None:
            carry_exceptions_over(self.store, calendar, record, was, self.behaviour)
        return Found(found.id, record)

    def _put_occurrence(
        self, calendar: CalendarState, found: Found, new: Json
    ) -> Found:
        assert found.series is not None and found.original is not None  # noqa: S101, PT018
        record = found.record or EventRecord(found.id, {})
        if not record.body:
            new["created"] = stamp(self.store.clock.now())
        if found.series.series is not None:
            plain = unchanged(calendar, found.series, found.original)
            record.overrides = differences(plain, new)
        record.body = new
        self.store.save(calendar, record)
        return Found(found.id, record, found.series, found.original)

    def delete(
        self,
        calendar: CalendarState,
        actor: str,
        event_id: str,
        if_match: str | None = None,
    ) -> None:
        """Delete an event, a whole series, or one occurrence."""
        require_role(calendar, actor, "writer")
        found = find(calendar, event_id)
        body = effective(calendar, found)
        if body.get("status") == "cancelled":
            raise deleted()
        _check_etag(found, if_match)
        if not is_organizers(body) and "organizer" in body:
            decline_and_drop(self, calendar, event_id)
        self.cancel(calendar, find(calendar, event_id))

    def cancel(self, calendar: CalendarState, found: Found) -> None:
        """Mark as cancelled; a series takes its changed occurrences with it."""
        old = effective(calendar, found)
        if old.get("status") == "cancelled":
            return
        if found.record is not None:
            for exception in list(calendar.exceptions_of(found.id).values()):
                if not exception.cancelled:
                    exception.body = {**exception.body, "status": "cancelled"}
                    self.store.save(calendar, exception)
        self.put(calendar, found, old, {**old, "status": "cancelled"})

    def move(
        self, source: CalendarState, actor: str, event_id: str, target: CalendarState
    ) -> Found:
        """Give an event to another calendar, which becomes its organizer."""
        require_role(source, actor, "writer")
        require_role(target, actor, "writer")
        found = find(source, event_id)
        if found.record is None or found.series is not None:
            raise ApiError(
                400,
                "cannotChangeOrganizerOfInstance",
                "Cannot change the organizer of an instance.",
                domain="calendar",
            )
        self._check_writable(source, found, None)
        if not is_organizers(found.record.body):
            raise forbidden(
                "The operation can only be performed by the organizer of the event.",
                "forbiddenForNonOrganizer",
            )
        if found.record.body.get("eventType", "default") != "default":
            raise invalid("Only events of type default can be moved.")
        taken = target.events.get(event_id)
        if taken is not None and not taken.cancelled and is_organizers(taken.body):
            raise duplicate()
        for record in [found.record, *source.exceptions_of(event_id).values()]:
            self._move_record(source, target, record)
        return Found(event_id, target.record(event_id))

    def _move_record(
        self, source: CalendarState, target: CalendarState, record: EventRecord
    ) -> None:
        moved = EventRecord(record.id, dict(record.body), overrides=record.overrides)
        moved.body["organizer"] = organizer_of(target)
        moved.body = tidied(target, shown_on(target, moved.body))
        moved.body["sequence"] = moved.body.get("sequence", 0) + 1
        stub_keys = ("id", "recurringEventId", "originalStartTime")
        record.body = {k: record.body[k] for k in stub_keys if k in record.body}
        record.body["status"] = "cancelled"
        self.store.save(source, record)
        self.store.save(target, moved)

    def _check_writable(
        self, calendar: CalendarState, found: Found, if_match: str | None
    ) -> None:
        holder = found.series or found.record
        if holder is not None and holder.cancelled:
            # A deleted id is used up: it can be neither inserted nor updated.
            raise forbidden()
        _check_etag(found, if_match)

    def _birth(
        self, calendar: CalendarState, actor: str, event_id: str, given: Json
    ) -> Json:
        return {
            "id": event_id,
            "created": stamp(self.store.clock.now()),
            "creator": {"email": actor},
            "organizer": organizer_of(calendar),
            "iCalUID": given.get("iCalUID") or f"{event_id}@google.com",
            "sequence": given.get("sequence", 0),
            "eventType": given.get("eventType") or "default",
        }


def organizer_of(calendar: CalendarState) -> Json:
    """Return the organizer of events born on a calendar."""
    if calendar.id == calendar.owner:
        return {"email": calendar.id, "self": True}
    return {"email": calendar.id, "displayName": calendar.summary, "self": True}


def new_id() -> str:
    """Return an id as Google makes them: 26 characters of base32hex."""
    return "".join(secrets.choice(BASE32HEX) for _ in range(26))


def require_role(calendar: CalendarState, actor: str, role: str) -> None:
    """Refuse who has less than a role on a calendar."""
    if ROLE_ORDER.get(calendar.role_of(actor), 0) < ROLE_ORDER[role]:
        raise forbidden(
            f"You need to have {role} access to this calendar.", "requiredAccessLevel"
        )


def _check_etag(found: Found, if_match: str | None) -> None:
    if if_match not in {None, "*", etag_of(found)}:
        raise condition_not_met()
