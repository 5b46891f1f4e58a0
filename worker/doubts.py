"""What a round is in doubt about: known events that are no longer in sight.

A provider that looks at a calendar through a window shows what leaves the window as it
shows what is deleted, and of a series' deleted occurrences it may say nothing at all.
So events are read by id, and series expanded again.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

import asyncpg

from providers.errors import Gone
from providers.model import Event, Item, Page
from sql import queries
from worker.handler import Task
from worker.pages import Pages, Window

# Absence from a full round counts, and so does an exception's from its changed series.
# That it may be a move beyond the window is found out for so many; where more are
# missing at once, few were moved.
READ_BY_ID = 200
# Pages are counted off: when something before a page goes meanwhile, as much slips
# through between two pages. Where a series lacks more, it was re-timed.
SLIPPED = 3


class Doubts:
    """Notes what pages leave open, and finds it out.

    What comes of it: `events`, in `touched` the series to be expanded again, and in
    `single` what is none, or none any more.
    """

    def __init__(
        self,
        task: Task,
        pool: asyncpg.Pool,
        pages: Pages,
        differing: Callable[[Sequence[Item]], Awaitable[list[Event]]],
    ) -> None:
        self._calendar_id = task.subject_id
        self._pool = pool
        self._pages = pages
        self._differing = differing
        self._met: set[str] = set()
        self._vanished: dict[str, None] = {}
        self._gone: set[str] = set()
        self._occurrences: list[str] = []  # that vanished
        self.single: set[str] = set()  # no series, whatever they were
        self.touched: dict[str, None] = {}
        self.events: list[Event] = []

    @property
    def saw_nothing(self) -> bool:
        """Whether the pages were empty."""
        return not (self._met or self._vanished or self.touched)

    def note(self, page: Page) -> None:
        """Note what a page shows, names, and says is gone."""
        self._met.update(item.provider_event_id for item in page.items)
        self._vanished |= dict.fromkeys(page.vanished)
        self.touched |= dict.fromkeys(page.touched_series)
        self.single |= self._met - self.touched.keys()

    def lose(self, event_id: str) -> None:
        """Take down that an event, or a series with all that it has, is gone."""
        self._gone.add(event_id)
        self.touched.pop(event_id, None)
        self.events.append(Event.vanished(event_id))

    async def settle_absent(self, since: datetime, until: datetime) -> None:
        """Find out about known events that a full round through a window missed."""
        answer = queries.calendars.unmet_events(
            self._pool, calendar_id=self._calendar_id, since=since, until=until
        )
        for place, row in enumerate([row async for row in answer]):
            if place >= READ_BY_ID:
                self.lose(row["event_id"])
            else:
                await self._find(row["event_id"], row["role"])

    async def settle_vanished(self) -> None:
        """Find out about what pages said is gone, and about masters not yet known."""
        asked = [*self._vanished, *(self.touched.keys() - self._met)]
        if not asked:
            return
        answer = queries.calendars.known_events(
            self._pool, calendar_id=self._calendar_id, ids=asked
        )
        known = {row["event_id"]: row async for row in answer}
        vanished = [known[one] for one in self._vanished if one in known]
        for row in sorted(vanished, key=lambda row: row["role"] != "series"):
            await self._settle(row)
        for series in [*self.touched]:
            if series not in known and series not in self._met:
                await self._find(series, "series")

    async def settle_exceptions(
        self, series: Sequence[str], told: Iterable[Event], since: datetime
    ) -> None:
        """Find out about exceptions that an expansion of some series lacks.

        They may be out of the window.
        """
        if not series:
            return
        answer = queries.calendars.known_exceptions(
            self._pool, calendar_id=self._calendar_id, series=series, since=since
        )
        known = [row["event_id"] async for row in answer]
        seen = self._seen(told)
        for place, event_id in enumerate(one for one in known if one not in seen):
            if place >= READ_BY_ID:
                self.lose(event_id)
            else:
                await self._find(event_id, "exception")

    async def settle_occurrences(
        self,
        series: Sequence[str],
        told: Iterable[Event],
        window: Window,
        *,
        in_parts: bool,
    ) -> None:
        """Find out about occurrences that an expansion of some series lacks.

        One of which it was said that it vanished may have become an exception out of
        the window. The others that are gone left with the expansion: somebody may
        inherit from them.
        """
        seen = self._seen(told)
        for event_id in [one for one in self._occurrences if one not in seen]:
            await self._find(event_id, "occurrence")
        if not (in_parts and series):
            return
        answer = queries.calendars.known_occurrences(
            self._pool,
            calendar_id=self._calendar_id,
            series=series,
            since=window[0],
            until=window[1],
        )
        await self._reread([row async for row in answer if row["event_id"] not in seen])

    def _seen(self, told: Iterable[Event]) -> set[str]:
        events = [*told, *self.events]
        met = self._met - self._vanished.keys()
        return met | {event.provider_event_id for event in events}

    async def _reread(self, lacking: list[asyncpg.Record]) -> None:
        """Look whether occurrences are gone, or slipped through between two pages."""
        of_series = Counter(row["series_id"] for row in lacking)
        for row in lacking:
            if of_series[row["series_id"]] <= SLIPPED:
                with suppress(Gone):
                    item = await self._pages.get(row["event_id"])
                    # It is told, changed or not: or it would count as gone.
                    self.events += self._pages.understand([item], expanded=True)

    async def _settle(self, row: asyncpg.Record) -> None:
        series = row["series_id"]
        if series in self._gone or series in self.single:
            return  # what was its, goes with it
        if row["role"] == "occurrence":
            self._occurrences.append(row["event_id"])
        else:
            await self._find(row["event_id"], row["role"])
        if series is not None:
            self.touched[series] = None

    async def _find(self, event_id: str, role: str) -> None:
        """Read an event by its id; a series is expanded again."""
        try:
            item = await self._pages.get(event_id)
        except Gone:
            if role != "occurrence":
                self.lose(event_id)
            return
        differing = await self._differing([item])
        self.events += differing
        if (differing[0].role if differing else role) == "series":
            self.touched[event_id] = None
        else:
            self.single.add(event_id)
            self.touched.pop(event_id, None)
