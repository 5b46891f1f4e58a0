"""Promises of a pull: what changed at Google is what changes in the tables."""

from datetime import UTC, datetime, time, timedelta

import pytest

from tests.support.events import ZONE, coming
from tests.support.sync import World, assert_mirrors, synced

SMALL = 3  # events a page
SERIES_TOO_MANY = 6  # one read of the window is cheaper than one a series


# The first sync.


async def test_the_first_pull_reads_everything_in_the_window(world: World) -> None:
    calendar = world.account.primary
    calendar.add("Cut and blow-dry", coming())
    calendar.add("Holiday", coming().date())
    calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    calendar_id = await world.switch_on(calendar)

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.calendar(calendar_id))["backfill"] == "complete"
    assert ended.outcome.counts.created == len(await world.meetings(calendar_id)) > 20


async def test_the_next_weeks_are_there_before_the_rest_is_read(world: World) -> None:
    calendar = world.account.primary
    soon = calendar.add("Soon", coming(2))
    calendar.add("Later", coming(8))
    calendar_id = await world.switch_on(calendar)
    world.twin.switchboard.answer("events.list", 503).skip = 1

    ended = await world.pull(calendar_id)

    assert ended.error is not None
    assert list(await world.meetings(calendar_id)) == [soon.id]
    assert (await world.calendar(calendar_id))["backfill"] == "upcoming"
    first = await world.meetings(calendar_id)
    await world.pull(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.meetings(calendar_id))[soon.id] == first[soon.id]
    assert (await world.calendar(calendar_id))["backfill"] == "complete"


async def test_what_vanishes_between_the_first_two_reads_is_gone(world: World) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    single = calendar.add("Visit", coming())
    calendar_id = await world.switch_on(calendar)
    world.twin.switchboard.answer("events.list", 503).skip = 1
    await world.pull(calendar_id)
    assert len(await world.meetings(calendar_id)) > 2

    calendar.cancel(series)
    calendar.cancel(single)
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == {}
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_an_exception_first_met_in_a_window_is_known_as_one(world: World) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    renamed = calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar_id = await world.switch_on(calendar)

    await world.pull(calendar_id)

    role = "select role from public.calendar_events where provider_event_id = $1"
    assert await world.database.fetchval(role, renamed.id) == "exception"
    plain = calendar.occurrence(series, coming(3))
    assert await world.database.fetchval(role, plain.id) == "occurrence"


# Pages.


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("exceptions_first", [False, True])
async def test_every_page_is_followed(
    small_pages: World, empty: bool, exceptions_first: bool
) -> None:
    world = small_pages
    world.twin.behaviour.empty_pages = empty
    world.twin.behaviour.exceptions_first = exceptions_first
    calendar = world.account.primary
    for n in range(8):
        calendar.add(f"Visit {n}", coming(weekday=n % 5, hour=8 + n))
    series = [
        calendar.add(f"Choir {n}", coming(hour=18), recurrence="FREQ=WEEKLY;COUNT=6")
        for n in range(2)
    ]
    calendar.move_occurrence(series[0], coming(2, hour=18), coming(2, hour=20))
    calendar.cancel_occurrence(series[1], coming(3, hour=18))

    calendar_id = await synced(world, calendar)
    await assert_mirrors(world.database, calendar_id, calendar)

    calendar.retime_series(series[0], time(17))
    for event in calendar.events(coming(), coming(2)):
        if "recurringEventId" not in event.body:
            calendar.rename(event, "Another name")
    await world.pull(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_page_that_is_applied_twice_changes_nothing(small_pages: World) -> None:
    world = small_pages
    calendar = world.account.primary
    events = [calendar.add(f"Visit {n}", coming(hour=8 + n)) for n in range(8)]
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    for event in events:
        calendar.rename(event, "Another name")
    # The first page is applied, then the run breaks off.
    world.twin.switchboard.answer("events.list", 503).skip = 1
    assert (await world.pull(calendar_id)).error
    versions = "select id, version from public.meetings where title = 'Another name'"
    applied = dict(await world.database.fetch(versions))
    assert len(applied) == SMALL

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.counts.updated == len(events) - SMALL
    assert applied.items() <= dict(await world.database.fetch(versions)).items()
    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)


