"""What every client of a calendar provider promises, whoever the provider is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from local_stack.twins.app import TwinApp
from providers import errors
from providers.model import Event, Item, Page
from providers.protocols import Client
from tests.conformance.hands import Hand
from tests.support.eventually import eventually

BERLIN = ZoneInfo("Europe/Berlin")
DAY = timedelta(days=1)


@dataclass
class At:
    """A calendar of its own at a provider: a client, and somebody who writes to it."""

    client: Client
    hand: Hand
    client_with: Callable[[str], Client]
    # A delta may not show yet what was written: how long, and how often, to ask.
    patience_s: float = 5
    pause_s: float = 0.05
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def start(self) -> datetime:
        """Nine o'clock, a week from now."""
        at = self.now.astimezone(BERLIN) + 7 * DAY
        return at.replace(hour=9, minute=0, second=0, microsecond=0)

    @property
    def window(self) -> tuple[datetime, datetime]:
        return self.now - DAY, self.now + 60 * DAY

    async def told(
        self, until: Callable[["Told"], bool], *, since: "Told | None" = None
    ) -> "Told":
        """Read on until it is told, from the start or since an earlier round."""
        told = Told(self.client, cursor=since.cursor if since else "")

        async def is_told() -> bool:
            await self.read_round(told)
            return until(told)

        await eventually(is_told, within_s=self.patience_s, every_s=self.pause_s)
        return told

    async def settled(self, *made: str) -> "Told":
        """Read on until nothing that was written before will be told again."""
        told = await self.told(lambda told: set(made) <= told.items.keys())
        last = await self.hand.add("The last of them", self.start + 30 * DAY)
        return await self.told(lambda told: last in told.items, since=told)

    async def read_round(self, told: "Told") -> None:
        """Read a round to its end, and remember what it said."""
        start, end = self.window
        cursor, token = told.cursor or None, None
        while True:
            page = await self.client.list_changes(
                self.hand.calendar_id,
                cursor=cursor,
                since=start,
                until=end,
                page_token=token,
            )
            told.add(page)
            token = page.next_page_token
            if token is None:
                assert page.cursor is not None
                told.cursor = page.cursor
                return

    async def shown(self) -> list[Event]:
        """Read the window, series expanded."""
        start, end = self.window
        items: list[Item] = []
        token: str | None = None
        while True:
            page = await self.client.list_window(
                self.hand.calendar_id, start=start, end=end, page_token=token
            )
            items += page.items
            token = page.next_page_token
            if token is None:
                return understood(self.client, items)

    async def instances(self, series: str) -> list[Event]:
        start, end = self.window
        items: list[Item] = []
        token: str | None = None
        while True:
            page = await self.client.instances(
                self.hand.calendar_id, series, start=start, end=end, page_token=token
            )
            items += page.items
            token = page.next_page_token
            if token is None:
                return understood(self.client, items)


@dataclass
class AtTwin(At):
    """The same at a twin, which can be troubled."""

    twin: TwinApp[Any] = field(kw_only=True)
    lose_cursors: Callable[[], None] = field(kw_only=True)


@dataclass
class Told:
    """What a round of changes said."""

    client: Client
    items: dict[str, Item] = field(default_factory=dict)
    vanished: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    cursor: str = ""

    def add(self, page: Page) -> None:
        self.items |= {item.provider_event_id: item for item in page.items}
        self.vanished |= set(page.vanished)
        self.touched |= set(page.touched_series)

    @property
    def events(self) -> dict[str, Event]:
        read = [
            self.client.read_event(item, expanded=False) for item in self.items.values()
        ]
        return {one.provider_event_id: one for one in read if isinstance(one, Event)}

    @property
    def named(self) -> set[str | None]:
        """Series that something happened to."""
        of_events = {one.series_provider_id for one in self.events.values()}
        return self.touched | self.items.keys() | of_events

    @property
    def gone(self) -> set[str]:
        cancelled = {k for k, one in self.events.items() if one.status == "cancelled"}
        return cancelled | self.vanished


def understood(client: Client, items: list[Item]) -> list[Event]:
    """Read expanded items, every one of which can be."""
    read = [client.read_event(item, expanded=True) for item in items]
    events = [one for one in read if isinstance(one, Event)]
    assert len(events) == len(read)
    return events


