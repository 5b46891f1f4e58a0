"""What a person does in Google Calendar: tests and demos do it through these objects.

Every method is a write by that person's browser: it checks nothing a browser would not,
bumps etag and `updated`, enters the order of changes, and is pushed to live channels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from local_stack.twins.google.ics import import_calendar
from local_stack.twins.google.oauth import ALL_SCOPES, Grant, OAuth
from local_stack.twins.google.occurrences import effective, encoded, etag_of, find
from local_stack.twins.google.queries import read_query
from local_stack.twins.google.selection import Selector
from local_stack.twins.google.series import following, occurrence_id, trimmed
from local_stack.twins.google.state import (
    AccountState,
    CalendarState,
    EventRecord,
    Json,
    Store,
)
from local_stack.twins.google.times import When, later, length, read_when, zone_named
from local_stack.twins.google.writer import Writer, new_id

Recurrence: TypeAlias = str | Iterable[str] | None
Response: TypeAlias = Literal["accepted", "declined", "tentative", "needsAction"]

AN_HOUR = timedelta(hours=1)
A_DAY = timedelta(days=1)


@dataclass
class People:
    """Everybody who has an account at this twin."""

    store: Store
    writer: Writer
    oauth: OAuth

    def account(self, email: str, *, name: str | None, time_zone: str) -> "Account":
        email = email.lower()
        with self.store.exclusive():
            if email not in self.store.accounts:
                zone_named(time_zone)
                state = AccountState(email, name or email.partition("@")[0], time_zone)
                self.store.accounts[email] = state
                self.add_calendar(email, email, email, time_zone)
        return Account(self, email)

    def add_calendar(
        self,
        owner: str,
        calendar_id: str,
        summary: str,
        time_zone: str,
        *,
        generated: bool = False,
    ) -> "Calendar":
        with self.store.exclusive():
            role = "reader" if generated else "owner"
            state = CalendarState(
                calendar_id,
                summary,
                zone_named(time_zone).key,
                owner,
                generated=generated,
                roles={owner: role},
                changed_at=self.store.clock.now(),
            )
            self.store.calendars[calendar_id] = state
            self.store.accounts[owner].list_calendar(calendar_id)
        return Calendar(self, calendar_id)

    def calendar(self, calendar_id: str) -> "Calendar":
        return Calendar(self, self.store.calendars[calendar_id].id)


@dataclass(frozen=True)
class Account:
    """A person's Google account."""

    people: People
    email: str

    @property
    def primary(self) -> "Calendar":
        """The calendar that has the account's address for an id."""
        return Calendar(self.people, self.email)

    @property
    def calendars(self) -> "list[Calendar]":
        """What the account's calendar list shows."""
        state = self.people.store.accounts[self.email]
        return [
            Calendar(self.people, calendar_id)
            for calendar_id in state.listed
            if calendar_id not in state.removed
        ]

    def add_calendar(
        self,
        summary: str,
        *,
        time_zone: str | None = None,
        calendar_id: str | None = None,
        generated: bool = False,
    ) -> "Calendar":
        """Make a secondary calendar, or one of those Google generates (holidays)."""
        state = self.people.store.accounts[self.email]
        domain = "group.v" if generated else "group"
        return self.people.add_calendar(
            self.email,
            calendar_id or f"{new_id()}@{domain}.calendar.google.com",
            summary,
            time_zone or state.time_zone,
            generated=generated,
        )

    def sign_in(
        self, *, client_id: str = "supacal", scopes: Iterable[str] = ALL_SCOPES
    ) -> Grant:
        """Consent: the grant has `access_token`, `refresh_token` and `expires_at`."""
        return self.people.oauth.sign_in(
            self.email, client_id=client_id, scopes=tuple(scopes)
        )

    def revoke(self, client_id: str | None = None) -> None:
        """Withdraw consent on the account page: every grant of a client ends."""
        self.people.oauth.revoke_account(self.email, client_id)

    def unsubscribe(self, calendar: "Calendar") -> None:
        """Take a calendar out of the list, without losing access to it."""
        with self.people.store.exclusive():
            state = self.people.store.accounts[self.email]
            state.list_calendar(calendar.id, removed=True)


