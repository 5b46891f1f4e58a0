"""What the twin remembers: mailboxes, calendars, events, and the order of changes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from local_stack.twins.microsoft.errors import denied, not_found
from local_stack.twins.microsoft.ids import Ids, ids_of, new_key, occurrence_ids
from local_stack.twins.moments import When, instant, length
from local_stack.twins.series import Series
from runtime.clock import Clock

Json: TypeAlias = dict[str, Any]
ChangeType: TypeAlias = Literal["created", "updated", "deleted"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, eq=False)
class EventRecord:
    """An event on one calendar: a single one, a series, or a changed occurrence."""

    fields: Json
    start: When
    end: When
    zone: str  # IANA; where it was made, and where its whole days begin
    key: str = field(default_factory=new_key)
    shared_key: str = ""  # the organizer's and all guests' copies have the same
    lines: list[str] = field(default_factory=list)
    pattern: Json | None = None
    master: "EventRecord | None" = None
    original: When | None = None
    exceptions: dict[When, "EventRecord"] = field(default_factory=dict)
    # Original starts of deleted occurrences, with the version at which each went.
    deleted: dict[When, int] = field(default_factory=dict)
    # Schedules the series had: the version at which each ended, and its generation.
    former: list[tuple[int, int, Series]] = field(default_factory=list)
    series: Series | None = None
    generation: int = 0
    moves: int = 0
    number: int = 0
    version: int = 0
    created_at: datetime = EPOCH
    changed_at: datetime = EPOCH
    gone: bool = False

    def __post_init__(self) -> None:
        self.shared_key = self.shared_key or self.key

    @property
    def ids(self) -> Ids:
        if self.master is not None and self.original is not None:
            return self.master.occurrence_ids(self.original)
        return ids_of(self.key, self.moves)

    @property
    def elapsed(self) -> timedelta:
        return length(self.start, self.end)

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The real moments; of a whole day those of its own zone."""
        return instant(self.start, self.zone), instant(self.end, self.zone)

    @property
    def kind(self) -> str:
        if self.master is not None:
            return "exception"
        return "singleInstance" if self.series is None else "seriesMaster"

    def occurrence_ids(self, original: When) -> Ids:
        return occurrence_ids(self.key, self.moves, self.generation, original)

    def has(self, original: When) -> bool:
        """Tell whether this series still has an occurrence there."""
        return (
            self.series is not None
            and original not in self.deleted
            and self.series.has(original)
        )


@dataclass(eq=False)
class CalendarState:
    """A calendar: its events, who may do what, and what changed when."""

    id: str
    name: str
    owner: str
    time_zone: str
    default: bool = False
    roles: dict[str, str] = field(default_factory=dict)
    # By key, changed occurrences and what is gone included.
    records: dict[str, EventRecord] = field(default_factory=dict)
    # Key to version, least recently changed first.
    changes: dict[str, int] = field(default_factory=dict)
    # Either id of an item, or of an occurrence that was shown to somebody.
    names: dict[str, str] = field(default_factory=dict)
    occurrence_names: dict[str, tuple[str, int, When]] = field(default_factory=dict)
    version: int = 0
    sync_epoch: int = 0

    def role_of(self, email: str) -> str:
        return self.roles.get(email, "none")

    def changed_since(self, version: int) -> list[EventRecord]:
        """Return what changed after a version, oldest change first."""
        found = []
        for key in reversed(self.changes):
            if self.changes[key] <= version:
                break
            found.append(self.records[key])
        return found[::-1]

    def name_occurrence(self, master: EventRecord, original: When) -> Ids:
        """Return the ids of an occurrence, which can be asked for by them from now."""
        ids = master.occurrence_ids(original)
        known = (master.key, master.generation, original)
        self.occurrence_names[ids.mutable] = self.occurrence_names[ids.immutable] = (
            known
        )
        return ids


@dataclass(eq=False)
class AccountState:
    """A mailbox: an address and the calendars that it lists."""

    email: str
    name: str
    time_zone: str
    id: str
    tenant_id: str
    listed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """An event under an id; `original` is set for an occurrence nobody changed."""

    calendar: CalendarState
    record: EventRecord
    original: When | None = None

    @property
    def ids(self) -> Ids:
        if self.original is None:
            return self.record.ids
        return self.calendar.name_occurrence(self.record, self.original)


