"""Promises of a pull from Outlook: what changes there is what changes in the tables."""

from collections.abc import AsyncIterator
from datetime import date, time, timedelta

import pytest

from local_stack.twins.microsoft import Behaviour
from tests.support.events import coming
from tests.support.outlook import OutlookWorld, assert_mirrors, make_outlook, synced
from tests.support.sessions import Connection

SERIES_TOO_MANY = 6  # one read of the window is cheaper than one a series
INSTANCES_A_PAGE = 10


@pytest.fixture
async def world(database: Connection, database_url: str) -> AsyncIterator[OutlookWorld]:
    async with make_outlook(database, database_url) as made:
        yield made


async def status_of(world: OutlookWorld, meeting_id: object) -> str:
    status: str = await world.database.fetchval(
        "select status from public.meetings where id = $1", meeting_id
    )
    return status


# The first sync.


async def test_the_first_pull_reads_everything_in_the_window(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    calendar.add("Cut and blow-dry", coming())
    calendar.add("Holiday", coming().date())
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar_id = await world.switch_on(calendar)

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.calendar(calendar_id))["backfill"] == "complete"
    assert ended.outcome.counts.created == len(await world.meetings(calendar_id)) > 20
    again = await world.pull(calendar_id)
    assert again.outcome is not None
    assert again.outcome.idle


async def test_the_next_weeks_are_there_before_the_rest_is_read(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    soon = calendar.add("Soon", coming(2))
    calendar.add("Later", coming(8))
    calendar_id = await world.switch_on(calendar)
    world.twin.switchboard.answer("events.delta", 503)

    ended = await world.pull(calendar_id)

    assert ended.error is not None
    assert list(await world.meetings(calendar_id)) == [soon.id]
    assert (await world.calendar(calendar_id))["backfill"] == "upcoming"
    first = await world.meetings(calendar_id)
    await world.pull(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.meetings(calendar_id))[soon.id] == first[soon.id]


@pytest.mark.parametrize("series", [False, True])
async def test_what_vanishes_between_the_first_two_reads_is_gone(
    world: OutlookWorld, series: bool
) -> None:
    calendar = world.account.primary
    rule = "FREQ=WEEKLY" if series else None
    event = calendar.add("Choir", coming(), recurrence=rule)
    calendar_id = await world.switch_on(calendar)
    world.twin.switchboard.answer("events.delta", 503)
    await world.pull(calendar_id)
    assert await world.meetings(calendar_id)

    calendar.cancel(event)
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == {}
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_whole_days_are_dates_wherever_they_were_made(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    in_tokyo = world.account.add_calendar("Tokyo", time_zone="Asia/Tokyo")
    day: date = coming().date()
    calendar.add("Holiday", day, day + timedelta(days=2))
    in_tokyo.add("Holiday", day, day + timedelta(days=2))

    connection_id = await world.connect()
    for one in (calendar, in_tokyo):
        calendar_id = await synced(world, one, connection_id=connection_id)
        await assert_mirrors(world.database, calendar_id, one)

    days = await world.database.fetch(
        "select start_date, end_date from public.calendar_events"
    )
    assert [(row[0], row[1]) for row in days] == [(day, day + timedelta(days=2))] * 2


# Pages.


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(delta_page_size=1, empty_pages=True),
        Behaviour(delta_page_size=3, repeat_items=True),
        Behaviour(occurrence_tombstones=True),
    ],
    ids=["empty pages", "items repeated", "occurrences' tombstones"],
)
async def test_every_page_is_followed(
    database: Connection, database_url: str, behaviour: Behaviour
) -> None:
    async with make_outlook(database, database_url, behaviour=behaviour) as world:
        calendar = world.account.primary
        events = [calendar.add(f"Visit {n}", coming(hour=8 + n)) for n in range(9)]
        series = calendar.add("Choir", coming(), recurrence="FREQ=DAILY;COUNT=9")
        calendar_id = await synced(world, calendar)
        await assert_mirrors(database, calendar_id, calendar)

        calendar.cancel(events[0])
        calendar.move(events[1], coming(3))
        calendar.retime_series(series, time(17))
        await world.pull(calendar_id)

        await assert_mirrors(database, calendar_id, calendar)


