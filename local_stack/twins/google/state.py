"""What the twin remembers: accounts, calendars, events, and the order of changes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import msgspec

from local_stack.twins.google.errors import ApiError, not_found
from local_stack.twins.google.times import read_when, stamp, write_when
from local_stack.twins.moments import When, instant, later, length
from local_stack.twins.series import Series
from runtime.clock import Clock

Json: TypeAlias = dict[str, Any]

ROLES = ("none", "freeBusyReader", "reader", "writerWithoutPrivateAccess", "writer")
ROLE_ORDER = {role: order for order, role in enumerate((*ROLES, "owner"))}
MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


@dataclass(slots=True, eq=False)
class EventRecord:
    """One event on one calendar: a single one, a series, or a changed occurrence."""

    id: str
    body: Json
    etag: str = ""
    version: int = 0
    changed_at: datetime = EPOCH
    # For a changed occurrence: the fields in which it differs from its series.
    overrides: Json = field(default_factory=dict)
    # Schedules the series had, with the version at which each ended.
    former: list[tuple[int, Series]] = field(default_factory=list)
    series: Series | None = None
    span: tuple[datetime, datetime] | None = None
    elapsed: timedelta = timedelta(0)
    encoded: bytes = b""
    occurrence_tail: bytes = b""
    occurrences: dict[When, bytes] = field(default_factory=dict)

    @property
    def cancelled(self) -> bool:
        return bool(self.body.get("status") == "cancelled")

    @property
    def series_id(self) -> str | None:
        return self.body.get("recurringEventId")

    def original(self, zone_name: str) -> When:
        """Return the original start of a changed occurrence."""
        return read_when(self.body["originalStartTime"], zone_name, "original start")

    def start(self, zone_name: str) -> When:
        return read_when(self.body.get("start"), zone_name, "start")

    def end(self, zone_name: str) -> When:
        return read_when(self.body.get("end"), zone_name, "end")

    def tombstone(self, *, of_live_series: bool) -> bytes:
        """Return the little that Google promises to say about a cancelled thing."""
        said: Json = {"id": self.id, "status": "cancelled"}
        if of_live_series:
            said["recurringEventId"] = self.body["recurringEventId"]
            said["originalStartTime"] = self.body["originalStartTime"]
        return msgspec.json.encode(said)


@dataclass(eq=False)
class CalendarState:
    """A calendar: its events, who may do what, and what changed when."""

    id: str
    summary: str
    time_zone: str
    owner: str
    description: str | None = None
    # Holidays, birthdays: Google makes these itself, and they cannot be watched.
    generated: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    events: dict[str, EventRecord] = field(default_factory=dict)
    exceptions: dict[str, dict[str, EventRecord]] = field(default_factory=dict)
    # Event id to version, least recently changed first.
    changes: dict[str, int] = field(default_factory=dict)
    version: int = 0
    acl_epoch: int = 0
    changed_at: datetime = EPOCH

    def role_of(self, email: str) -> str:
        return self.roles.get(email, "none")

    def record(self, event_id: str) -> EventRecord:
        """Return an event that has a record of its own, deleted ones included."""
        found = self.events.get(event_id)
        if found is None:
            raise not_found()
        return found

    def exceptions_of(self, series_id: str) -> dict[str, EventRecord]:
        return self.exceptions.get(series_id, {})

    def is_live_exception(self, record: EventRecord) -> bool:
        """Tell whether a record stands for an occurrence of a series that lives."""
        series = self.events.get(record.series_id or "")
        return series is not None and not series.cancelled

    def changed_since(self, version: int) -> list[EventRecord]:
        """Return what changed after a version, oldest change first."""
        found = []
        for event_id in reversed(self.changes):
            if self.changes[event_id] <= version:
                break
            found.append(self.events[event_id])
        return found[::-1]

    def enter(self, record: EventRecord) -> None:
        """Note a record as the one that changed last."""
        self.events[record.id] = record
        self.changes.pop(record.id, None)
        self.changes[record.id] = record.version
        if record.series_id is not None:
            self.exceptions.setdefault(record.series_id, {})[record.id] = record

    def forget(self, record: EventRecord) -> None:
        """Drop a record without a trace, as if it had never been there."""
        self.events.pop(record.id, None)
        self.changes.pop(record.id, None)
        self.exceptions_of(record.series_id or "").pop(record.id, None)


@dataclass(eq=False)
class AccountState:
    """A Google account: an address and the calendars it has in its list."""

    email: str
    name: str
    time_zone: str
    # Calendar id to version of its entry; a removed one stays as a deleted entry.
    listed: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    list_version: int = 0

    def list_calendar(self, calendar_id: str, *, removed: bool = False) -> None:
        self.list_version += 1
        self.listed[calendar_id] = self.list_version
        (self.removed.add if removed else self.removed.discard)(calendar_id)


class Store:
    """Everything, behind one lock; the one place where an event is written."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.accounts: dict[str, AccountState] = {}
        self.calendars: dict[str, CalendarState] = {}
        # Events that have, or had, copies on guests' calendars.
        self.shared: set[str] = set()
        self.on_change: Callable[[CalendarState], None] = lambda _: None
        self.on_write: Callable[[CalendarState, EventRecord], None] = lambda *_: None
        self._lock = threading.RLock()
        self._depth = 0
        self._touched: dict[str, CalendarState] = {}
        self.last_etag = 0

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the state; at the end each changed calendar is announced once."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    touched, self._touched = self._touched, {}
                    for calendar in touched.values():
                        self.on_change(calendar)

    def calendar_for(self, email: str, calendar_id: str) -> CalendarState:
        """Return a calendar this account may at least see; `primary` is its own."""
        found = self.calendars.get(email if calendar_id == "primary" else calendar_id)
        if found is None or found.role_of(email) == "none":
            raise not_found()
        return found

    def save(self, calendar: CalendarState, record: EventRecord) -> None:
        """Write an event: new etag, new `updated`, a place in the order of changes."""
        record.body["updated"] = stamp(self.clock.now())
        self._refresh(calendar, record)
        self._announce(calendar, record)
        self.on_write(calendar, record)

    def touch(self, calendar: CalendarState, record: EventRecord) -> None:
        """Change nothing but the etag, as Google does some time after a write."""
        with self.exclusive():
            # By then the record may have been forgotten.
            if calendar.events.get(record.id) is record:
                self._announce(calendar, record)

    def was_shared(self, record: EventRecord) -> bool:
        """Tell whether guests may hold a copy of an event or of its series."""
        return record.id in self.shared or (record.series_id or "") in self.shared

    def forget(self, record: EventRecord) -> None:
        """Drop a changed occurrence and its copies: it is like its series again."""
        for calendar in self.calendars.values():
            if record.id in calendar.events:
                calendar.forget(calendar.events[record.id])

    def restore(self, calendar: CalendarState, record: EventRecord) -> None:
        """Put an event back as it was, without a new etag and without a push."""
        self._refresh(calendar, record)
        calendar.enter(record)
        self._encode(record)

    def _announce(self, calendar: CalendarState, record: EventRecord) -> None:
        calendar.version += 1
        now = self.clock.now()
        record.version = calendar.version
        record.changed_at = calendar.changed_at = now
        record.etag = self._new_etag(now)
        calendar.enter(record)
        self._encode(record)
        self._touched[calendar.id] = calendar

    def _new_etag(self, now: datetime) -> str:
        self.last_etag = max(self.last_etag + 2, (now - EPOCH) // MICROSECOND * 2)
        return f'"{self.last_etag}"'

    def _refresh(self, calendar: CalendarState, record: EventRecord) -> None:
        """Work out anew what follows from an event's times and rule."""
        lines = record.body.get("recurrence")
        zone_name = calendar.time_zone
        try:
            start, end = record.start(zone_name), record.end(zone_name)
            record.elapsed = length(start, end)
            record.span = (instant(start, zone_name), instant(end, zone_name))
            series = Series(start, lines) if lines else None
        except (ApiError, AttributeError, TypeError, ValueError):
            # Only what was put in verbatim can be so malformed; it is listed as it is.
            record.span, series = None, None
        was = record.series
        if was is not None and _schedule(was) != _schedule(series):
            record.former.append((calendar.version, was))
        record.series = series

    def _encode(self, record: EventRecord) -> None:
        head = {"kind": "calendar#event", "etag": record.etag}
        record.encoded = msgspec.json.encode({**head, **record.body})
        record.occurrences = {}
        if record.series is not None:
            shared = {k: v for k, v in record.body.items() if k not in OWN_FIELDS}
            record.occurrence_tail = msgspec.json.encode(shared)[1:]


OWN_FIELDS = frozenset({"id", "start", "end", "recurrence"})


def _schedule(series: Series | None) -> object:
    return series and (series.start, series.lines)


def occurrence_bytes(
    record: EventRecord, event_id: str, original: When, zone_name: str
) -> bytes:
    """Return an unchanged occurrence as the API shows it."""
    known = record.occurrences.get(original)
    if known is None:
        start = write_when(original, zone_name)
        end = write_when(later(original, record.elapsed), zone_name)
        own = {
            "kind": "calendar#event",
            "etag": record.etag,
            "id": event_id,
            "recurringEventId": record.id,
            "originalStartTime": start,
            "start": start,
            "end": end,
        }
        known = msgspec.json.encode(own)[:-1] + b"," + record.occurrence_tail
        record.occurrences[original] = known
    return known