@dataclass(frozen=True)
class Change:
    """Something that subscribers hear of."""

    calendar: CalendarState
    kind: ChangeType
    ids: Ids
    number: int


class Store:
    """Everything, behind one lock; the one place where an event is written."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.accounts: dict[str, AccountState] = {}
        self.calendars: dict[str, CalendarState] = {}
        self.transactions: dict[tuple[str, str], str] = {}
        self.on_changes: Callable[[list[Change]], None] = lambda _: None
        self.on_write: Callable[[CalendarState, EventRecord], None] = lambda *_: None
        self.number = 0
        self._lock = threading.RLock()
        self._depth = 0
        self._changes: list[Change] = []

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the state; at the end all that changed is announced at once."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0 and self._changes:
                    changes, self._changes = self._changes, []
                    self.on_changes(_collapsed(changes))

    def default_calendar(self, email: str) -> CalendarState:
        """Return the calendar that an account is born with."""
        mine = self.accounts[email].listed
        return self.calendars[mine[0]]

    def calendar_for(self, email: str, calendar_id: str | None) -> CalendarState:
        """Return a calendar this account may see; without an id its default one."""
        if calendar_id is None:
            return self.default_calendar(email)
        found = self.calendars.get(calendar_id)
        if found is None or found.role_of(email) == "none":
            raise not_found()
        return found

    def find(self, email: str, calendar_id: str | None, event_id: str) -> Found:
        """Find an event that is there, by either of its ids.

        Without a calendar only the account's own ones are searched.
        """
        if calendar_id is not None:
            where = [self.calendar_for(email, calendar_id)]
        else:
            where = [c for c in self.calendars.values() if c.owner == email]
        for calendar in where:
            found = find_in(calendar, event_id)
            if found is not None:
                return found
        raise not_found()

    def save(
        self,
        calendar: CalendarState,
        record: EventRecord,
        kind: ChangeType = "updated",
        *,
        quiet: bool = False,
    ) -> None:
        """Write an event: new change key, a place in the order of changes."""
        now = self.clock.now()
        self.number += 1
        calendar.version += 1
        record.number, record.version = self.number, calendar.version
        record.changed_at = now
        if kind == "created" and record.created_at == EPOCH:
            record.created_at = now
        calendar.records[record.key] = record
        calendar.changes.pop(record.key, None)
        calendar.changes[record.key] = record.version
        for name in (record.ids.mutable, record.ids.immutable):
            calendar.names[name] = record.key
        self._changes.append(Change(calendar, kind, record.ids, record.number))
        if not quiet:
            self.on_write(calendar, record)

    def require_write(self, calendar: CalendarState, email: str) -> None:
        if calendar.role_of(email) not in {"owner", "write"}:
            raise denied()


def find_in(calendar: CalendarState, event_id: str) -> Found | None:
    """Find an event of one calendar, or an occurrence of a series as it now is."""
    key = calendar.names.get(event_id)
    if key is not None:
        record = calendar.records[key]
        current = event_id in {record.ids.mutable, record.ids.immutable}
        if current and not record.gone and not _is_buried(record):
            return Found(calendar, record)
    named = calendar.occurrence_names.get(event_id)
    if named is None:
        return None
    master_key, generation, original = named
    master = calendar.records[master_key]
    if master.gone or master.generation != generation or not master.has(original):
        return None
    changed = master.exceptions.get(original)
    if changed is not None:
        return Found(calendar, changed)
    return Found(calendar, master, original)


def _is_buried(record: EventRecord) -> bool:
    """Tell whether an exception's series no longer knows it."""
    if record.master is None or record.original is None:
        return False
    known = record.master.exceptions.get(record.original)
    return record.master.gone or known is not record


def _collapsed(changes: list[Change]) -> list[Change]:
    """Keep one change of each item: the first kind, in the last state."""
    kept: dict[tuple[str, str], Change] = {}
    for change in changes:
        key = (change.calendar.id, change.ids.immutable)
        was = kept.get(key)
        kind = "created" if was and was.kind == "created" else change.kind
        kept[key] = Change(change.calendar, kind, change.ids, change.number)
    return list(kept.values())