async def test_all_instances_are_read_though_graph_gives_ten_a_page(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    count = 3 * INSTANCES_A_PAGE + 1
    calendar.add("Choir", coming(), recurrence=f"FREQ=DAILY;COUNT={count}")

    calendar_id = await synced(world, calendar)

    assert len(await world.meetings(calendar_id)) == count
    assert world.twin.calls.count("events.instances") == 4


# What is no longer in sight.


async def test_a_deleted_event_is_read_by_id_and_its_meeting_cancelled(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    event = calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    [meeting_id] = (await world.meetings(calendar_id)).values()

    calendar.cancel(event)
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.get") == 1
    assert await status_of(world, meeting_id) == "cancelled"


async def test_an_event_moved_out_of_the_window_keeps_its_meeting(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    event = calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.move(event, coming(100))
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == before
    starts_at = await world.database.fetchval("select starts_at from public.meetings")
    assert starts_at == coming(100)
    calendar.move(event, coming(2))
    await world.pull(calendar_id)
    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_what_vanished_and_was_never_known_is_not_asked_for(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    far_away = calendar.add("Visit", coming(100))
    calendar_id = await synced(world, calendar)

    calendar.rename(far_away, "Visit!")  # told as @removed
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.idle
    assert world.twin.calls.count("events.get") == 0


# Series.


async def test_a_deleted_occurrence_that_nobody_tells_of_is_cancelled(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    gone = calendar.occurrence(series, coming(3)).id

    calendar.cancel_occurrence(series, coming(3))
    await world.pull(calendar_id)

    after = await world.meetings(calendar_id)
    assert after == {one: before[one] for one in before if one != gone}
    assert await status_of(world, before[gone]) == "cancelled"


async def test_a_series_that_seems_unchanged_is_expanded_again(
    world: OutlookWorld,
) -> None:
    """Nothing says that a master changes with its occurrences."""
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    calendar_id = await synced(world, calendar)
    record = series.found.record
    looks = record.number, record.changed_at

    calendar.cancel_occurrence(series, coming(3))
    record.number, record.changed_at = looks
    await world.pull(calendar_id)

    await assert_mirrors(world.database, calendar_id, calendar)
    assert len(await world.meetings(calendar_id)) == 4


async def test_a_renamed_occurrence_brings_its_series_along(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar.move_occurrence(series, coming(3), coming(3, hour=18))
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)


@pytest.mark.parametrize("exceptions", ["keep", "reset"])
async def test_a_re_timed_series_comes_under_new_ids_and_keeps_its_meetings(
    world: OutlookWorld, exceptions: str
) -> None:
    world.twin.behaviour.exceptions_on_retime = exceptions  # type: ignore[assignment]
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=6")
    calendar.rename_occurrence(series, coming(3), "Dress rehearsal")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.retime_series(series, time(18))
    await world.pull(calendar_id)

    after = await world.meetings(calendar_id)
    assert not before.keys() & after.keys()
    assert set(before.values()) == set(after.values())
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_this_and_following_keeps_the_meetings(world: OutlookWorld) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=8")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.trim_and_follow(series, coming(4), to=coming(4, hour=18))
    await world.pull(calendar_id)

    assert set((await world.meetings(calendar_id)).values()) == set(before.values())
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_an_exception_moved_out_of_the_window_is_kept(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    last = calendar.occurrence(series, coming(5))
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.move(last, coming(100))
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == before
    # Nor does a later change of its series, read through the window, cancel it.
    calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    await world.pull(calendar_id)
    assert await world.meetings(calendar_id) == before


async def test_a_deleted_exception_is_not_kept(world: OutlookWorld) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    renamed = calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.cancel(renamed)
    await world.pull(calendar_id)

    await assert_mirrors(world.database, calendar_id, calendar)
    assert await status_of(world, before[renamed.id]) == "cancelled"


@pytest.mark.parametrize("tombstones", [False, True])
async def test_a_series_that_becomes_a_single_event_takes_its_exceptions_along(
    world: OutlookWorld, tombstones: bool
) -> None:
    world.twin.behaviour.occurrence_tombstones = tombstones
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar_id = await synced(world, calendar)

    calendar.change(series, recurrence=None)
    await world.pull(calendar_id)

    await assert_mirrors(world.database, calendar_id, calendar)
    assert list(await world.meetings(calendar_id)) == [series.id]


async def test_an_exception_that_comes_into_sight_without_its_series_brings_it(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(100), recurrence="FREQ=WEEKLY;COUNT=5")
    calendar_id = await synced(world, calendar)
    assert await world.meetings(calendar_id) == {}

    calendar.move_occurrence(series, coming(100), coming(2))
    await world.pull(calendar_id)

    await assert_mirrors(world.database, calendar_id, calendar)
    roles = await world.database.fetch("select role from public.calendar_events")
    assert {row["role"] for row in roles} == {"series", "exception"}


@pytest.mark.parametrize(
    ("count", "instances", "views"),
    [(SERIES_TOO_MANY - 1, SERIES_TOO_MANY - 1, 0), (SERIES_TOO_MANY, 0, 1)],
)
async def test_many_changed_series_are_one_read_of_the_window(
    world: OutlookWorld, count: int, instances: int, views: int
) -> None:
    calendar = world.account.primary
    many = [
        calendar.add(
            f"Course {n}", coming(hour=8 + n), recurrence="FREQ=WEEKLY;COUNT=4"
        )
        for n in range(count)
    ]
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    world.twin.calls.records.clear()

    for series in many:
        calendar.retime_series(series, series.start + timedelta(days=1))
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.instances") == instances
    assert world.twin.calls.count("events.view") == views
    after = await world.meetings(calendar_id)
    assert set(after.values()) == set(before.values())
    await assert_mirrors(world.database, calendar_id, calendar)


# Moves, guests, and who may read.


async def test_an_event_handed_to_another_calendar_keeps_its_meeting(
    world: OutlookWorld,
) -> None:
    calendar, other = world.account.primary, world.account.add_calendar("Other")
    event = calendar.add("Visit", coming())
    connection_id = await world.connect()
    first = await synced(world, calendar, connection_id=connection_id)
    second = await synced(world, other, connection_id=connection_id)
    before = await world.meetings(first)

    calendar.hand_over(event, other)
    await world.pull(second)
    await world.pull(first)

    assert await world.meetings(second) == before  # the same id, and it is immutable
    assert await status_of(world, before[event.id]) == "confirmed"


async def test_a_guest_s_copy_that_goes_leaves_the_meeting(
    world: OutlookWorld,
) -> None:
    friend = world.twin.account("friend@example.org").primary
    friend.add("Lunch", coming(), attendees=[world.account.email])
    calendar = world.account.primary
    calendar_id = await synced(world, calendar)
    [(event_id, meeting_id)] = (await world.meetings(calendar_id)).items()

    calendar.answer(calendar.event(event_id), "declined")
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == {}
    assert await status_of(world, meeting_id) != "cancelled"
