"""What a person does in Google Calendar: tests and demos do it through these objects.

Every method is a write by that person's browser: it bumps etag and `updated`, enters
the order of changes, and is pushed to live channels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from local_stack.twins.google.ics import import_calendar
from local_stack.twins.google.names import occurrence_id
from local_stack.twins.google.occurrences import effective, find
from local_stack.twins.google.personal_events import (
    Event,
    Recurrence,
    lines_of,
    written,
)
from local_stack.twins.google.queries import read_query
from local_stack.twins.google.selection import Selector
from local_stack.twins.google.state import CalendarState, EventRecord, Json, Store
from local_stack.twins.google.times import zone_named
from local_stack.twins.google.writer import Writer, new_id
from local_stack.twins.moments import When, length
from local_stack.twins.personal_calendars import PersonalCalendar
from local_stack.twins.series import following, trimmed

if TYPE_CHECKING:
    from local_stack.twins.google.people import Account

Response: TypeAlias = Literal["accepted", "declined", "tentative", "needsAction"]

NOT_INHERITED = frozenset(
    {"id", "iCalUID", "created", "updated", "sequence", "creator", "organizer", "etag"}
)


@dataclass(frozen=True)
class Calendar(PersonalCalendar[Event]):
    """A calendar in the hands of its owner."""

    title_field = "summary"

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
        """Make an event; an hour long, or a day, where no end or length is given."""
        guests = [{"email": a} if isinstance(a, str) else a for a in attendees]
        body: Json = {
            "summary": title,
            **self._times(start, end),
            "recurrence": lines_of(recurrence),
            "attendees": guests or None,
            **fields,
        }
        with self.store.exclusive():
            found = self.writer.insert(self.state, self.state.owner, body)
        return Event(self, found.id)

    def inject(self, body: Mapping[str, Any]) -> Event:
        """Put an event in verbatim, however malformed; only an id is needed."""
        with self.store.exclusive():
            defaults: Json = {"id": new_id(), "status": "confirmed"}
            record = EventRecord(
                str(body.get("id", defaults["id"])), {**defaults, **body}
            )
            self.store.save(self.state, record)
        return Event(self, record.id)

    def event(self, event_id: str) -> Event:
        """Return an event by id."""
        return Event(self, find(self.state, event_id).id)

    def events(self, start: datetime, end: datetime) -> list[Event]:
        """Return what happens in a window, series expanded, soonest first."""
        bounds = {"timeMin": [start.isoformat()], "timeMax": [end.isoformat()]}
        order = {"singleEvents": ["true"], "orderBy": ["startTime"]}
        with self.store.exclusive():
            now = self.store.clock.now()
            selector = Selector(
                self.state, read_query(bounds | order), now, timedelta.max
            )
            return [Event(self, entry.id) for entry in selector.whole()]

    def occurrences(self, series: Event, *, count: int = 10) -> list[Event]:
        """Return a series' first occurrences that are not cancelled."""
        with self.store.exclusive():
            record = self.state.record(series.id)
            now = self.store.clock.now()
            selector = Selector(self.state, read_query({}), now, timedelta.max)
            entries = selector.occurrences(record)[:count]
        return [Event(self, entry.id) for entry in entries]

    def occurrence(self, series: Event, original: When) -> Event:
        """Return the occurrence that has, or had, this start."""
        return self.event(occurrence_id(series.id, self._zoned(original)))

    def change(self, event: Event, **fields: Any) -> Event:
        """Change any fields, in the API's own names; None removes one."""
        with self.store.exclusive():
            self.writer.write(
                self.state, self.state.owner, event.id, fields, replace=False
            )
        return event

    def cancel(self, event: Event) -> None:
        """Delete an event, a series or an occurrence."""
        with self.store.exclusive():
            self.writer.delete(self.state, self.state.owner, event.id)

    def retime_series(
        self,
        series: Event,
        to: time | When | None = None,
        *,
        recurrence: Recurrence = None,
    ) -> Event:
        """Move all occurrences: to another time of day, another start, another rule."""
        fields: Json = {}
        if to is not None:
            start = series.start
            if isinstance(to, time):
                to = datetime.combine(start, to, zone_named(self.series_zone(series)))
            fields = self._times(to, length(start, series.end), replacing=True)
        if recurrence is not None:
            fields["recurrence"] = lines_of(recurrence)
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
        with self.store.exclusive():
            return self._trim_and_follow(
                series, self._zoned(first), to, recurrence, fields
            )

    def end_series(self, series: Event, before: When) -> Event:
        """Delete "this and following": the series ends before an occurrence."""
        start, lines = series.start, list(series.body["recurrence"])
        return self.change(
            series, recurrence=trimmed(lines, start, self._zoned(before))
        )

    def answer(self, event: Event, response: Response) -> Event:
        """Answer an invitation, as the guest whose calendar this is."""
        attendees = [
            {**a, "responseStatus": response} if a.get("self") else a
            for a in event.body.get("attendees", ())
        ]
        return self.change(event, attendees=attendees)

    def hand_over(self, event: Event, to: "Calendar") -> Event:
        """Move an event to another calendar, which becomes its organizer."""
        with self.store.exclusive():
            self.writer.move(self.state, self.state.owner, event.id, to.state)
        return Event(to, event.id)

    def touch(self, event: Event) -> None:
        """Change the etag and nothing else, as Google's servers sometimes do."""
        self.store.touch(self.state, self.state.record(event.id))

    def share(self, account: "Account", role: str = "reader") -> None:
        """Let another account in; sync tokens of this calendar end with it."""
        self._set_role(account, role)
        self.store.accounts[account.email].list_calendar(self.id)

    def unshare(self, account: "Account") -> None:
        """Shut another account out again."""
        self._set_role(account, "none")
        self.store.accounts[account.email].list_calendar(self.id, removed=True)

    def expire_sync_tokens(self) -> None:
        """Make every sync token of this calendar answer 410."""
        with self.store.exclusive():
            self.state.acl_epoch += 1

    def series_zone(self, series: Event) -> str:
        """Return the zone a series keeps its time of day in."""
        return str(series.body["start"].get("timeZone", self.time_zone))

    def _set_role(self, account: "Account", role: str) -> None:
        with self.store.exclusive():
            self.state.roles[account.email] = role
            self.state.acl_epoch += 1

    def _trim_and_follow(
        self,
        series: Event,
        first: When,
        to: When | None,
        recurrence: Recurrence,
        fields: Json,
    ) -> Event:
        body, start = effective(self.state, find(self.state, series.id)), series.start
        lines = list(body["recurrence"])
        elapsed = length(start, series.end)
        new = {k: v for k, v in body.items() if k not in NOT_INHERITED}
        new |= self._times(self._zoned(to if to is not None else first), elapsed)
        new["recurrence"] = lines_of(recurrence) or following(lines, start, first)
        new |= fields
        suffix = occurrence_id("R", first).replace("_", "", 1).removesuffix("Z")
        event_id = f"{series.id.partition('_R')[0]}_{suffix}"
        if event_id in self.state.events:
            event_id = new_id()
        self.change(series, recurrence=trimmed(lines, start, first))
        found = self.writer.insert(
            self.state, self.state.owner, new, server_id=event_id
        )
        return Event(self, found.id)

    def _imported(self, raw: bytes | str, around: datetime | None) -> list[Event]:
        ids = import_calendar(self.writer, self.state, raw, around=around)
        return [Event(self, event_id) for event_id in ids]

    def _written(self, start: When, end: When, *, replacing: bool) -> Json:
        return {
            "start": written(start, replacing=replacing),
            "end": written(end, replacing=replacing),
        }
