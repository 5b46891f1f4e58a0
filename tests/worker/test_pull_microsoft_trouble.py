"""Promises of a pull from Outlook in time, and when something is wrong."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from local_stack.twins.microsoft import Behaviour
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.outlook import OutlookWorld, assert_mirrors, make_outlook, synced
from tests.support.sessions import Connection
from tests.support.sync import new_address

HELD = "select count(*) from sync.held_cancellations"


@pytest.fixture
async def world(database: Connection, database_url: str) -> AsyncIterator[OutlookWorld]:
    async with make_outlook(database, database_url) as made:
        yield made


@pytest.fixture
async def still_world(
    database: Connection, database_url: str
) -> AsyncIterator[OutlookWorld]:
    async with make_outlook(database, database_url, still=True) as made:
        yield made


async def due_in(world: OutlookWorld, calendar_id: object) -> timedelta:
    task = await world.task("pull", calendar_id)  # type: ignore[arg-type]
    wait: timedelta = task["due_in"]
    return wait


# A delta that lags behind its notifications.


async def test_a_notified_pull_that_found_nothing_looks_again_three_times(
    still_world: OutlookWorld,
) -> None:
    world = still_world
    calendar_id = await synced(world, world.account.primary)

    waits = []
    await world.pull(calendar_id, lane=1)
    for _ in range(3):
        waits.append(await due_in(world, calendar_id))
        await world.pull(calendar_id, lane=2)

    assert [wait.total_seconds() for wait in waits] == [20, 60, 180]
    assert await due_in(world, calendar_id) > timedelta(minutes=10)


async def test_what_a_delta_shows_late_is_there_with_the_next_look(
    still_world: OutlookWorld,
) -> None:
    world = still_world
    world.twin.behaviour.delta_lag_s = 15
    calendar = world.account.primary
    calendar_id = await synced(world, calendar)
    event = calendar.add("Visit", coming())

    await world.pull(calendar_id, lane=1)
    assert await world.meetings(calendar_id) == {}
    await world.advance(seconds=20)
    await world.pull(calendar_id, lane=2)

    assert list(await world.meetings(calendar_id)) == [event.id]
    # It was announced, though late; and nobody looks a third time.
    state = await world.state(calendar_id)
    assert (state["announced"], state["unannounced"]) == (1, 0)
    assert await due_in(world, calendar_id) > timedelta(minutes=10)


async def test_a_poll_that_found_nothing_does_not_look_again(
    still_world: OutlookWorld,
) -> None:
    calendar_id = await synced(still_world, still_world.account.primary)

    await still_world.pull(calendar_id, lane=2)

    assert await due_in(still_world, calendar_id) > timedelta(minutes=10)


async def test_a_new_notification_begins_the_looks_anew(
    still_world: OutlookWorld,
) -> None:
    world = still_world
    calendar_id = await synced(world, world.account.primary)
    for lane in (1, 2, 1):
        await world.pull(calendar_id, lane=lane)

    assert await due_in(world, calendar_id) == timedelta(seconds=20)


# The window that is frozen into a delta.


async def test_the_window_moves_on_weekly_and_the_delta_is_begun_anew_monthly(
    still_world: OutlookWorld,
) -> None:
    world = still_world
    calendar = world.account.primary
    calendar.add("Choir", coming(), recurrence="FREQ=DAILY")
    calendar.add("In a year", coming(40))
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    calls, rounds, rolls = world.twin.calls, 0, 0

    for _ in range(9):
        state = await world.state(calendar_id)
        await world.advance(days=7)
        calls.records.clear()
        await world.pull(calendar_id, lane=2)
        rounds += calls.count("events.delta") - 1
        now = await world.state(calendar_id)
        rolls += now["window_end"] > state["window_end"]
        await assert_mirrors(world.database, calendar_id, calendar)
        assert now["cursor_until"] > now["window_end"] - timedelta(seconds=1)

    assert rounds == 2
    assert rolls >= 4
    after = await world.meetings(calendar_id)
    assert before.items() <= after.items()
    assert len(after) >= len(before) + 8 * 7
    assert await world.alerts() == set()


async def test_the_old_delta_goes_on_while_the_new_one_fails(
    still_world: OutlookWorld,
) -> None:
    world = still_world
    calendar = world.account.primary
    calendar.add("Visit", coming(10))
    calendar_id = await synced(world, calendar)
    before = await world.state(calendar_id)
    await world.advance(days=30)
    new = calendar.add("New", coming(9))
    world.twin.switchboard.answer("events.delta", 503).skip = 1

    assert (await world.pull(calendar_id)).error

    assert new.id in await world.meetings(calendar_id)
    state = await world.state(calendar_id)
    assert state["cursor"] not in {None, before["cursor"]}
    assert state["cursor_until"] == before["cursor_until"]
    assert (await world.pull(calendar_id)).outcome
    state = await world.state(calendar_id)
    assert state["cursor_until"] > before["cursor_until"]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_what_the_new_window_leaves_behind_is_not_missed(
    still_world: OutlookWorld,
) -> None:
    world = still_world
    calendar = world.account.primary
    calendar.add("Over", coming(-3))
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    assert before

    await world.advance(days=70)
    assert (await world.pull(calendar_id)).outcome

    assert await world.meetings(calendar_id) == before


async def test_a_window_made_longer_is_asked_for_at_once(world: OutlookWorld) -> None:
    calendar = world.account.primary
    late = calendar.add("In a year", coming(50))
    calendar_id = await synced(world, calendar)
    assert await world.meetings(calendar_id) == {}

    await world.change(calendar_id, window_future=timedelta(days=400))
    await world.pull(calendar_id)
    assert list(await world.meetings(calendar_id)) == [late.id]


# A lost delta.


@pytest.mark.parametrize("status", ["410", "400"])
async def test_a_delta_token_that_is_lost_means_a_full_round_and_loses_nothing(
    world: OutlookWorld, status: str
) -> None:
    world.twin.behaviour.lost_state = status  # type: ignore[assignment]
    calendar = world.account.primary
    kept = calendar.add("Kept", coming())
    gone = calendar.add("Gone", coming())
    away = calendar.add("Away", coming())
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=5")
    renamed = calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.expire_delta_tokens()
    calendar.cancel(gone)
    calendar.move(away, coming(100))
    calendar.cancel(renamed)
    calendar.cancel_occurrence(series, coming(4))
    await world.pull(calendar_id)

    after = await world.meetings(calendar_id)
    await assert_mirrors(world.database, calendar_id, calendar)
    assert after.items() <= before.items()
    assert {kept.id, away.id} <= after.keys()
    assert {gone.id, renamed.id}.isdisjoint(after)


async def test_a_mass_deletion_is_held_however_it_is_told(world: OutlookWorld) -> None:
    calendar = world.account.primary
    events = [
        calendar.add(f"Visit {n}", coming(1 + n // 8, hour=8 + n % 8))
        for n in range(15)
    ]
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    for event in events[:11]:
        calendar.cancel(event)

    await world.pull(calendar_id)
    assert await world.database.fetchval(HELD) == 11
    calendar.expire_delta_tokens()
    await world.pull(calendar_id)

    assert await world.database.fetchval(HELD) == 11
    assert await world.meetings(calendar_id) == before
    assert await world.alerts() == {"deletions_held"}


async def test_what_slips_through_between_two_pages_is_not_taken_for_gone(
    world: OutlookWorld,
) -> None:
    """Graph counts pages off: what goes meanwhile makes the next page begin later."""
    calendar = world.account.primary
    first = calendar.add("First of all", coming(0, hour=1))
    many = [
        calendar.add(f"No. {n}", coming(hour=8 + n), recurrence="FREQ=DAILY;COUNT=60")
        for n in range(7)
    ]
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    for series in many:
        calendar.rename(series, "Renamed")
    slow = world.twin.switchboard.slow("events.view", 0.2)
    slow.skip = 1

    running = asyncio.create_task(world.pull(calendar_id))
    await eventually(lambda: slow.struck)
    calendar.cancel(first)
    assert (await running).outcome

    assert await world.meetings(calendar_id) == before
    await world.pull(calendar_id)
    del before[first.id]
    assert await world.meetings(calendar_id) == before


# Access.


async def test_a_calendar_no_longer_shared_is_lost_and_comes_back(
    world: OutlookWorld,
) -> None:
    calendar = world.twin.account(new_address()).add_calendar("Shared")
    calendar.share(world.account)
    calendar.add("Visit", coming())
    calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=4")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)

    calendar.unshare(world.account)
    assert (await world.pull(calendar_id)).outcome
    assert await world.alerts() == {"calendar_lost"}
    assert await world.meetings(calendar_id) == {}

    calendar.share(world.account)
    await world.pull(calendar_id)
    assert await world.alerts() == set()
    assert await world.meetings(calendar_id) == before


async def test_a_calendar_that_is_forbidden_alone_is_lost_alone(
    world: OutlookWorld,
) -> None:
    calendar_id = await synced(world, world.account.primary)
    world.twin.switchboard.answer("events.delta", 403)

    assert (await world.pull(calendar_id)).outcome

    assert await world.alerts() == {"calendar_lost"}
    assert (await world.connection(calendar_id))["status"] == "active"


async def test_a_sign_in_without_the_right_to_read_needs_its_owner(
    world: OutlookWorld,
) -> None:
    world.account.primary.add("Visit", coming())
    calendar_id = await synced(world, world.account.primary)
    before = await world.meetings(calendar_id)
    # Of all that was granted only the profile is left.
    await world.sign_in_with(calendar_id, scopes=("User.Read", "offline_access"))

    assert (await world.pull(calendar_id)).error

    connection = await world.connection(calendar_id)
    assert connection["status"] == "needs_reauth"
    assert "ErrorAccessDenied" in connection["status_reason"]
    assert await world.alerts() == {"access_lost"}
    assert await world.meetings(calendar_id) == before


async def test_retry_after_holds_back_the_whole_connection(
    world: OutlookWorld,
) -> None:
    calendar_id = await synced(world, world.account.primary)
    world.twin.switchboard.answer("events.delta", 429, retry_after_s=120)

    assert (await world.pull(calendar_id)).error

    held_back = (await world.connection(calendar_id))["held_back"].total_seconds()
    assert 100 < held_back <= 120


async def test_a_full_round_that_broke_off_begins_anew(
    database: Connection, database_url: str
) -> None:
    small = Behaviour(delta_page_size=3)
    async with make_outlook(database, database_url, behaviour=small) as world:
        calendar = world.account.primary
        events = [calendar.add(f"Visit {n}", coming(hour=8 + n)) for n in range(8)]
        calendar_id = await synced(world, calendar)
        calendar.expire_delta_tokens()
        calendar.cancel(events[3])
        world.twin.switchboard.answer("events.delta", 503).skip = 2

        assert (await world.pull(calendar_id)).error
        # Met before the round broke off, gone when it begins anew.
        calendar.cancel(events[0])
        assert (await world.pull(calendar_id)).outcome

        await assert_mirrors(database, calendar_id, calendar)
        assert await database.fetchval("select count(*) from sync.seen_events") == 0
