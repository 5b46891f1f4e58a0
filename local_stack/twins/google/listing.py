"""List and instances: rounds of pages that end in a sync token.

A round is taken once, when its first page is asked for. What changes while a client
pages on is therefore not in it, and is in the first delta after it.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.errors import invalid, sync_token_gone
from local_stack.twins.google.occurrences import find
from local_stack.twins.google.presentation import View
from local_stack.twins.google.queries import Query
from local_stack.twins.google.selection import Selector, has_faded
from local_stack.twins.google.state import CalendarState, EventRecord, Store
from local_stack.twins.google.times import stamp, zone_named
from local_stack.twins.google.tokens import (
    PageToken,
    SyncToken,
    read_page_token,
    read_sync_token,
    write_token,
)

ROUNDS_KEPT = 500

TakeRound = Callable[[CalendarState, Query], tuple[list[bytes], SyncToken | None]]


@dataclass(frozen=True)
class Round:
    """One answer of any length, cut into pages as they are asked for."""

    items: list[bytes]
    query: str
    sync_token: str | None


class Lister:
    """Answers events.list and events.instances."""

    def __init__(self, store: Store, behaviour: Behaviour) -> None:
        self._store = store
        self._behaviour = behaviour
        self._rounds: OrderedDict[str, Round] = OrderedDict()

    def list_(self, calendar: CalendarState, email: str, query: Query) -> bytes:
        """Return one page of a calendar's events, or of what changed."""
        return self._page(calendar, email, query, self._take_round)

    def instances(
        self, calendar: CalendarState, email: str, series_id: str, query: Query
    ) -> bytes:
        """Return one page of a series' occurrences."""

        def take(calendar: CalendarState, query: Query) -> tuple[list[bytes], None]:
            record = find(calendar, series_id).record
            if record is None or record.series is None:
                raise invalid("The requested event is not a recurring event.")
            selector = self._selector(calendar, query)
            if record.cancelled:
                return [], None
            return [entry.encoded for entry in selector.occurrences(record)], None

        return self._page(calendar, email, query, take, scope=series_id)

    def is_forgotten(self, calendar: CalendarState, record: EventRecord) -> bool:
        """Tell whether a deletion is so old that nobody remembers it."""
        life = timedelta(seconds=self._behaviour.tombstone_life_s)
        return has_faded(calendar, record, self._store.clock.now(), life)

    def _take_round(
        self, calendar: CalendarState, query: Query
    ) -> tuple[list[bytes], SyncToken | None]:
        now = self._store.clock.now()
        selector = self._selector(calendar, query)
        next_token = SyncToken(
            calendar.id,
            calendar.version,
            calendar.acl_epoch,
            query.fingerprint,
            now,
            query.time_min,
            query.time_max,
        )
        if query.sync_token is None:
            token = next_token if query.yields_sync_token else None
            return selector.everything(), token
        given = self._check_sync_token(calendar, query, query.sync_token)
        next_token.time_min, next_token.time_max = given.time_min, given.time_max
        entries = selector.changes(given.version, given.time_min, given.time_max)
        return [entry.encoded for entry in entries], next_token

    def _selector(self, calendar: CalendarState, query: Query) -> Selector:
        return Selector(
            calendar,
            query,
            self._store.clock.now(),
            timedelta(seconds=self._behaviour.tombstone_life_s),
            self._behaviour.exceptions_first,
            self._behaviour.full_tombstones,
        )

    def _check_sync_token(
        self, calendar: CalendarState, query: Query, text: str
    ) -> SyncToken:
        token = read_sync_token(text)
        age = self._store.clock.now() - token.issued_at
        if (
            token.calendar_id != calendar.id
            or token.acl_epoch != calendar.acl_epoch
            or token.version > calendar.version
            or age > timedelta(seconds=self._behaviour.sync_token_life_s)
        ):
            raise sync_token_gone()
        if token.fingerprint != query.fingerprint:
            # Google calls this undefined; a twin that says no finds the mistake.
            raise invalid(
                "The parameters differ from those the sync token was issued for.",
                "syncToken",
            )
        return token

    def _page(
        self,
        calendar: CalendarState,
        email: str,
        query: Query,
        take: TakeRound,
        scope: str = "",
    ) -> bytes:
        asked = f"{calendar.id}/{email}/{scope}/{query.whole}"
        view = View(
            calendar,
            email,
            time_zone=query.time_zone and zone_named(query.time_zone).key,
            max_attendees=query.max_attendees,
        )
        if query.page_token is None:
            items, sync_token = take(calendar, query)
            if not view.plain:
                items = [view.show(item) for item in items]
            closing = None if sync_token is None else write_token(sync_token)
            round_ = Round(items, asked, closing)
            page = PageToken(self._keep(round_, query), 0, asked)
        else:
            page = read_page_token(query.page_token)
            round_ = self._round(page, asked)
        return self._answer(calendar, query, view, round_, page)

    def _round(self, page: PageToken, asked: str) -> Round:
        found = self._rounds.get(page.round)
        if found is None or found.query != asked or page.query != asked:
            raise invalid("Invalid page token value.", "pageToken")
        return found

    def _keep(self, round_: Round, query: Query) -> str:
        """Keep a round while its pages are read; a single page need not be."""
        key = secrets.token_hex(6)
        if len(round_.items) > query.max_results or self._behaviour.empty_pages:
            self._rounds[key] = round_
            if len(self._rounds) > ROUNDS_KEPT:
                self._rounds.popitem(last=False)
        return key

    def _answer(
        self,
        calendar: CalendarState,
        query: Query,
        view: View,
        round_: Round,
        page: PageToken,
    ) -> bytes:
        end = page.offset + query.max_results
        tail: dict[str, str] = {}
        if self._behaviour.empty_pages and not page.after_empty:
            items: list[bytes] = []
            again = PageToken(page.round, page.offset, page.query, after_empty=True)
            tail["nextPageToken"] = write_token(again)
        else:
            items = round_.items[page.offset : end]
            if end < len(round_.items):
                following = PageToken(page.round, end, page.query)
                tail["nextPageToken"] = write_token(following)
            elif round_.sync_token is not None:
                tail["nextSyncToken"] = round_.sync_token
        head = msgspec.json.encode(_head(calendar, view) | tail)
        return b"".join((head[:-1], b',"items":[', b",".join(items), b"]}"))


def _head(calendar: CalendarState, view: View) -> dict[str, object]:
    head: dict[str, object] = {
        "kind": "calendar#events",
        "etag": f'"p{calendar.version:x}{calendar.acl_epoch:x}"',
        "summary": calendar.summary,
        "updated": stamp(calendar.changed_at),
        "timeZone": view.time_zone or calendar.time_zone,
        "accessRole": view.role,
        "defaultReminders": [],
    }
    if calendar.description is not None:
        head["description"] = calendar.description
    return head