class CalendarClientPromises:
    """Subclass it, and have a fixture `at`."""

    async def test_a_full_read_tells_what_is_there_and_ends_with_a_cursor(
        self, at: At
    ) -> None:
        made = await at.hand.add("Check-up", at.start)

        told = await at.told(lambda told: made in told.items)

        event = told.events[made]
        assert event.title == "Check-up"
        assert event.role == "single"
        assert event.status == "confirmed"
        assert event.starts_at == at.start
        assert event.ends_at == at.start + timedelta(hours=1)
        assert event.ical_uid
        assert not event.all_day

    async def test_a_cursor_tells_what_changed_since_and_nothing_else(
        self, at: At
    ) -> None:
        left_alone = await at.hand.add("Left alone", at.start)
        renamed = await at.hand.add("Before", at.start + DAY)
        before = await at.settled(left_alone, renamed)
        await at.hand.rename(renamed, "After")
        added = await at.hand.add("Added", at.start + 2 * DAY)

        told = await at.told(
            lambda told: {renamed, added} <= told.items.keys(), since=before
        )

        assert told.events[renamed].title == "After"
        assert told.events[added].title == "Added"
        assert left_alone not in told.items

    async def test_a_cursor_after_which_nothing_changed_tells_nothing(
        self, at: At
    ) -> None:
        made = await at.hand.add("Check-up", at.start)
        before = await at.settled(made)

        told = Told(at.client, cursor=before.cursor)
        await at.read_round(told)
        assert not told.items
        assert not told.vanished

    async def test_what_is_deleted_is_told_as_gone(self, at: At) -> None:
        made = await at.hand.add("Check-up", at.start)
        before = await at.told(lambda told: made in told.items)
        await at.hand.delete(made)

        await at.told(lambda told: made in told.gone, since=before)

    async def test_equal_hashes_mean_equal_content(self, at: At) -> None:
        made = await at.hand.add("Check-up", at.start)
        first = await at.told(lambda told: made in told.items)
        again = await at.told(lambda told: made in told.items)
        hashed = first.items[made].content_hash
        await at.hand.move(made, at.start + timedelta(hours=2))

        assert again.items[made].content_hash == hashed
        await at.told(
            lambda told: made in told.items and told.items[made].content_hash != hashed
        )

    async def test_a_whole_day_is_a_date_and_ends_with_the_day_after(
        self, at: At
    ) -> None:
        day = at.start.date()
        made = await at.hand.add_day("Holiday", day)

        event = (await at.told(lambda told: made in told.items)).events[made]

        assert event.all_day
        assert (event.start_date, event.end_date) == (day, day + DAY)
        assert event.starts_at is event.ends_at is None

    async def test_a_window_shows_series_expanded_and_the_soonest_first(
        self, at: At
    ) -> None:
        single = await at.hand.add("Single", at.start + DAY)
        series = await at.hand.add("Weekly", at.start, weeks=3)

        shown = await at.shown()

        starts = [event.starts_at for event in shown]
        assert starts == [at.start, at.start + DAY, *weekly(at.start)[1:]]
        assert shown[1].provider_event_id == single
        members = [one for one in shown if one.series_provider_id == series]
        assert len(members) == 3
        assert {one.role for one in members} <= {"occurrence", "exception"}
        assert {one.title for one in members} == {"Weekly"}

    async def test_a_series_that_changed_is_named(self, at: At) -> None:
        series = await at.hand.add("Weekly", at.start, weeks=3)
        before = await at.told(lambda told: series in told.items)
        second = (await at.instances(series))[1]
        await at.hand.move(
            second.provider_event_id, weekly(at.start)[1] + timedelta(hours=3)
        )

        await at.told(lambda told: series in told.named, since=before)

    async def test_occurrences_know_where_their_series_put_them(self, at: At) -> None:
        series = await at.hand.add("Weekly", at.start, weeks=3)
        moved_to = weekly(at.start)[1] + timedelta(hours=3)
        second = (await at.instances(series))[1]
        await at.hand.move(second.provider_event_id, moved_to)

        found = sorted(
            await at.instances(series), key=lambda one: str(one.original_start)
        )

        assert [one.original_start for one in found] == weekly(at.start)
        assert [one.starts_at for one in found] == [
            at.start,
            moved_to,
            weekly(at.start)[2],
        ]

    async def test_a_deleted_occurrence_is_among_them_no_more(self, at: At) -> None:
        series = await at.hand.add("Weekly", at.start, weeks=3)
        second = (await at.instances(series))[1]
        await at.hand.delete(second.provider_event_id)

        found = await at.instances(series)

        alive = [one.original_start for one in found if one.status != "cancelled"]
        assert alive == [at.start, weekly(at.start)[2]]

    async def test_one_event_is_read_by_its_id(self, at: At) -> None:
        made = await at.hand.add("Check-up", at.start)

        item = await at.client.get(at.hand.calendar_id, made)

        event = at.client.read_event(item, expanded=False)
        assert isinstance(event, Event)
        assert (event.provider_event_id, event.title) == (made, "Check-up")

    async def test_what_is_not_there_is_gone(self, at: At) -> None:
        made = await at.hand.add("Check-up", at.start)
        await at.hand.delete(made)

        try:
            item = await at.client.get(at.hand.calendar_id, made)
        except errors.Gone:
            return
        # Google keeps what was deleted for a while, and says so.
        event = at.client.read_event(item, expanded=False)
        assert isinstance(event, Event)
        assert event.status == "cancelled"

    async def test_a_calendar_that_is_not_there_is_gone(self, at: At) -> None:
        with pytest.raises(errors.Gone):
            await at.client.get("no-such-calendar", "no-such-event")

    async def test_a_token_that_is_not_taken_asks_for_a_refresh(self, at: At) -> None:
        stranger = at.client_with("not-a-token")

        with pytest.raises(errors.AccessExpired) as refused:
            await stranger.calendars()

        assert refused.value.status == 401
        assert "not-a-token" not in str(refused.value)

    async def test_the_list_of_calendars_has_this_one(self, at: At) -> None:
        entries = await at.client.calendars()

        assert at.hand.calendar_id in {one.provider_calendar_id for one in entries}
        assert sum(one.primary for one in entries) == 1


def weekly(start: datetime) -> list[datetime]:
    """The three starts of the series above, on the wall clock of its zone."""
    return [start + timedelta(weeks=n) for n in range(3)]
