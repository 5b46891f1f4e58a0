"""Every write to an event: checks first, then the record, then what follows from it."""

from dataclasses import dataclass
from typing import Literal

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.bodies import (
    Times,
    read_fields,
    read_recurrence,
    read_times,
)
from local_stack.twins.microsoft.errors import ApiError, conflict, denied, invalid
from local_stack.twins.microsoft.ids import etag
from local_stack.twins.microsoft.retiming import reschedule
from local_stack.twins.microsoft.state import (
    CalendarState,
    EventRecord,
    Found,
    Json,
    Store,
    find_in,
)
from local_stack.twins.microsoft.times import stamp
from local_stack.twins.moments import When, later
from local_stack.twins.series import Series

Answered = Literal["accepted", "declined", "tentativelyAccepted"]


@dataclass
class Writer:
    """Writes to calendars on somebody's behalf, as the API and as Outlook do."""

    store: Store
    behaviour: Behaviour

    def create(self, calendar: CalendarState, actor: str, given: Json) -> Found:
        """Make a new event; a transaction id makes it once."""
        self.store.require_write(calendar, actor)
        transaction = given.get("transactionId")
        made = self.store.transactions.get((calendar.owner, str(transaction)))
        if transaction and made is not None:
            if self.behaviour.repeated_transaction == "409":
                raise ApiError(
                    409,
                    "ErrorDuplicateTransactionId",
                    "Your request can't be completed. The TransactionId was used.",
                )
            known = find_in(calendar, made)
            if known is not None:
                return known
        times = read_times(given, None)
        assert times is not None  # noqa: S101 - a new event always has times
        record = self.insert(calendar, times, read_fields(given, {}), given)
        if transaction:
            record.fields["transactionId"] = transaction
            key = (calendar.owner, str(transaction))
            self.store.transactions[key] = record.ids.immutable
        return Found(calendar, record)

    def insert(
        self, calendar: CalendarState, times: Times, fields: Json, given: Json
    ) -> EventRecord:
        """Put a new event in, as its organizer."""
        lines: list[str] = []
        pattern: Json | None = None
        if given.get("recurrence"):
            times, lines, pattern = read_recurrence(given["recurrence"], times)
        fields = {"organizer": self.person(calendar.owner), **fields}
        record = EventRecord(fields, times.start, times.end, times.zone, lines=lines)
        record.pattern = pattern
        if lines:
            record.series = Series(times.start, lines)
        self.store.save(calendar, record, "created")
        return record

    def update(
        self, found: Found, actor: str, given: Json, if_match: str | None = None
    ) -> Found:
        """Change what a PATCH names."""
        self.store.require_write(found.calendar, actor)
        self._check_etag(found.record, if_match)
        fields = read_fields(given, found.record.fields)
        record = self._own_record(found)
        try:
            times = read_times(given, record)
            if times is not None and record.master is not None:
                _refuse_crossing(record, times)
        except ApiError:
            if found.original is not None:  # nothing was changed: it is none of its own
                del found.record.exceptions[found.original]
            raise
        if record.series is not None or given.get("recurrence"):
            self._reschedule(found.calendar, record, times, given)
        elif times is not None:
            record.start, record.end, record.zone = times.start, times.end, times.zone
        record.fields = {**record.fields, **fields}
        for exception in record.exceptions.values():
            # An exception keeps what was changed in it; the rest is its series'.
            own = exception.fields.get("_own", ())
            exception.fields |= {k: v for k, v in fields.items() if k not in own}
        self._own(record, fields)
        self.store.save(found.calendar, record)
        return Found(found.calendar, record)

    def delete(self, found: Found, actor: str) -> None:
        """Delete an event, a whole series, or one occurrence of it."""
        self.store.require_write(found.calendar, actor)
        self.remove(found)

    def remove(self, found: Found) -> None:
        """Take an event away, whoever asked for it."""
        calendar, record = found.calendar, found.record
        original = found.original if found.original is not None else record.original
        master = record.master or record
        if original is None:
            record.gone = True
            self.store.save(calendar, record, "deleted")
            return
        changed = master.exceptions.pop(original, None)
        if changed is not None:
            changed.gone = True
        master.deleted[original] = calendar.version + 1
        self.store.save(calendar, master)

    def cancel(self, found: Found, actor: str) -> None:
        """Cancel a meeting for everybody; only its organizer may."""
        if not found.record.fields.get("isOrganizer", True):
            raise invalid("Only the organizer can cancel.", "ErrorInvalidRequest")
        self.delete(found, actor)

    def respond(self, found: Found, actor: str, answer: Answered) -> None:
        """Answer an invitation; a decline takes the event off the calendar."""
        record = self._own_record(found)
        if record.fields.get("isOrganizer", True):
            raise invalid(
                "You can't respond to this meeting because you're the organizer."
            )
        status = {"response": answer, "time": stamp(self.store.clock.now())}
        record.fields = {**record.fields, "responseStatus": status}
        self.store.save(found.calendar, record)
        self.tell_organizer(record, actor, status)
        if answer == "declined":
            self.remove(Found(found.calendar, record))

    def tell_organizer(self, record: EventRecord, guest: str, status: Json) -> None:
        """Note a guest's answer on the organizer's event, if that is at this twin."""
        master = record.master or record
        for calendar in self.store.calendars.values():
            kept = calendar.records.get(master.shared_key)
            if kept is None or kept.gone or kept is master:
                continue
            if record.original is not None:
                kept = self._own_record(Found(calendar, kept, record.original))
            kept.fields["attendees"] = [
                {**one, "status": status}
                if one["emailAddress"]["address"].lower() == guest
                else one
                for one in kept.fields.get("attendees", ())
            ]
            self.store.save(calendar, kept)

    def move(self, found: Found, target: CalendarState) -> Found:
        """Put an event into another folder: its default id changes with that."""
        record, source = found.record, found.calendar
        if found.original is not None or record.master is not None:
            raise invalid("An occurrence cannot be moved.")
        left = EventRecord(
            {}, record.start, record.end, record.zone, record.key, gone=True
        )
        left.moves, left.series = record.moves, record.series
        self.store.save(source, left, "deleted", quiet=True)
        record.moves += 1
        self.store.save(target, record, "created")
        for exception in record.exceptions.values():
            self.store.save(target, exception, quiet=True)
        return Found(target, record)

    def person(self, email: str) -> Json:
        account = self.store.accounts.get(email)
        name = account.name if account else email
        return {"emailAddress": {"name": name, "address": email}}

    def _own_record(self, found: Found) -> EventRecord:
        """Return the record of what was found; an occurrence gets one of its own."""
        if found.original is None:
            return found.record
        return self.exception(found.record, found.original)

    def exception(self, master: EventRecord, original: When) -> EventRecord:
        """Return the changed occurrence at an original start, made if need be."""
        known = master.exceptions.get(original)
        if known is not None:
            return known
        made = EventRecord(
            dict(master.fields),
            original,
            later(original, master.elapsed),
            master.zone,
            master=master,
            original=original,
            created_at=self.store.clock.now(),
        )
        master.exceptions[original] = made
        return made

    def _own(self, record: EventRecord, fields: Json) -> None:
        if record.master is not None:
            own = {*record.fields.get("_own", ()), *fields}
            record.fields["_own"] = sorted(own)

    def _reschedule(
        self,
        calendar: CalendarState,
        record: EventRecord,
        times: Times | None,
        given: Json,
    ) -> None:
        times = times or Times(record.start, record.end, record.zone)
        lines, pattern = record.lines, record.pattern
        if given.get("recurrence"):
            if record.master is not None:
                raise invalid("An occurrence has no recurrence.")
            times, lines, pattern = read_recurrence(given["recurrence"], times)
        elif given.get("recurrence", ...) is None:
            lines, pattern = [], None
        keep = self.behaviour.exceptions_on_retime == "keep"
        reschedule(record, times, lines, calendar.version + 1, keep=keep)
        record.pattern = pattern

    def _check_etag(self, record: EventRecord, if_match: str | None) -> None:
        if if_match in {None, "*", etag(record.number)}:
            return
        if self.behaviour.if_match != "ignore":
            raise conflict(int(self.behaviour.if_match))


def _refuse_crossing(record: EventRecord, times: Times) -> None:
    """Refuse to move an occurrence over its neighbours, as Exchange does."""
    master, original = record.master, record.original
    if master is None or master.series is None or original is None:
        return
    wall, own = master.series.wall(times.start), master.series.wall(original)
    low, high = min(wall, own), max(wall, own)
    between = [
        one
        for one in master.series.starts(high, low)
        if one != original and one not in master.deleted
    ]
    if between:
        raise ApiError(
            400,
            "ErrorOccurrenceCrossingBoundary",
            "Modified occurrence is crossing or overlapping adjacent occurrence.",
        )


def refuse_guest(found: Found, given: Json) -> None:
    """Refuse to change on a guest's copy what is the organizer's to change."""
    shared = {"subject", "body", "start", "end", "location", "attendees", "recurrence"}
    if not found.record.fields.get("isOrganizer", True) and shared & given.keys():
        raise denied()
