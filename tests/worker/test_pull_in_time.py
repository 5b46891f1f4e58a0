"""Promises of a pull in time: what was announced, and how its window rolls."""

from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import pytest

from tests.support.events import ZONE
from tests.support.sync import World, assert_mirrors, synced


def in_days(days: int, hour: int = 9) -> datetime:
    day = datetime.now(UTC).date() + timedelta(days=days)  # windows end with such days
    return datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)


async def test_pulls_tell_announced_changes_from_those_that_were_missed(
    world: World,
) -> None:
    calendar = world.account.primary
    visit = calendar.add("Visit", in_days(3))
    calendar_id = await synced(world, calendar)

    async def counters() -> tuple[int, int]:
        state = await world.state(calendar_id)
        return state["announced"], state["unannounced"]

    assert await counters() == (0, 0)  # of the full round nobody could have told
    calendar.rename(visit, "One")
    await world.pull(calendar_id, lane=1)
    assert await counters() == (1, 0)
    calendar.rename(visit, "Two")
    await world.pull(calendar_id, lane=2)
    assert await counters() == (1, 1)
    calendar.rename(visit, "Three")
    await world.pull(calendar_id, lane=0)
    await world.pull(calendar_id, lane=2)
    assert await counters() == (1, 1)


# The window.


async def test_the_window_rolls_about_weekly_by_one_read_of_what_is_new(
    still_world: World,
) -> None:
    world = still_world
    calendar = world.account.primary
    calendar.add("Choir", in_days(2), recurrence="FREQ=DAILY")
    moved = calendar.add("Band", in_days(3), recurrence="FREQ=WEEKLY")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    await world.advance(days=5)
    world.twin.calls.records.clear()
    await world.pull(calendar_id)
    assert world.twin.calls.count("events.list") == 1  # not yet

    await world.advance(days=4)
    world.twin.calls.records.clear()
    # A series that changes in the same round is read whole, in the new window.
    calendar.retime_series(moved, time(20))
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.list") == 2
    assert world.twin.calls.count("events.instances") == 1
    state = await world.state(calendar_id)
    assert state["window_end"] == (await _wanted(world, calendar_id))[1]
    due_in = state["window_rolls_at"] - world.clock.now()
    assert timedelta(days=5.9) < due_in < timedelta(days=8.1)
    after = await world.meetings(calendar_id)
    assert set(before.values()) <= set(after.values())
    assert len(after) >= len(before) + 9
    await assert_mirrors(world.database, calendar_id, calendar)


async def _wanted(world: World, calendar_id: UUID) -> tuple[datetime, datetime]:
    task = await world.claim("pull", calendar_id)
    row = await world.database.fetchrow(
        "select * from sync.begin_pull($1, $2, $3)", task.id, task.lease, calendar_id
    )
    assert row is not None
    return row["wanted_start"], row["wanted_end"]


async def test_a_full_round_moves_the_window_and_reads_what_is_new_in_it(
    still_world: World,
) -> None:
    world = still_world
    calendar = world.account.primary
    calendar.add("Choir", in_days(-100), recurrence="FREQ=DAILY")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    await world.change(
        calendar_id, window_past=timedelta(days=60), window_future=timedelta(days=200)
    )
    await world.work("pull")

    after = await world.meetings(calendar_id)
    assert len(after) == len(before) + 30 + 20
    assert before.items() <= after.items()
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_worker_that_was_away_for_weeks_misses_nothing(
    still_world: World,
) -> None:
    world = still_world
    calendar = world.account.primary
    choir = calendar.add("Choir", in_days(2), recurrence="FREQ=DAILY")
    calendar.add("Band", in_days(2), recurrence="FREQ=DAILY")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    await world.advance(days=40)
    calendar.retime_series(choir, time(21))
    await world.pull(calendar_id)

    after = await world.meetings(calendar_id)
    assert len(set(before.values()) & set(after.values())) > len(before) - 80
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_series_that_begins_beyond_the_window_comes_with_it(
    still_world: World,
) -> None:
    world = still_world
    calendar = world.account.primary
    calendar.add("Next year", in_days(184), recurrence="FREQ=DAILY;COUNT=5")
    calendar_id = await synced(world, calendar)
    assert await world.meetings(calendar_id) == {}

    await world.advance(days=9)
    await world.pull(calendar_id)

    assert len(await world.meetings(calendar_id)) == 5
    await assert_mirrors(world.database, calendar_id, calendar)


@pytest.mark.parametrize("series_count", [1, 6])
async def test_what_a_new_time_moves_out_of_the_window_keeps_its_meeting(
    still_world: World, series_count: int
) -> None:
    world = still_world
    calendar = world.account.primary
    # The last occurrence in the window is on its last day.
    all_series = [
        calendar.add(f"Choir {n}", in_days(180 - 25 * 7), recurrence="FREQ=WEEKLY")
        for n in range(series_count)
    ]
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    assert len(before) == 26 * series_count

    for series in all_series:
        calendar.retime_series(series, series.start + timedelta(days=3, hours=1))
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.counts.cancelled == 0
    after = await world.meetings(calendar_id)
    assert set(after.values()) == set(before.values())
    await assert_mirrors(world.database, calendar_id, calendar)

    # The window comes to where they are.
    await world.advance(days=9)
    await world.pull(calendar_id)
    assert after.items() <= (await world.meetings(calendar_id)).items()
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_what_lies_beyond_the_window_goes_with_its_series(
    still_world: World,
) -> None:
    world = still_world
    calendar = world.account.primary
    series = calendar.add("Choir", in_days(180 - 25 * 7), recurrence="FREQ=WEEKLY")
    calendar_id = await synced(world, calendar)
    calendar.retime_series(series, series.start + timedelta(days=3))
    await world.pull(calendar_id)

    calendar.end_series(series, in_days(100))
    await world.pull(calendar_id)

    left = await world.database.fetchval(
        "select max(starts_at) from public.meetings where status <> 'cancelled'"
    )
    assert left < in_days(100)
    await assert_mirrors(world.database, calendar_id, calendar)
