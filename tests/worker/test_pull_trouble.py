"""Promises of a pull when something is wrong: it costs time, never a meeting."""

import asyncio
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from runtime import logging
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sync import EMAIL, World, assert_mirrors, new_address, synced

HELD = "select count(*) from sync.held_cancellations"

# Google goes slow, or away.


@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, "rateLimitExceeded"), (403, "userRateLimitExceeded"), (503, "backendError")],
)
async def test_retry_after_holds_back_the_whole_connection(
    world: World, status: int, reason: str
) -> None:
    account = world.account
    connection_id = await world.connect()
    first = await world.switch_on(account.primary, connection_id=connection_id)
    other = await world.switch_on(
        account.add_calendar("Other"), connection_id=connection_id
    )
    await world.pull(other)
    world.twin.switchboard.answer(
        "events.list", status, reason=reason, retry_after_s=120
    )

    await world.pull(first)

    held_back = (await world.connection(first))["held_back"].total_seconds()
    assert 100 < held_back <= 120
    await world.database.execute(
        "update sync.tasks set run_at = sync.clock() where kind = 'pull'"
    )
    assert await world.work("pull") == []


async def test_a_rate_limit_without_a_time_holds_the_connection_back_all_the_same(
    world: World,
) -> None:
    calendar_id = await world.switch_on()
    world.twin.switchboard.answer("events.list", 403, reason="rateLimitExceeded")

    await world.pull(calendar_id)

    held_back = (await world.connection(calendar_id))["held_back"]
    assert held_back.total_seconds() > 0.5


