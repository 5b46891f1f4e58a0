"""One round of reading a calendar: pages in, applied events out.

Singles are applied page by page. What belongs to a series waits until the round is read
whole: only then can an occurrence under a new id be told from one that is gone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from time import monotonic, perf_counter
from typing import Any

import asyncpg
import msgspec

from providers.model import Event, Item, Malformed, Page
from providers.protocols import Client
from sql import queries
from worker.connections import Account
from worker.handler import Counts, Outcome, Task

# Up to so many changed series are expanded one by one; more, by one read of the window.
SERIES_READ_ONE_BY_ONE = 5

COUNTED = ("created", "updated", "cancelled", "unchanged", "set_aside")
CHANGES = ("created", "updated", "cancelled", "detached", "set_aside", "held")


class Round:
    """Reads the changes of one calendar and applies them.

    The cursor is saved in the transaction that applies the last of what it covers.
    """

    def __init__(
        self,
        task: Task,
        calendar: asyncpg.Record,
        account: Account,
        pool: asyncpg.Pool,
        *,
        full: bool,
    ) -> None:
        self._task = task
        self._calendar = calendar
        self._account = account
        self._pool = pool
        self._full = full
        self._kept: list[Event] = []  # for the last call
        self._malformed: list[Malformed] = []
        self._cursor: str | None = None
        self._counts = Counts()
        self._changes = 0
        self._steps: dict[str, float] = {}
        if full or calendar["window_end"] is None:
            self._window = (calendar["wanted_start"], calendar["wanted_end"])
        else:
            self._window = (calendar["window_start"], calendar["window_end"])

    async def read_upcoming(self, now: datetime, span: timedelta) -> None:
        """Show the next weeks at once; what this read does not meet means nothing."""
        async for page in self._window_pages(now, now + span):
            events = await self._changed(page.items, expanded=True)
            await self._apply(events, {"upsert_only": True})
        await self._apply([], {"upsert_only": True, "backfill": "upcoming"})

    async def read_changes(self, cursor: str | None) -> None:
        """Read every page since the cursor; None reads the calendar from anew."""
        since = self._calendar["wanted_start"] if cursor is None else None

        async def page(token: str | None) -> Page:
            return await self._client.list_changes(
                self._provider_id, cursor=cursor, since=since, page_token=token
            )

        async for changes in self._pages(page):
            events = await self._changed(
                changes.items, expanded=False, note_seen=self._full
            )
            self._cursor = changes.cursor
            if changes.next_page_token is None:
                self._kept += events
            else:
                await self._apply([e for e in events if e.role == "single"], {})
                self._kept += [e for e in events if e.role != "single"]

    async def finish(self) -> Outcome:
        """Expand the series that changed, apply what was kept, and save the cursor."""
        series = [
            event.provider_event_id
            for event in self._kept
            if event.role == "series" and event.status != "cancelled"
        ]
        expansions = await self._expand(series)
        rolled = await self._roll_window()
        next_at = await self._finish(
            [*expansions, *self._kept], self._last_call(series), rolled
        )
        return Outcome(
            next_at=next_at,
            counts=self._counts,
            api_calls=self._account.api_calls,
            steps=self._steps,
            idle=not self._full and self._changes == 0,
        )

    def _last_call(self, series: list[str]) -> dict[str, Any]:
        start, end = self._window
        last: dict[str, Any] = {
            "series": series,
            "window_start": start,
            "window_end": end,
            "cursor": self._cursor,
            "cursor_parameters": self._client.parameters,
        }
        if self._full:
            last |= {"full_round": True, "asked_from": start, "backfill": "complete"}
        return last

    async def _expand(self, series: list[str]) -> list[Event]:
        start, end = self._window
        if not series:
            return []
        if len(series) > SERIES_READ_ONE_BY_ONE:
            wanted = set(series)
            return [
                event
                async for page in self._window_pages(start, end)
                for event in self._understand(page.items, expanded=True)
                if event.series_provider_id in wanted
            ]
        return [
            event
            for one in series
            async for page in self._instance_pages(one)
            for event in self._understand(page.items, expanded=True)
        ]

    async def _roll_window(self) -> tuple[datetime, datetime] | None:
        """Read the strip that time has brought into the window, about weekly."""
        wanted = (self._calendar["wanted_start"], self._calendar["wanted_end"])
        if self._full or self._calendar["window_end"] is None:
            return wanted
        if self._calendar["window_rolls_at"] > self._calendar["now_at"]:
            return None
        async for page in self._window_pages(self._calendar["window_end"], wanted[1]):
            events = await self._changed(page.items, expanded=True)
            await self._apply(events, {"upsert_only": True})
        return wanted

    def _window_pages(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        return self._pages(
            lambda token: self._client.list_window(
                self._provider_id, start=start, end=end, page_token=token
            )
        )

    def _instance_pages(self, series: str) -> AsyncIterator[Page]:
        start, end = self._window
        return self._pages(
            lambda token: self._client.instances(
                self._provider_id, series, start=start, end=end, page_token=token
            )
        )

    async def _pages(
        self, read: Callable[[str | None], Awaitable[Page]]
    ) -> AsyncIterator[Page]:
        token: str | None = None
        while True:
            with self._timed("api"):
                page = await self._account.ask(lambda token=token: read(token))  # type: ignore[misc]
            # Since the claim: with `api` it tells what came before the provider's answer.
            self._steps["answered"] = (monotonic() - self._task.claimed) * 1000
            yield page
            if page.next_page_token is None:
                return
            token = page.next_page_token

    async def _changed(
        self, items: Sequence[Item], *, expanded: bool, note_seen: bool = False
    ) -> list[Event]:
        """Understand those items that differ from what is mirrored."""
        if not items:
            return []
        with self._timed("compare"):
            places = await queries.calendars.compare_hashes(
                self._pool,
                calendar_id=self._task.subject_id,
                ids=[item.provider_event_id for item in items],
                hashes=[item.content_hash for item in items],
                note_seen=note_seen,
            )
        self._counts += Counts(unchanged=len(items) - len(places))
        differing = [items[place - 1] for place in places]
        return self._understand(differing, expanded=expanded)

    def _understand(self, items: Sequence[Item], *, expanded: bool) -> list[Event]:
        with self._timed("read"):
            read = [self._client.read_event(item, expanded=expanded) for item in items]
        self._malformed += [event for event in read if isinstance(event, Malformed)]
        return [event for event in read if isinstance(event, Event)]

    async def _apply(self, events: list[Event], round_: dict[str, Any]) -> None:
        if not events and not round_.get("backfill"):
            return
        async with self._pool.acquire() as connection:
            await self._apply_on(connection, events, round_)

    async def _apply_on(
        self, connection: Any, events: list[Event], round_: dict[str, Any]
    ) -> None:
        with self._timed("apply"):
            applied = await queries.calendars.apply_events(
                connection,
                task_id=self._task.id,
                lease=self._task.lease,
                calendar_id=self._task.subject_id,
                events=msgspec.json.encode(events).decode(),
                round=msgspec.json.encode(round_).decode(),
            )
        self._counts += Counts(**{name: applied[name] for name in COUNTED})
        self._changes += sum(applied[name] for name in CHANGES)

    async def _finish(
        self,
        events: list[Event],
        last: dict[str, Any],
        rolled: tuple[datetime, datetime] | None,
    ) -> datetime:
        last["malformed"] = self._malformed
        async with self._pool.acquire() as connection, connection.transaction():
            await self._apply_on(connection, events, last)
            next_at: datetime = await queries.calendars.finish_pull(
                connection,
                task_id=self._task.id,
                lease=self._task.lease,
                calendar_id=self._task.subject_id,
                lane=self._task.lane,
                changes=self._changes,
                window_start=rolled[0] if rolled else None,
                window_end=rolled[1] if rolled else None,
            )
        return next_at

    @property
    def _client(self) -> Client:
        return self._account.client

    @property
    def _provider_id(self) -> str:
        return str(self._calendar["provider_calendar_id"])

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            spent = (perf_counter() - began) * 1000
            self._steps[step] = self._steps.get(step, 0.0) + spent