# Changes.


async def test_a_change_is_read_from_the_cursor_on(world: World) -> None:
    calendar = world.account.primary
    visit = calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    reads = world.twin.calls.count("events.list")

    calendar.move(visit, coming(2))
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.counts.updated == 1
    assert ended.outcome.api_calls == 1 == world.twin.calls.count("events.list") - reads
    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_poll_that_finds_nothing_writes_nothing_that_anybody_sees(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    cursor = (await world.state(calendar_id))["cursor"]
    public_rows = """
        select coalesce(string_agg(line, E'\\n' order by line), '') from (
          select ctid::text || xmin::text || t::text as line from public.calendars as t
          union all select ctid::text || xmin::text || t::text from public.meetings as t
          union all
          select ctid::text || xmin::text || t::text from public.calendar_events as t
          union all
          select ctid::text || xmin::text || t::text
          from public.calendar_connections as t
        ) as lines
    """
    told = "select count(*) from realtime.messages"
    before = [await world.database.fetchval(query) for query in (public_rows, told)]

    ended = await world.pull(calendar_id, lane=2)

    assert ended.outcome is not None
    assert ended.outcome.idle
    after = [await world.database.fetchval(query) for query in (public_rows, told)]
    assert after == before
    state = await world.state(calendar_id)
    assert state["cursor"] != cursor
    assert (state["announced"], state["unannounced"]) == (0, 0)


async def test_what_was_over_before_the_window_becomes_no_meeting(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar_id = await synced(world, calendar)
    past = datetime.now(ZONE) - timedelta(days=400)

    old = calendar.add("Long ago", past)
    old_series = calendar.add("Once", past, recurrence="FREQ=DAILY;COUNT=3")
    recent = calendar.add("Last week", datetime.now(ZONE) - timedelta(days=7))
    calendar.rename_occurrence(old_series, past + timedelta(days=1), "Second")
    await world.pull(calendar_id)

    assert list(await world.meetings(calendar_id)) == [recent.id]
    # Moved into the window it is one.
    calendar.move(old, coming())
    await world.pull(calendar_id)
    assert set(await world.meetings(calendar_id)) == {recent.id, old.id}
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_known_meeting_may_move_out_of_the_window(world: World) -> None:
    calendar = world.account.primary
    visit = calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.move(visit, datetime.now(ZONE) - timedelta(days=300))
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == before
    starts_at = await world.database.fetchval("select starts_at from public.meetings")
    assert starts_at < datetime.now(UTC) - timedelta(days=299)


# Series.


async def test_a_series_that_moves_to_another_hour_keeps_its_meetings(
    world: World,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=10")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.retime_series(series, time(19))
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.counts.updated == 10
    after = await world.meetings(calendar_id)
    assert set(after.values()) == set(before.values())
    assert set(after) & set(before) == set()
    await assert_mirrors(world.database, calendar_id, calendar)


@pytest.mark.parametrize("count", [SERIES_TOO_MANY - 1, SERIES_TOO_MANY])
async def test_many_changed_series_cost_one_read_of_the_window(
    world: World, count: int
) -> None:
    calendar = world.account.primary
    series = [
        calendar.add(f"Choir {n}", coming(), recurrence="FREQ=WEEKLY;COUNT=4")
        for n in range(count)
    ]
    unchanged = calendar.add("Other", coming(), recurrence="FREQ=WEEKLY;COUNT=4")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    for one in series:
        calendar.retime_series(one, time(19))
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.api_calls == (1 + count if count < SERIES_TOO_MANY else 2)
    after = await world.meetings(calendar_id)
    assert set(after.values()) == set(before.values())
    assert any(event_id.startswith(unchanged.id) for event_id in after)
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_series_that_goes_while_it_is_read_costs_nothing_else(
    world: World,
) -> None:
    calendar = world.account.primary
    visit = calendar.add("Visit", coming())
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=4")
    calendar_id = await synced(world, calendar)
    calendar.rename(series, "Chorus")
    world.twin.switchboard.answer("events.instances", 404, reason="notFound")

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert await world.alerts() == set()
    calendar.cancel(series)
    await world.pull(calendar_id)
    assert list(await world.meetings(calendar_id)) == [visit.id]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_an_occurrence_that_cannot_be_read_is_not_cancelled(
    world: World,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=4")
    second = calendar.rename_occurrence(series, coming(2), "Rehearsal")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    broken = {**second.body, "start": {"dateTime": "soon"}}
    calendar.inject(broken)
    calendar.rename(series, "Chorus")
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.counts.cancelled == 0
    assert await world.meetings(calendar_id) == before


# The cursor is lost.


async def test_a_lost_cursor_is_a_full_round_in_which_meetings_keep_their_ids(
    world: World,
) -> None:
    calendar = world.account.primary
    kept = calendar.add("Kept", coming())
    gone = calendar.add("Gone", coming())
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=6")
    gone_series = calendar.add("Band", coming(), recurrence="FREQ=WEEKLY;COUNT=6")
    exception = calendar.move_occurrence(series, coming(2), coming(2, hour=20))
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.expire_sync_tokens()
    calendar.cancel(gone)
    calendar.cancel(gone_series)
    calendar.cancel(exception)
    calendar.move(kept, coming(3))
    await world.pull(calendar_id)

    after = await world.meetings(calendar_id)
    assert after == {i: before[i] for i in after}
    assert {kept.id, calendar.occurrence(series, coming(3)).id} <= set(after)
    await assert_mirrors(world.database, calendar_id, calendar)
    reads = world.twin.calls.count("events.list")
    await world.pull(calendar_id)
    assert world.twin.calls.count("events.list") == reads + 1


async def test_a_cursor_that_expires_in_mid_round_is_a_full_round(
    small_pages: World,
) -> None:
    world = small_pages
    calendar = world.account.primary
    events = [calendar.add(f"Visit {n}", coming(hour=8 + n)) for n in range(8)]
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    for event in events:
        calendar.rename(event, "Another name")
    calendar.cancel(events[-1])
    fault = world.twin.switchboard.answer("events.list", 410, reason="fullSyncRequired")
    fault.skip = 1

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert fault.struck == 1
    await assert_mirrors(world.database, calendar_id, calendar)
    after = await world.meetings(calendar_id)
    assert after == {i: before[i] for i in after}
    assert len(after) == 7


async def test_an_exception_that_went_while_nobody_looked_is_asked_for(
    world: World,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=6")
    exception = calendar.move_occurrence(series, coming(4), coming(4, hour=20))
    calendar_id = await synced(world, calendar)
    assert exception.id in await world.meetings(calendar_id)

    calendar.expire_sync_tokens()
    calendar.end_series(series, coming(3))
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.get") == 1
    assert exception.id not in await world.meetings(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_an_exception_that_its_series_lost_and_nobody_told_is_asked_for(
    world: World,
) -> None:
    world.twin.behaviour.exceptions_on_retime = "reset"
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=6")
    exception = calendar.move_occurrence(series, coming(2), coming(2, hour=20))
    calendar_id = await synced(world, calendar)

    calendar.retime_series(series, recurrence="FREQ=DAILY;COUNT=30")
    calendar.retime_series(series, recurrence="FREQ=WEEKLY;INTERVAL=3;COUNT=3")
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.get") == 1
    assert exception.id not in await world.meetings(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_an_exception_far_ahead_is_kept_when_its_series_changes(
    world: World,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=6")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    moved = calendar.move_occurrence(series, coming(2), coming(80))
    await world.pull(calendar_id)

    calendar.retime_series(series, recurrence="FREQ=WEEKLY;COUNT=5")
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.get") == 1
    after = await world.meetings(calendar_id)
    assert after[moved.id] == before[moved.id]


async def test_exceptions_of_long_ago_are_not_asked_for_when_their_series_changes(
    still_world: World,
) -> None:
    world = still_world
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    calendar.move_occurrence(series, coming(1), coming(1, hour=20))
    calendar_id = await synced(world, calendar)
    await world.advance(days=100)
    await world.pull(calendar_id)

    calendar.retime_series(series, recurrence="FREQ=WEEKLY;COUNT=60")
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.get") == 0


async def test_a_series_of_nothing_but_exceptions_is_not_taken_for_gone(
    world: World,
) -> None:
    calendar = world.account.primary
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=2")
    calendar.rename_occurrence(series, coming(1), "First")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.expire_sync_tokens()
    calendar.move_occurrence(series, coming(2), coming(3))
    await world.pull(calendar_id)

    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)

    calendar.expire_sync_tokens()
    calendar.end_series(series, coming(2))
    await world.pull(calendar_id)
    assert len(await world.meetings(calendar_id)) == 1
    await assert_mirrors(world.database, calendar_id, calendar)


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_series_begun_long_ago_that_went_is_asked_for(
    world: World, forgotten: bool
) -> None:
    calendar = world.account.primary
    begin = datetime.now(ZONE).replace(microsecond=0) - timedelta(days=200)
    series = calendar.add("Choir", begin, recurrence="FREQ=WEEKLY")
    calendar_id = await synced(world, calendar)

    calendar.expire_sync_tokens()
    calendar.cancel(series)
    if forgotten:
        world.twin.switchboard.answer("events.get", 404, reason="notFound")
    await world.pull(calendar_id)

    assert world.twin.calls.count("events.get") == 1
    assert not await world.database.fetch(
        "select from public.meetings where status <> 'cancelled' "
        "and ends_at > sync.clock()"
    )


async def test_a_changed_event_tag_is_decided_anew_for_every_event(
    world: World,
) -> None:
    calendar = world.account.primary
    visit = calendar.add("Visit #client", coming())
    calendar.add("Lunch", coming())
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=3")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    await world.change(calendar_id, event_tag="#client")
    assert [ended.task.kind for ended in await world.work("pull")] == ["pull"]
    assert await world.meetings(calendar_id) == {visit.id: before[visit.id]}

    calendar.rename(series, "Choir #client")
    await world.pull(calendar_id)
    assert len(await world.meetings(calendar_id)) == 4

    await world.change(calendar_id, event_tag=None)
    await world.work("pull")
    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_full_round_that_is_asked_for_in_a_pull_comes_after_it(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    task = await world.claim("pull", calendar_id)
    await world.change(calendar_id, event_tag="#client")

    ended = await world.run(task)

    assert ended.outcome is not None
    full = await world.work("pull")
    assert len(full) == 1
    assert await world.meetings(calendar_id) == {}
    assert (await world.calendar(calendar_id))["full_round_asked_at"] is None


async def test_a_cursor_of_another_tag_is_worthless(world: World) -> None:
    # The tag changed between what the round read first and what it read last.
    calendar = world.account.primary
    calendar.add("Visit #client", coming())
    calendar.add("Lunch", coming())
    calendar_id = await synced(world, calendar)
    await world.change(calendar_id, event_tag="#client")
    await world.database.execute("update calendars set full_round_asked_at = null")

    await world.pull(calendar_id)

    assert len(await world.meetings(calendar_id)) == 1


async def test_an_outbound_calendar_makes_no_meetings_of_what_it_has(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar_id = await synced(world, calendar)
    await world.change(calendar_id, direction="outbound")
    await world.work("pull")
    calendar.add("Lunch", coming())
    await world.pull(calendar_id)
    assert await world.meetings(calendar_id) == {}

    await world.change(calendar_id, direction="two_way")
    await world.work("pull")
    assert len(await world.meetings(calendar_id)) == 1


async def test_another_set_of_parameters_makes_the_cursor_worthless(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    await world.database.execute(
        "update sync.calendar_state set cursor_parameters = 'maxResults=250'"
    )
    reads = world.twin.calls.records
    reads.clear()

    await world.pull(calendar_id)

    assert [call.operation for call in reads] == ["events.list"]
    await world.pull(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)
