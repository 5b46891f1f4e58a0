"""The brake over window rolls: too much that goes at once waits for a person."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from local_stack.twins.google.personal_calendars import Calendar
from local_stack.twins.google.personal_events import Event
from tests.support.events import ZONE
from tests.support.sync import World, assert_mirrors, synced

SERIES = 12
RELEASE = "select sync.release_held_cancellations($1)"


def in_days(days: int, hour: int = 9) -> datetime:
    day = datetime.now(ZONE).date() + timedelta(days=days)
    return datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)


@pytest.fixture
async def weeklies(still_world: World) -> list[Event]:
    """Series of which each has something in every week, and one that stays."""
    calendar = still_world.account.primary
    calendar.add("Choir", in_days(2, hour=20), recurrence="FREQ=DAILY")
    return [
        calendar.add(f"Patient {n}", in_days(2, hour=7 + n), recurrence="FREQ=WEEKLY")
        for n in range(SERIES)
    ]


def delete(calendar: Calendar, series: Event) -> None:
    calendar.cancel(series)


def delete_following(calendar: Calendar, series: Event) -> None:
    calendar.end_series(series, series.start + timedelta(weeks=2))


async def future(world: World, calendar_id: UUID, *statuses: str) -> int:
    count: int = await world.database.fetchval(
        """
        select count(*) from public.meetings
        where calendar_id = $1 and status = any ($2) and starts_at > sync.clock()
          and title like 'Patient %'
        """,
        calendar_id,
        statuses,
    )
    return count


@pytest.mark.parametrize("vanish", [delete, delete_following])
async def test_a_window_roll_that_would_cancel_too_many_is_held(
    still_world: World,
    weeklies: list[Event],
    vanish: Callable[[Calendar, Event], None],
) -> None:
    world, calendar = still_world, still_world.account.primary
    calendar_id = await synced(world, calendar)
    await world.advance(days=9)
    before = await future(world, calendar_id, "confirmed")
    known = await world.meetings(calendar_id)

    for series in weeklies:
        vanish(calendar, series)
    await world.pull(calendar_id)

    assert await future(world, calendar_id, "confirmed") == before
    assert await future(world, calendar_id, "cancelled") == 0
    assert await world.alerts() == {"deletions_held"}
    # The window rolled all the same, and what stays was read in what is new of it.
    state = await world.state(calendar_id)
    assert state["window_rolls_at"] > world.clock.now()
    assert len(await world.meetings(calendar_id)) >= len(known) + 9

    assert await world.database.fetchval(RELEASE, calendar_id) > SERIES
    assert await world.alerts() == set()
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_window_roll_that_cancels_a_few_is_believed(
    still_world: World, weeklies: list[Event]
) -> None:
    world, calendar = still_world, still_world.account.primary
    calendar_id = await synced(world, calendar)
    await world.advance(days=9)

    for series in weeklies[:10]:
        delete(calendar, series)
    await world.pull(calendar_id)

    assert await world.alerts() == set()
    await assert_mirrors(world.database, calendar_id, calendar)
