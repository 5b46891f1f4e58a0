"""Whoever follows Outlook's deltas as we do ends with what its expansion shows.

What is done here in a dictionary the worker does in tables: apply what comes, expand
again the series that came or are named, and read by id what is no longer in sight.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st

from local_stack.twins.microsoft import Behaviour, Calendar, Event, MicrosoftTwin
from local_stack.twins.microsoft.errors import ApiError
from providers.errors import CursorExpired, Gone
from providers.microsoft.client import MicrosoftClient
from providers.model import Event as Ours
from providers.model import Item
from runtime.clock import ManualClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
START, END = NOW, NOW + timedelta(days=21)
RULES = (None, "FREQ=DAILY;COUNT=6", "FREQ=WEEKLY;COUNT=4", "FREQ=DAILY;INTERVAL=2")


class Follower:
    """Reads once in full, and then only what changed."""

    def __init__(self, client: MicrosoftClient, calendar_id: str) -> None:
        self._client = client
        self._calendar_id = calendar_id
        self._cursor: str | None = None
        self.mirror: dict[str, Ours] = {}

    async def follow(self) -> None:
        try:
            await self._read()
        except CursorExpired:
            self._cursor = None
            self.mirror.clear()
            await self._read()

    async def _read(self) -> None:
        token: str | None = None
        series: set[str] = set()
        while True:
            page = await self._client.list_changes(
                self._calendar_id,
                cursor=self._cursor,
                since=START,
                until=END,
                page_token=token,
            )
            series |= self._apply(page.items) | set(page.touched_series)
            for event_id in set(page.vanished) & set(self.mirror):
                series |= await self._look_for(event_id)
            token = page.next_page_token
            if token is None:
                break
        for series_id in series:
            await self._expand(series_id)
        self._cursor = page.cursor

    def _apply(self, items: list[Item]) -> set[str]:
        """Take over what came; answers the series among it."""
        events = [self._client.read_event(item, expanded=False) for item in items]
        ours = [event for event in events if isinstance(event, Ours)]
        assert len(ours) == len(items)
        self.mirror |= {event.provider_event_id: event for event in ours}
        return {e.provider_event_id for e in ours if e.role == "series"}

    async def _look_for(self, event_id: str) -> set[str]:
        try:
            return self._apply([await self._client.get(self._calendar_id, event_id)])
        except Gone:
            self._forget(event_id)
            return set()

    def _forget(self, event_id: str) -> None:
        self.mirror = {
            known: event
            for known, event in self.mirror.items()
            if event_id not in {known, event.series_provider_id}
        }

    async def _expand(self, series_id: str) -> None:
        """Replace a series' members by what the provider itself makes of it."""
        found: list[Item] = []
        token: str | None = None
        try:
            while True:
                page = await self._client.instances(
                    self._calendar_id,
                    series_id,
                    start=START,
                    end=END,
                    page_token=token,
                )
                found += page.items
                token = page.next_page_token
                if token is None:
                    break
        except Gone:
            self._forget(series_id)
            return
        self.mirror = {
            known: event
            for known, event in self.mirror.items()
            if event.series_provider_id != series_id
        }
        self._apply(found)

    def seen(self) -> set[tuple[str, object, str | None]]:
        """Return what the mirror shows in the window: id, start and title."""
        return {
            (event.provider_event_id, _start(event), event.title)
            for event in self.mirror.values()
            if event.role != "series" and _is_inside(event)
        }


def _start(event: Ours) -> object:
    return event.start_date if event.all_day else event.starts_at


def _is_inside(event: Ours) -> bool:
    if event.start_date is not None and event.end_date is not None:
        day = datetime.min.time()
        begins = datetime.combine(event.start_date, day, BERLIN)
        ends = datetime.combine(event.end_date, day, BERLIN)
    else:
        assert event.starts_at is not None
        assert event.ends_at is not None
        begins, ends = event.starts_at, event.ends_at
    return begins < END and ends > START


def _truth(calendar: Calendar) -> set[tuple[str, object, str | None]]:
    return {
        (
            one.id,
            one.start.astimezone(UTC) if isinstance(one.start, datetime) else one.start,
            one.title,
        )
        for one in calendar.events(START, END)
    }


def _pick(calendar: Calendar, number: int, *, series: bool) -> Event | None:
    events = [
        Event(calendar, record.ids.immutable)
        for record in calendar.state.records.values()
        if not record.gone
        and record.master is None
        and (record.series is not None) == series
    ]
    return events[number % len(events)] if events else None


