"""One round of reading a calendar: pages in, applied events out.

Singles are applied page by page. What belongs to a series waits, and so does what is
gone, until the round is read whole: only then can an occurrence under a new id be told
from one that is gone.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from providers.errors import Gone
from providers.model import Event, Item, Page
from sql import queries
from worker.connections import Account
from worker.doubts import Doubts
from worker.handler import Counts, Outcome, Task, TaskFailed
from worker.pages import Pages, Steps, Window, unpaged
from worker.windows import AHEAD, BEYOND, windows

# Up to so many changed series are expanded one by one; more, by one read of the window.
SERIES_READ_ONE_BY_ONE = 5

COUNTED = ("created", "updated", "cancelled", "unchanged", "set_aside")
CHANGES = ("created", "updated", "cancelled", "detached", "set_aside", "held")


class Round:
    """Reads the changes of one calendar and applies them.

    The cursor is saved in the transaction that applies the last of what it covers. A
    round that breaks off before has done no harm: the next one begins where it began.
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
        self._steps = Steps()
        provider_id = calendar["provider_calendar_id"]
        self._pages = Pages(task, account, provider_id, self._steps)
        self._looks_through_window = account.client.looks_through_window
        self._doubts = Doubts(task, pool, self._pages, self._differing)
        self._kept: list[Event] = []  # for the last call
        self._in_parts = False  # some expansion had more than one page
        self._cursor: str | None = None
        self._counts = Counts()
        self._changes = 0
        self._window, self._strips = windows(calendar, full=full)
        self._asked_until: datetime | None = None
        if full and self._looks_through_window:
            # Every series it meets is expanded again, in the new window.
            self._strips = []
            self._asked_until = self._window[1] + AHEAD

    async def read_upcoming(self, now: datetime, span: timedelta) -> None:
        """Show the next weeks at once; what this read does not meet means nothing."""
        await self._read_along((now, now + span), set())
        await self._apply([], {"upsert_only": True, "backfill": "upcoming"})

    async def read_changes(self, cursor: str | None) -> None:
        """Read every page since the cursor; None reads the calendar anew."""
        since = self._window[0] if cursor is None else None
        async for page in self._pages.changes(cursor, since, self._asked_until):
            self._doubts.note(page)
            events = await self._differing(page.items)
            self._cursor = page.cursor
            if page.next_page_token is None:
                self._kept += events
            else:
                await self._apply([one for one in events if _stands_alone(one)])
                self._kept += [unpaged(one) for one in events if not _stands_alone(one)]

    async def finish(self) -> Outcome:
        """Expand the series that changed, apply what was kept, and save the cursor."""
        if self._full:
            await self._settle_absent()
        await self._doubts.settle_vanished()
        changed = dict.fromkeys(
            event.provider_event_id
            for event in [*self._kept, *self._doubts.events]
            if event.role == "series" and event.status != "cancelled"
        )
        series, expansions = await self._expand([*(changed | self._doubts.touched)])
        await self._settle_members(series, [*expansions, *self._kept])
        for strip in self._strips:
            await self._read_along(strip, set(series))
        events = [*expansions, *self._kept, *self._doubts.events]
        next_at = await self._finish(events, series)
        return Outcome(
            next_at=next_at,
            counts=self._counts,
            api_calls=self._account.api_calls,
            steps=self._steps.spent,
            idle=not self._full and self._changes == 0,
        )

    # What is read besides the list of changes.

    async def _settle_absent(self) -> None:
        """Ask for known events whose absence from a full round proves nothing."""
        since, until = self._window[0], self._asked_until
        if until is not None:
            await self._doubts.settle_absent(since, until)
            return
        answer = queries.calendars.doubtful_events(
            self._pool, calendar_id=self._task.subject_id, asked_from=since
        )
        for event_id in [row["event_id"] async for row in answer]:
            try:
                item = await self._pages.get(event_id)
            except Gone:
                self._kept.append(Event.vanished(event_id))
                continue
            self._kept += await self._differing([item])

    async def _settle_members(self, series: list[str], told: list[Event]) -> None:
        """Ask for what the expansions of some series lack and may have elsewhere."""
        since = self._window[0]
        if self._looks_through_window:
            # What has become a single event has no exceptions.
            of = [*series, *self._doubts.single]
            await self._doubts.settle_exceptions(of, told, since)
            await self._doubts.settle_occurrences(
                series, told, self._beyond, in_parts=self._in_parts
            )
        elif not self._full:  # it has asked for them
            await self._doubts.settle_exceptions(series, told, since)

    async def _expand(self, changed: list[str]) -> tuple[list[str], list[Event]]:
        """Read what series have in the window; which were read whole, and the events.

        One that goes while we read is left to the next round, which is told of it.
        """
        if len(changed) > SERIES_READ_ONE_BY_ONE:
            return changed, await self._members(set(changed))
        whole: list[str] = []
        events: list[Event] = []
        for series in changed:
            try:
                events += await self._instances(series)
            except Gone:
                if self._looks_through_window:
                    self._doubts.lose(series)
                continue
            whole.append(series)
        return whole, events

    async def _instances(self, series: str) -> list[Event]:
        return await self._expanded(self._pages.instances(series, self._beyond))

    async def _members(self, series: set[str]) -> list[Event]:
        return await self._expanded(self._pages.window(self._beyond), series)

    async def _expanded(
        self, pages: AsyncIterator[Page], series: set[str] | None = None
    ) -> list[Event]:
        events: list[Event] = []
        async for page in pages:
            self._in_parts |= page.next_page_token is not None
            read = self._pages.understand(page.items, expanded=True)
            events += [
                unpaged(event)
                for event in read
                if series is None or event.series_provider_id in series
            ]
        return events

    async def _read_along(self, window: Window, series: set[str]) -> None:
        """Add what a window shows, but for series that the last call applies whole."""
        async for page in self._pages.window(window):
            events = await self._differing(page.items, expanded=True)
            others = [one for one in events if one.series_provider_id not in series]
            await self._apply(others, {"upsert_only": True})

    # What is told to the database.

    async def _differing(
        self, items: Sequence[Item], *, expanded: bool = False
    ) -> list[Event]:
        """Understand those items that differ from what is mirrored."""
        if not items:
            return []
        with self._steps.timed("compare"):
            places = await self._compare(items, expanded=expanded)
        self._counts += Counts(unchanged=len(items) - len(places))
        differing = [items[place - 1] for place in places]
        return self._pages.understand(differing, expanded=expanded)

    async def _compare(self, items: Sequence[Item], *, expanded: bool) -> list[int]:
        facts = {
            "calendar_id": self._task.subject_id,
            "ids": [item.provider_event_id for item in items],
            "content_hashes": [item.content_hash for item in items],
        }
        places: list[int]
        if self._full and not expanded:
            places = await queries.calendars.meet_events(
                self._pool, **self._task.fence, **facts
            )
        else:
            places = await queries.calendars.compare_hashes(
                self._pool, unexpanded=not expanded, **facts
            )
        return places

    async def _apply(
        self, events: list[Event], round_: dict[str, Any] | None = None
    ) -> None:
        """Apply a page while the round goes on."""
        round_ = round_ or {}
        if events or "backfill" in round_:
            async with self._pool.acquire() as connection:
                await self._apply_on(connection, events, round_)

    async def _apply_on(
        self, connection: Any, events: list[Event], round_: dict[str, Any]
    ) -> None:
        start, end = self._window
        round_ |= {"window_start": start, "window_end": end}
        with self._steps.timed("apply"):
            applied = await queries.calendars.apply_events(
                connection,
                **self._task.fence,
                calendar_id=self._task.subject_id,
                events=msgspec.json.encode(events).decode(),
                round=msgspec.json.encode(round_).decode(),
            )
        self._counts += Counts(**{name: applied[name] for name in COUNTED})
        self._changes += sum(applied[name] for name in CHANGES)

    async def _finish(self, events: list[Event], series: list[str]) -> datetime | None:
        """Apply the last, and end the round, in one transaction."""
        async with self._pool.acquire() as connection, connection.transaction():
            if self._full:
                await self._check_round(connection)
            only_cursor = not (events or series or self._pages.malformed or self._full)
            if not only_cursor:
                await self._apply_on(connection, events, self._last_call(series))
            next_at: datetime | None = await queries.calendars.finish_pull(
                connection,
                **self._task.fence,
                calendar_id=self._task.subject_id,
                lane=self._task.lane,
                changes=self._changes,
                window_start=self._window[0] if self._rolled else None,
                window_end=self._window[1] if self._rolled else None,
                cursor=self._cursor if only_cursor else None,
                asked_until=self._asked_until,
                saw_nothing=not self._full and self._doubts.saw_nothing,
            )
        return next_at

    async def _check_round(self, connection: Any) -> None:
        if not await queries.calendars.is_round_whole(
            connection, calendar_id=self._task.subject_id
        ):
            raise TaskFailed("the database restarted in mid-round: it begins anew")

    def _last_call(self, series: list[str]) -> dict[str, Any]:
        last: dict[str, Any] = {
            "series": series,
            "read_until": self._beyond[1],
            "malformed": self._pages.malformed,
            "cursor": self._cursor,
            "cursor_parameters": self._pages.cursor_parameters,
        }
        if self._full:
            last |= {"full_round": True, "backfill": "complete"}
            if not self._looks_through_window:
                # Absence counts. Through a window, what was not met was read by id.
                last |= {"asked_from": self._window[0]}
        return last

    @property
    def _beyond(self) -> Window:
        start, end = self._window
        return start, end + BEYOND

    @property
    def _rolled(self) -> bool:
        return self._full or bool(self._strips)


def _stands_alone(event: Event) -> bool:
    """Whether it may be applied before the round is read whole.

    A deletion may not: it may be a move, and the brake counts those of a whole round.
    """
    return event.role == "single" and event.status != "cancelled"