@dataclass(frozen=True)
class Event:
    """An event on a calendar: a name for it, so it always shows what is there now."""

    calendar: "Calendar"
    id: str

    @property
    def body(self) -> Json:
        """The event as events.get would show it."""
        state = self.calendar.state
        with self.calendar.people.store.exclusive():
            body: Json = msgspec.json.decode(encoded(state, find(state, self.id)))
        return body

    @property
    def etag(self) -> str:
        return etag_of(find(self.calendar.state, self.id))

    @property
    def title(self) -> str:
        return str(self.body.get("summary", ""))

    @property
    def start(self) -> When:
        return read_when(self.body["start"], self.calendar.time_zone, "start")

    @property
    def end(self) -> When:
        return read_when(self.body["end"], self.calendar.time_zone, "end")

    @property
    def original_start(self) -> When:
        """When an occurrence would be, had nobody moved it."""
        time_zone = self.calendar.time_zone
        return read_when(self.body["originalStartTime"], time_zone, "original start")

    @property
    def cancelled(self) -> bool:
        return bool(self.body.get("status") == "cancelled")


@dataclass(frozen=True)
class Calendar:
    """A calendar in the hands of its owner."""

    people: People
    id: str

    @property
    def state(self) -> CalendarState:
        return self.people.store.calendars[self.id]

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
            "recurrence": _lines(recurrence),
            "attendees": guests or None,
            **fields,
        }
        with self.people.store.exclusive():
            found = self.people.writer.insert(self.state, self.state.owner, body)
        return Event(self, found.id)

    def inject(self, body: Mapping[str, Any]) -> Event:
        """Put an event in verbatim, however malformed; only an id is needed."""
        with self.people.store.exclusive():
            defaults: Json = {"id": new_id(), "status": "confirmed"}
            record = EventRecord(
                str(body.get("id", defaults["id"])), {**defaults, **body}
            )
            self.people.store.save(self.state, record)
        return Event(self, record.id)

    def import_ics(
        self, source: Path | bytes | str, *, into_present: bool = False
    ) -> list[Event]:
        """Import an .ics file: a path, or its content as bytes or text.

        With into_present everything moves by whole weeks, so that it lies around now.
        """
        raw = source.read_bytes() if isinstance(source, Path) else source
        now = self.people.store.clock.now() if into_present else None
        with self.people.store.exclusive():
            ids = import_calendar(self.people.writer, self.state, raw, around=now)
        return [Event(self, event_id) for event_id in ids]

    def event(self, event_id: str) -> Event:
        """Return an event by id."""
        return Event(self, find(self.state, event_id).id)

    def events(self, start: datetime, end: datetime) -> list[Event]:
        """Return what happens in a window, series expanded, soonest first."""
        bounds = {"timeMin": [start.isoformat()], "timeMax": [end.isoformat()]}
        order = {"singleEvents": ["true"], "orderBy": ["startTime"]}
        with self.people.store.exclusive():
            now = self.people.store.clock.now()
            selector = Selector(
                self.state, read_query(bounds | order), now, timedelta.max
            )
            return [Event(self, entry.id) for entry in selector.whole()]

    def occurrences(self, series: Event, *, count: int = 10) -> list[Event]:
        """Return a series' first occurrences that are not cancelled."""
        with self.people.store.exclusive():
            record = self.state.record(series.id)
            now = self.people.store.clock.now()
            selector = Selector(self.state, read_query({}), now, timedelta.max)
            entries = selector.occurrences(record)[:count]
        return [Event(self, entry.id) for entry in entries]

    def occurrence(self, series: Event, original: When) -> Event:
        """Return the occurrence that has, or had, this start."""
        return self.event(occurrence_id(series.id, self._zoned(original)))

    def change(self, event: Event, **fields: Any) -> Event:
        """Change any fields, in the API's own names; None removes one."""
        with self.people.store.exclusive():
            self.people.writer.write(
                self.state, self.state.owner, event.id, fields, replace=False
            )
        return event

    def rename(self, event: Event, title: str) -> Event:
        """Give an event, a series or an occurrence another title."""
        return self.change(event, summary=title)

    def move(
        self, event: Event, to: When, *, end: When | timedelta | None = None
    ) -> Event:
        """Drag an event elsewhere; it stays as long as it was."""
        if end is None:
            end = length(event.start, event.end)
        return self.change(event, **self._times(to, end, replacing=True))

    def cancel(self, event: Event) -> None:
        """Delete an event, a series or an occurrence."""
        with self.people.store.exclusive():
            self.people.writer.delete(self.state, self.state.owner, event.id)

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
            fields["recurrence"] = _lines(recurrence)
        return self.change(series, **fields)

    def move_occurrence(self, series: Event, original: When, to: When) -> Event:
        """Drag one occurrence elsewhere."""
        return self.move(self.occurrence(series, original), to)

    def rename_occurrence(self, series: Event, original: When, title: str) -> Event:
        """Give one occurrence another title."""
        return self.rename(self.occurrence(series, original), title)

    def cancel_occurrence(self, series: Event, original: When) -> None:
        """Delete one occurrence."""
        self.cancel(self.occurrence(series, original))

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
        with self.people.store.exclusive():
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
        with self.people.store.exclusive():
            self.people.writer.move(self.state, self.state.owner, event.id, to.state)
        return Event(to, event.id)

    def touch(self, event: Event) -> None:
        """Change the etag and nothing else, as Google's servers sometimes do."""
        self.people.store.touch(self.state, self.state.record(event.id))

    def share(self, account: Account, role: str = "reader") -> None:
        """Let another account in; sync tokens of this calendar end with it."""
        self._set_role(account, role)
        self.people.store.accounts[account.email].list_calendar(self.id)

    def unshare(self, account: Account) -> None:
        """Shut another account out again."""
        self._set_role(account, "none")
        self.people.store.accounts[account.email].list_calendar(self.id, removed=True)

    def expire_sync_tokens(self) -> None:
        """Make every sync token of this calendar answer 410."""
        with self.people.store.exclusive():
            self.state.acl_epoch += 1

    def series_zone(self, series: Event) -> str:
        """Return the zone a series keeps its time of day in."""
        return str(series.body["start"].get("timeZone", self.time_zone))

    def _set_role(self, account: Account, role: str) -> None:
        with self.people.store.exclusive():
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
        new["recurrence"] = _lines(recurrence) or following(lines, start, first)
        new |= fields
        suffix = occurrence_id("R", first).replace("_", "", 1).removesuffix("Z")
        event_id = f"{series.id.partition('_R')[0]}_{suffix}"
        if event_id in self.state.events:
            event_id = new_id()
        self.change(series, recurrence=trimmed(lines, start, first))
        found = self.people.writer.insert(
            self.state, self.state.owner, new, server_id=event_id
        )
        return Event(self, found.id)

    def _times(
        self, start: When, end: When | timedelta | None, *, replacing: bool = False
    ) -> Json:
        start = self._zoned(start)
        if end is None:
            end = AN_HOUR if isinstance(start, datetime) else A_DAY
        end = later(start, end) if isinstance(end, timedelta) else self._zoned(end)
        return {
            "start": _written(start, replacing=replacing),
            "end": _written(end, replacing=replacing),
        }

    def _zoned(self, when: When) -> When:
        """Give a time that has only an offset the calendar's named zone."""
        if isinstance(when, datetime) and not hasattr(when.tzinfo, "key"):
            return when.astimezone(zone_named(self.time_zone))
        return when


NOT_INHERITED = frozenset(
    {"id", "iCalUID", "created", "updated", "sequence", "creator", "organizer", "etag"}
)


def _written(when: When, *, replacing: bool) -> Json:
    if isinstance(when, datetime):
        zone = getattr(when.tzinfo, "key", None)
        written: Json = {"dateTime": when.isoformat(), "timeZone": zone}
        return {**written, "date": None} if replacing else written
    written = {"date": when.isoformat()}
    return {**written, "dateTime": None, "timeZone": None} if replacing else written


def _lines(recurrence: Recurrence) -> list[str] | None:
    if recurrence is None:
        return None
    lines = [recurrence] if isinstance(recurrence, str) else list(recurrence)
    return [line if ":" in line else f"RRULE:{line}" for line in lines]