def _occurrence(calendar: Calendar, number: int) -> Event | None:
    series = _pick(calendar, number, series=True)
    found = calendar.occurrences(series) if series else []
    return found[number % len(found)] if found else None


def _at(day: int, hour: int) -> datetime:
    return datetime(2026, 11, 23, hour, tzinfo=BERLIN) + timedelta(days=day)


def add(calendar: Calendar, number: int, hour: int) -> None:
    start: datetime | date = _at(number % 30 - 4, hour)
    if number % 5 == 0:
        start = start.date()
    calendar.add(f"Nr. {number}", start, recurrence=RULES[number % len(RULES)])


def move_single(calendar: Calendar, number: int, hour: int) -> None:
    event = _pick(calendar, number, series=False)
    if event is not None:
        calendar.move(event, _at(number, hour))  # now and then out of the window


def change_series(calendar: Calendar, number: int, hour: int) -> None:
    series = _pick(calendar, number, series=True)
    if series is None:
        return
    if number % 3 == 0:
        calendar.rename(series, f"Reihe {number}")
    elif isinstance(series.start, datetime):
        calendar.retime_series(series, _at(number, hour))


def change_occurrence(calendar: Calendar, number: int, hour: int) -> None:
    occurrence = _occurrence(calendar, number)
    if occurrence is None:
        return
    if number % 3 == 0:
        calendar.cancel(occurrence)
    elif number % 3 == 1:
        calendar.rename(occurrence, f"Anders {number}")
    else:
        calendar.move(occurrence, occurrence.start + timedelta(days=hour // 8))


def follow_on(calendar: Calendar, number: int, hour: int) -> None:
    occurrence = _occurrence(calendar, number)
    series = _pick(calendar, number, series=True)
    if occurrence is not None and series is not None:
        calendar.trim_and_follow(series, occurrence.original_start)


def cancel(calendar: Calendar, number: int, hour: int) -> None:
    event = _pick(calendar, number, series=bool(number % 2))
    if event is not None:
        calendar.cancel(event)


def lose_state(calendar: Calendar, number: int, hour: int) -> None:
    if number % 4 == 0:
        calendar.expire_delta_tokens()


def hand_over(calendar: Calendar, number: int, hour: int) -> None:
    event = _pick(calendar, number, series=bool(number % 2))
    if event is not None:
        state = calendar.store.accounts["mira@example.org"]
        other = Calendar(calendar.writer, state.listed[1])
        calendar.hand_over(event, other)


ACTIONS: tuple[Callable[[Calendar, int, int], None], ...] = (
    add,
    add,
    add,
    move_single,
    change_series,
    change_occurrence,
    change_occurrence,
    follow_on,
    cancel,
    lose_state,
    hand_over,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 40),
        st.integers(0, 23),
        st.booleans(),
    ),
    max_size=25,
)
BEHAVIOURS = st.builds(
    Behaviour,
    occurrence_tombstones=st.booleans(),
    exceptions_on_retime=st.sampled_from(["keep", "reset"]),
    empty_pages=st.booleans(),
    repeat_items=st.booleans(),
    delta_page_size=st.sampled_from([1, 5, 50]),
    lost_state=st.sampled_from(["410", "400"]),
)


async def _run(behaviour: Behaviour, steps: list[Any]) -> None:
    twin = MicrosoftTwin(ManualClock(NOW), behaviour)
    mira = twin.account("mira@example.org")
    mira.add_calendar("Other")
    calendar, grant = mira.primary, mira.sign_in()

    async def access_token() -> str:
        return grant.access_token

    async with (
        twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        client = MicrosoftClient(
            http, "https://twin.test/v1.0", access_token, clock=twin.clock
        )
        follower = Follower(client, calendar.id)
        for action, number, hour, looks in steps:
            try:
                action(calendar, number, hour)
            except ApiError as refused:
                # An occurrence may not cross its neighbour, for example.
                assert refused.status == 400  # noqa: PT017
            if looks:
                await follower.follow()
        await follower.follow()
        assert follower.seen() == _truth(calendar)


@settings(max_examples=60, deadline=None)
@given(BEHAVIOURS, STEPS)
def test_deltas_and_expansions_lead_to_what_outlook_shows(
    behaviour: Behaviour, steps: list[Any]
) -> None:
    asyncio.run(_run(behaviour, steps))
