"""calendarView/delta: rounds over a window that is frozen into the token.

A round is taken once, when its first page is asked for; what changes while a client
pages on is in the round after it. A series comes whole and is not split over pages.
"""

import base64
import binascii
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.errors import bad_delta_token, state_lost
from local_stack.twins.microsoft.expansion import Window, members, originals
from local_stack.twins.microsoft.ids import occurrence_ids
from local_stack.twins.microsoft.presentation import Snapshot, removed, taken
from local_stack.twins.microsoft.state import CalendarState, EventRecord, Store

ROUNDS_KEPT = 500
MOST_ON_A_PAGE = 999

Token = TypeVar("Token")


class DeltaToken(msgspec.Struct, array_like=True):
    """Where a client stopped, and the window it looks through."""

    calendar_id: str
    version: int
    epoch: int
    start: datetime
    end: datetime
    issued_at: datetime


class SkipToken(msgspec.Struct, array_like=True):
    """The next page of a round that is under way."""

    round: str
    page: int
    after_empty: bool = False


@dataclass(frozen=True)
class Page:
    """One page, and the token of what comes next."""

    items: list[Snapshot]
    token: str
    is_last: bool


@dataclass(frozen=True)
class Round:
    """A whole answer, cut into pages."""

    calendar_id: str
    pages: list[list[Snapshot]]
    delta_token: str


class Deltas:
    """Answers delta queries."""

    def __init__(self, store: Store, behaviour: Behaviour) -> None:
        self._store = store
        self._behaviour = behaviour
        self._rounds: OrderedDict[str, Round] = OrderedDict()

    def first(self, calendar: CalendarState, window: Window, size: int | None) -> Page:
        """Begin a round that shows everything in a window."""
        groups = [
            group
            for record in list(calendar.records.values())
            if not record.gone and record.master is None
            for group in self._shown(calendar, record, window)
        ]
        return self._begin(calendar, window, groups, size)

    def since(self, calendar: CalendarState, token: str, size: int | None) -> Page:
        """Begin a round that shows what changed.

        Raises:
            ApiError: the token is none, or its state is lost.
        """
        known = _read(token, DeltaToken)
        self._check(calendar, known)
        window = Window(known.start, known.end)
        seen = self._visible_version(calendar)
        changed = [
            record
            for record in calendar.changed_since(known.version)
            if record.version <= seen
        ]
        with_series = {record.key for record in changed if record.series is not None}
        groups = [
            group
            for record in changed
            if record.master is None or record.master.key not in with_series
            for group in self._changed(calendar, record, window, known.version)
        ]
        return self._begin(calendar, window, groups, size)

    def next(self, calendar: CalendarState, token: str) -> Page:
        """Return the next page of a round."""
        skip = _read(token, SkipToken)
        round_ = self._rounds.get(skip.round)
        if round_ is None or round_.calendar_id != calendar.id:
            raise state_lost(int(self._behaviour.lost_state))
        return self._page(round_, skip)

    def _visible_version(self, calendar: CalendarState) -> int:
        """Return the last version that a delta shows yet."""
        lag = timedelta(seconds=self._behaviour.delta_lag_s)
        horizon = self._store.clock.now() - lag
        hidden = [
            record.version
            for record in calendar.records.values()
            if lag and record.changed_at > horizon
        ]
        return min(hidden, default=calendar.version + 1) - 1

    def _check(self, calendar: CalendarState, token: DeltaToken) -> None:
        age = self._store.clock.now() - token.issued_at
        if (
            token.calendar_id != calendar.id
            or token.epoch != calendar.sync_epoch
            or token.version > calendar.version
            or age > timedelta(seconds=self._behaviour.delta_token_life_s)
        ):
            raise state_lost(int(self._behaviour.lost_state))

    def _shown(
        self, calendar: CalendarState, record: EventRecord, window: Window
    ) -> Iterator[list[Snapshot]]:
        """Yield what a live event or series shows in a window, if anything."""
        if record.series is None:
            if window.overlaps(*record.span):
                yield [taken(calendar, record)]
            return
        found = members(record, window)
        if found:
            placed = [taken(calendar, one.record, one.original) for one in found]
            yield [taken(calendar, record), *placed]

    def _changed(
        self,
        calendar: CalendarState,
        record: EventRecord,
        window: Window,
        since: int,
    ) -> Iterator[list[Snapshot]]:
        shown = [] if record.gone else list(self._shown(calendar, record, window))
        if record.master is not None and record.gone:
            return
        vanished = list(self._vanished(record, window, since))
        if shown:
            yield [*shown[0], *vanished]
        elif record.gone or self._behaviour.out_of_window_removed:
            yield [removed(record.ids), *vanished]

    def _vanished(
        self, record: EventRecord, window: Window, since: int
    ) -> Iterator[Snapshot]:
        """Yield the occurrences that are no more, where the twin tells of them."""
        if record.series is None or not self._behaviour.occurrence_tombstones:
            return
        schedules = [(g, series) for until, g, series in record.former if until > since]
        if record.gone:
            schedules.append((record.generation, record.series))
        for generation, series in schedules:
            for original in originals(series, record, window):
                if generation != record.generation or not record.has(original):
                    yield removed(
                        occurrence_ids(record.key, record.moves, generation, original)
                    )
        for original, version in record.deleted.items():
            if version > since and not record.gone:
                yield removed(record.occurrence_ids(original))

    def _begin(
        self,
        calendar: CalendarState,
        window: Window,
        groups: list[list[Snapshot]],
        size: int | None,
    ) -> Page:
        if self._behaviour.repeat_items and groups:
            groups = [*groups, groups[0]]
        token = DeltaToken(
            calendar.id,
            self._visible_version(calendar),
            calendar.sync_epoch,
            window.start,
            window.end,
            self._store.clock.now(),
        )
        most = min(size or MOST_ON_A_PAGE, self._behaviour.delta_page_size)
        round_ = Round(calendar.id, _pages(groups, most), _write(token))
        key = secrets.token_hex(8)
        self._rounds[key] = round_
        if len(self._rounds) > ROUNDS_KEPT:
            self._rounds.popitem(last=False)
        return self._page(round_, SkipToken(key, 0))

    def _page(self, round_: Round, at: SkipToken) -> Page:
        if self._behaviour.empty_pages and not at.after_empty:
            again = SkipToken(at.round, at.page, after_empty=True)
            return Page([], _write(again), is_last=False)
        items = round_.pages[at.page]
        if at.page + 1 < len(round_.pages):
            following = SkipToken(at.round, at.page + 1)
            return Page(items, _write(following), is_last=False)
        return Page(items, round_.delta_token, is_last=True)


def _pages(groups: list[list[Snapshot]], size: int) -> list[list[Snapshot]]:
    pages: list[list[Snapshot]] = [[]]
    for group in groups:
        if pages[-1] and len(pages[-1]) + len(group) > size:
            pages.append([])
        pages[-1].extend(group)
    return pages


def _write(token: DeltaToken | SkipToken) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def _read(token: str, kind: type[Token]) -> Token:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token.encode()), type=kind)
    except (binascii.Error, UnicodeError, msgspec.MsgspecError) as problem:
        raise bad_delta_token() from problem
