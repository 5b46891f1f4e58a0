"""What a person does in Outlook: tests and demos do it through these objects.

Every method is a write by that person's Outlook: it bumps the change key, enters the
order of changes, and subscribers are told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from local_stack.twins.microsoft.expansion import Placed, Window, members, view
from local_stack.twins.microsoft.ics import import_calendar
from local_stack.twins.microsoft.personal_events import Event, written
from local_stack.twins.microsoft.recurrence import pattern_of
from local_stack.twins.microsoft.state import (
    CalendarState,
    EventRecord,
    Found,
    Json,
    Store,
    find_in,
)
from local_stack.twins.microsoft.writer import Answered, Writer
from local_stack.twins.microsoft.zones import zone_named
from local_stack.twins.moments import When, length, zone_of
from local_stack.twins.personal_calendars import A_DAY, PersonalCalendar
from local_stack.twins.series import following, trimmed

if TYPE_CHECKING:
    from local_stack.twins.microsoft.people import Account

Recurrence: TypeAlias = str | Iterable[str] | Mapping[str, Any] | None
Response: TypeAlias = Literal["accepted", "declined", "tentative"]

FAR = timedelta(days=3660)
ANSWERS: dict[str, Answered] = {
    "accepted": "accepted",
    "declined": "declined",
    "tentative": "tentativelyAccepted",
}


@dataclass(frozen=True)
class Calendar(PersonalCalendar[Event]):
    """A calendar in the hands of its owner."""

    title_field = "subject"

    writer: Writer
    id: str

    @property
    def store(self) -> Store:
        return self.writer.store

    @property
    def state(self) -> CalendarState:
        return self.store.calendars[self.id]

    @property
    def time_zone(self) -> str:
        return self.state.time_zone

    def add(
        self,
        title: str,
        start: When,
        end: When | timedelta | None = None,
        *,
        recurrence: Recurrence = None,
        attendees: Iterable[str | Json] = (),
        **fields: Any,
    ) -> Event:
        """Make an event; an hour long, or a day, where no end or length is given.

        The recurrence is a rule (`FREQ=DAILY;COUNT=4`) or a pattern of Graph's; other
        fields go by the API's names.
        """
        start = self._zoned(start)
        guests = [
            {"emailAddress": {"address": one}} if isinstance(one, str) else one
            for one in attendees
        ]
        body: Json = {"subject": title, **self._times(start, end), **fields}
        if recurrence is not None:
            body["recurrence"] = _pattern(recurrence, start)
        if guests:
            body["attendees"] = guests
        with self.store.exclusive():
            found = self.writer.create(self.state, self.state.owner, body)
        return self._event(found)

    def event(self, event_id: str) -> Event:
        """Return an event by either of its ids; KeyError when there is none."""
        found = find_in(self.state, event_id)
        if found is None:
            raise KeyError(event_id)
        return self._event(found)

    def events(self, start: datetime, end: datetime) -> list[Event]:
        """Return what happens in a window, series expanded, soonest first."""
        with self.store.exclusive():
            return [self._placed(one) for one in view(self.state, Window(start, end))]

    def occurrences(self, series: Event, *, count: int = 10) -> list[Event]:
        """Return a series' first occurrences that are not deleted."""
        record = series.found.record
        first = record.span[0]
        with self.store.exclusive():
            found = members(record, Window(first - A_DAY, first + FAR))[:count]
            return [self._placed(one) for one in found]

    def occurrence(self, series: Event, original: When) -> Event:
        """Return the occurrence that has, or had, this start."""
        record, original = series.found.record, self._zoned(original)
        changed = record.exceptions.get(original)
        if changed is not None:
            return self._event(Found(self.state, changed))
        if not record.has(original):
            raise KeyError("this series has no occurrence then")
        return self._event(Found(self.state, record, original))

    def change(self, event: Event, **fields: Any) -> Event:
        """Change any fields, in the API's own names."""
        with self.store.exclusive():
            found = self.writer.update(event.found, self.state.owner, fields)
        return self._event(found)

    def cancel(self, event: Event) -> None:
        """Delete an event, a series or an occurrence."""
        with self.store.exclusive():
            self.writer.delete(event.found, self.state.owner)

    def retime_series(
        self,
        series: Event,
        to: time | When | None = None,
        *,
        recurrence: Recurrence = None,
    ) -> Event:
        """Move all occurrences: to another time of day, another start, another rule.

        They get new ids; what becomes of changed ones is a switch of the twin.
        """
        start: When = series.start
        if isinstance(to, time):
            to = datetime.combine(start, to, zone_named(self._zone_of(start)))
        fields: Json = {}
        if to is not None:
            start = self._zoned(to)
            fields = self._times(start, length(series.start, series.end))
        lines = series.found.record.lines
        fields["recurrence"] = _pattern(recurrence or lines, start)
        return self.change(series, **fields)

    def trim_and_follow(
        self,
        series: Event,
        first: When,
        *,
        to: When | None = None,
        recurrence: Recurrence = None,
        **fields: Any,
    ) -> Event:
        """Change "this and following": the old series ends, a new one takes over.

        Returns the new series. Changed occurrences after the cut are lost.
        """
        record, first = series.found.record, self._zoned(first)
        lines = following(record.lines, record.start, first)
        start = self._zoned(to if to is not None else first)
        with self.store.exclusive():
            end = length(series.start, series.end)
            self.end_series(series, first)
            kept = {k: v for k, v in record.fields.items() if k in CARRIED}
            body = {**kept, **self._times(start, end), **fields}
            body["recurrence"] = _pattern(recurrence or lines, start)
            found = self.writer.create(self.state, self.state.owner, body)
        return self._event(found)

    def end_series(self, series: Event, before: When) -> Event:
        """Delete "this and following": the series ends before an occurrence."""
        record = series.found.record
        lines = trimmed(record.lines, record.start, self._zoned(before))
        return self.change(series, recurrence=pattern_of(lines, record.start))

    def answer(self, event: Event, response: Response) -> None:
        """Answer an invitation, as the guest whose calendar this is."""
        with self.store.exclusive():
            self.writer.respond(event.found, self.state.owner, ANSWERS[response])

    def hand_over(self, event: Event, to: "Calendar") -> Event:
        """Move an event to another calendar of the mailbox: its default id changes."""
        with self.store.exclusive():
            found = self.writer.move(event.found, to.state)
        return Event(to, found.ids.immutable)

    def touch(self, event: Event) -> None:
        """Change the change key and nothing else, as Exchange does at reminder time."""
        with self.store.exclusive():
            self.store.save(self.state, event.found.record, quiet=True)

    def share(
        self, account: "Account", role: Literal["read", "write"] = "read"
    ) -> None:
        """Let another account in."""
        with self.store.exclusive():
            self.state.roles[account.email] = role
            listed = self.store.accounts[account.email].listed
            if self.id not in listed:
                listed.append(self.id)

    def unshare(self, account: "Account") -> None:
        """Shut another account out again."""
        with self.store.exclusive():
            self.state.roles.pop(account.email, None)

    def expire_delta_tokens(self) -> None:
        """Make every delta token of this calendar lose its state."""
        with self.store.exclusive():
            self.state.sync_epoch += 1

    def _event(self, found: Found) -> Event:
        return Event(self, found.ids.immutable)

    def _placed(self, placed: Placed) -> Event:
        record: EventRecord = placed.record
        return self._event(Found(self.state, record, placed.original))

    def _imported(self, raw: bytes | str, around: datetime | None) -> list[Event]:
        records = import_calendar(self.writer, self.state, raw, around=around)
        return [self._event(Found(self.state, record)) for record in records]

    def _written(self, start: When, end: When, *, replacing: bool) -> Json:
        zone = self._zone_of(start)
        return {
            "isAllDay": not isinstance(start, datetime),
            "start": written(start, zone),
            "end": written(end, zone),
        }

    def _zone_of(self, when: When) -> str:
        return zone_of(when) if isinstance(when, datetime) else self.time_zone


CARRIED = frozenset({
    "subject", "body", "location", "attendees", "showAs", "sensitivity", "importance",
    "categories",
})  # fmt: skip


def _pattern(recurrence: Recurrence, start: When) -> Json:
    if isinstance(recurrence, Mapping):
        return dict(recurrence)
    lines = [recurrence] if isinstance(recurrence, str) else list(recurrence or ())
    lines = [line if ":" in line else f"RRULE:{line}" for line in lines]
    return pattern_of(lines, start)