async def test_a_failure_is_shown_with_the_calendar_until_it_is_over(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    world.twin.switchboard.answer("events.list", 503, reason="backendError")

    assert (await world.pull(calendar_id)).error

    told = (await world.calendar(calendar_id))["last_error"]
    assert told.startswith("google events.list: 503 backendError")
    assert (await world.connection(calendar_id))["held_back"] is None
    await world.pull(calendar_id)
    assert (await world.calendar(calendar_id))["last_error"] is None


# The calendar goes, and comes back.


async def test_a_calendar_that_is_gone_lets_its_meetings_go_and_takes_them_back(
    world: World,
) -> None:
    owner = world.twin.account(new_address())
    calendar = owner.add_calendar("Shared")
    calendar.share(world.account)
    calendar.add("Visit", coming())
    calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=4")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    looks = "select id, status, starts_at from public.meetings order by id"
    meetings = await world.database.fetch(looks)

    calendar.unshare(world.account)
    ended = await world.pull(calendar_id)

    assert ended.outcome is not None  # it is looked at again, hourly
    assert await world.alerts() == {"calendar_lost"}
    assert await world.meetings(calendar_id) == {}
    assert await world.database.fetch(looks) == meetings
    states = "select distinct sync_state from public.meetings"
    assert await world.database.fetchval(states) == "local"
    due_in = (await world.task("pull", calendar_id))["due_in"].total_seconds()
    assert 0.8 * 3600 < due_in < 1.2 * 3600

    await world.pull(calendar_id)
    assert await world.alerts() == {"calendar_lost"}

    calendar.share(world.account)
    await world.pull(calendar_id)
    assert await world.alerts() == set()
    assert (await world.calendar(calendar_id))["last_error"] is None
    assert await world.meetings(calendar_id) == before
    assert await world.database.fetchval(states) == "synced"
    await assert_mirrors(world.database, calendar_id, calendar)


# The worker, or the database, dies.


async def test_a_worker_that_lost_its_lease_in_mid_round_writes_nothing_more(
    small_pages: World,
) -> None:
    world = small_pages
    calendar = world.account.primary
    events = [calendar.add(f"Visit {n}", coming(hour=8 + n)) for n in range(8)]
    calendar_id = await world.switch_on(calendar)
    task = await world.claim("pull", calendar_id)
    # The third page is slow; meanwhile somebody else claims the task.
    slow = world.twin.switchboard.slow("events.list", 0.1)
    slow.skip = 5
    running = asyncio.create_task(world.run(task))
    await eventually(lambda: slow.struck)
    taken = await world.claim("pull", calendar_id)

    ended = await running

    assert (ended.outcome, ended.error) == (None, None)
    assert (await world.state(calendar_id))["cursor"] is None
    calendar.cancel(events[0])
    assert (await world.run(taken)).outcome
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_what_a_zombie_met_is_not_met_by_its_successor(world: World) -> None:
    calendar = world.account.primary
    gone = calendar.add("Gone", coming())
    calendar_id = await synced(world, calendar)
    zombie = await world.claim("pull", calendar_id)
    await world.change(calendar_id, event_tag="#x")
    await world.claim("pull", calendar_id)

    async with world.pool.acquire() as connection:
        with pytest.raises(Exception, match="lease is no longer held"):
            await connection.fetchval(
                "select sync.meet_events($1, $2, $3, $4, $5)",
                zombie.id,
                zombie.lease,
                calendar_id,
                [gone.id],
                [b"?"],
            )
    assert not await world.database.fetchval("select count(*) from sync.seen_events")


async def test_a_database_that_crashed_in_a_full_round_cancels_nothing(
    small_pages: World,
) -> None:
    world = small_pages
    calendar = world.account.primary
    for n in range(8):
        calendar.add(f"Visit {n}", coming(hour=8 + n))
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    calendar.expire_sync_tokens()
    slow = world.twin.switchboard.slow("events.list", 0.1)
    slow.skip = 2
    running = asyncio.create_task(world.pull(calendar_id))
    await eventually(lambda: slow.struck)
    # What an unlogged table is after a crash.
    await world.database.execute("truncate sync.seen_events")

    ended = await running

    assert ended.error is not None
    assert "begins anew" in ended.error
    assert await world.meetings(calendar_id) == before
    assert (await world.pull(calendar_id)).outcome
    assert await world.meetings(calendar_id) == before
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_full_round_that_broke_off_begins_anew(small_pages: World) -> None:
    world = small_pages
    calendar = world.account.primary
    events = [calendar.add(f"Visit {n}", coming(hour=8 + n)) for n in range(8)]
    calendar_id = await synced(world, calendar)
    calendar.expire_sync_tokens()
    calendar.cancel(events[3])
    world.twin.switchboard.answer("events.list", 503).skip = 2

    assert (await world.pull(calendar_id)).error
    assert (await world.state(calendar_id))["round_started_at"] is not None
    # Met before the round broke off, gone when it begins anew.
    calendar.cancel(events[0])
    assert (await world.pull(calendar_id)).outcome

    state = await world.state(calendar_id)
    assert (state["round_started_at"], state["cursor"] is None) == (None, False)
    await assert_mirrors(world.database, calendar_id, calendar)
    assert await world.database.fetchval("select count(*) from sync.seen_events") == 0


async def test_a_calendar_switched_off_in_a_pull_is_not_pulled_again(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await world.switch_on(calendar)
    task = await world.claim("pull", calendar_id)
    slow = world.twin.switchboard.slow("events.list", 0.1)
    running = asyncio.create_task(world.run(task))
    await eventually(lambda: slow.struck)
    await world.change(calendar_id, sync_enabled=False)

    assert (await running).outcome

    assert await world.task("pull", calendar_id) is None


async def test_a_pull_of_a_calendar_that_is_switched_off_ends_its_task(
    world: World,
) -> None:
    calendar_id = await synced(world, world.account.primary)
    await world.change(calendar_id, sync_enabled=False)
    calls = world.twin.calls.count()

    await world.pull(calendar_id)

    assert await world.task("pull", calendar_id) is None
    assert world.twin.calls.count() == calls


# What makes no sense.


AN_HOUR: dict[str, Any] = {
    "start": {"dateTime": coming(3).isoformat(), "timeZone": "Europe/Berlin"},
    "end": {"dateTime": coming(3, hour=10).isoformat(), "timeZone": "Europe/Berlin"},
}
BROKEN: dict[str, dict[str, Any]] = {
    "no start": {"end": AN_HOUR["end"]},
    "end before start": {"start": AN_HOUR["end"], "end": AN_HOUR["start"]},
    "unknown zone": {
        side: {**when, "timeZone": "Mars/Base"} for side, when in AN_HOUR.items()
    },
    "a title of 1 MB": {**AN_HOUR, "summary": "x" * 1_000_000},
    "no time": {"start": {"dateTime": "soon"}, "end": {"dateTime": "later"}},
    "a number for a start": {"start": 5, "end": 6},
}


@pytest.mark.parametrize("full_tombstones", [False, True])
async def test_deletions_on_many_pages_are_as_many_for_the_brake(
    small_pages: World, full_tombstones: bool
) -> None:
    world = small_pages
    world.twin.behaviour.full_tombstones = full_tombstones
    calendar = world.account.primary
    events = [
        calendar.add(f"Visit {n}", coming(1 + n // 8, hour=8 + n % 8))
        for n in range(15)
    ]
    calendar_id = await synced(world, calendar)
    for event in events[:11]:
        calendar.cancel(event)

    await world.pull(calendar_id)

    assert await world.database.fetchval(HELD) == 11
    statuses = await world.database.fetch("select status from public.meetings")
    assert {row["status"] for row in statuses} == {"confirmed"}


@pytest.mark.parametrize("known", [False, True])
async def test_malformed_events_are_set_aside_and_the_others_applied(
    world: World, known: bool
) -> None:
    calendar = world.account.primary
    calendar.add("Before", coming())
    calendar_id = await world.switch_on(calendar)
    if known:
        await world.pull(calendar_id)
    for n, body in enumerate(BROKEN.values()):
        calendar.inject({"id": f"broken{n}", "iCalUID": f"broken{n}@x", **body})
    calendar.add("After", coming(2))

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.counts.set_aside >= len(BROKEN)
    titles = "select title from public.meetings order by starts_at"
    found = [row["title"] for row in await world.database.fetch(titles)]
    assert found == ["Before", "After"]
    aside = await world.database.fetch("select * from sync.set_aside_events")
    assert len(aside) == len(BROKEN)
    assert all(row["reason"] for row in aside)
    assert max(len(row["raw"]) for row in aside) < 100_000

    # One that comes again well leaves.
    calendar.inject({**calendar.event("broken2").body, "id": "broken0"} | AN_HOUR)
    await world.pull(calendar_id)
    assert "broken0" in await world.meetings(calendar_id)
    left = await world.database.fetchval("select count(*) from sync.set_aside_events")
    assert left == len(BROKEN) - 1


# What is told.


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What a worker would have logged."""
    stream = StringIO()
    logging.configure("json", stream)
    yield stream
    structlog.reset_defaults()


async def test_the_log_of_a_sync_holds_no_token_title_or_address(
    still_world: World, log: StringIO
) -> None:
    world = still_world
    calendar = world.account.primary
    guest = new_address()
    calendar.add("Root canal", coming(), attendees=[guest], location="Praxis 7")
    calendar_id = await world.switch_on(calendar)
    grant = world.twin.oauth.grants[-1]

    await world.work()
    calendar.inject({"id": "broken", "summary": "Root canal"})
    await world.advance(hours=2)
    await world.pull(calendar_id)
    world.twin.switchboard.answer("events.list", 503, reason="backendError")
    await world.pull(calendar_id)
    world.twin.switchboard.cut("events.list")
    await world.pull(calendar_id)
    world.account.revoke()
    await world.pull(calendar_id)

    told = log.getvalue()
    events = {json.loads(line)["event"] for line in told.splitlines()}
    assert {"task.claimed", "task.finished", "task.failed"} <= events
    tokens = (*world.twin.oauth.access, grant.refresh_token)
    for secret in (*tokens, "Root canal", "Praxis", guest, EMAIL):
        assert secret not in told
