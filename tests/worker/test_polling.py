"""Promises of polling: how often, and how much of a provider's quota it takes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.channels import gaps
from tests.support.sessions import Connection
from tests.support.sync import World

Connect = Callable[..., Awaitable[Connection]]

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def polled_in(world: World, calendar_id: UUID) -> timedelta:
    interval: timedelta = await world.database.fetchval(
        "select sync.polling_interval($1)", calendar_id
    )
    return interval


async def add_channel(
    world: World, calendar_id: UUID, status: str, *, ends_in: timedelta | None = DAY
) -> None:
    await world.database.execute(
        """
        insert into public.calendar_watch_channels
          (calendar_id, organization_id, status, expires_at)
        select id, organization_id, $2, sync.clock() + $3::interval
        from public.calendars where id = $1
        """,
        calendar_id,
        status,
        ends_in,
    )


async def set_state(world: World, calendar_id: UUID, **columns: object) -> None:
    await world.database.execute(
        "insert into sync.calendar_state (calendar_id) values ($1) "
        "on conflict do nothing",
        calendar_id,
    )
    for name, value in columns.items():
        await world.database.execute(
            f"update sync.calendar_state set {name} = $2 where calendar_id = $1",
            calendar_id,
            value,
        )


# When a calendar is polled.


@pytest.mark.parametrize(
    ("lost_before", "expected"),
    [
        (timedelta(0), MINUTE),
        (14 * MINUTE, MINUTE),
        (16 * MINUTE, 5 * MINUTE),
        (59 * MINUTE, 5 * MINUTE),
        (61 * MINUTE, 15 * MINUTE),
        (None, 15 * MINUTE),
    ],
)
async def test_without_a_channel_polls_are_frequent_at_first(
    still_world: World, lost_before: timedelta | None, expected: timedelta
) -> None:
    world = still_world
    calendar_id = await world.switch_on()
    lost_at = None if lost_before is None else world.clock.now() - lost_before
    await set_state(world, calendar_id, channel_lost_at=lost_at)

    assert await polled_in(world, calendar_id) == expected


@pytest.mark.parametrize(
    ("announced", "unannounced", "expected"),
    [
        (0, 0, 15 * MINUTE),
        (19, 0, 15 * MINUTE),
        (20, 0, HOUR),
        (20, 1, 15 * MINUTE),
        (40, 1, HOUR),
    ],
)
async def test_where_pushes_have_proven_reliable_polls_are_rare(
    still_world: World, announced: int, unannounced: int, expected: timedelta
) -> None:
    world = still_world
    calendar_id = await world.switch_on()
    await add_channel(world, calendar_id, "active")
    await set_state(world, calendar_id, announced=announced, unannounced=unannounced)

    assert await polled_in(world, calendar_id) == expected
    await world.advance(days=2)  # the channel has run out
    assert await polled_in(world, calendar_id) == 15 * MINUTE


async def test_what_cannot_be_watched_is_polled_hourly_what_is_generated_daily(
    world: World,
) -> None:
    calendar_id = await world.switch_on()
    await add_channel(world, calendar_id, "unwatchable")
    assert await polled_in(world, calendar_id) == HOUR

    await world.change(calendar_id, kind="generated")
    assert await polled_in(world, calendar_id) == DAY


async def test_a_calendars_own_interval_goes_before_all_others(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await world.switch_on(poll_every=7 * MINUTE)
    await add_channel(world, calendar_id, "active")
    assert await polled_in(world, calendar_id) == 7 * MINUTE

    # Zero is never, as long as the channel lives: then somebody looks.
    await world.change(calendar_id, poll_every=timedelta(0))
    assert await polled_in(world, calendar_id) == DAY + MINUTE
    await world.advance(days=1)
    assert await polled_in(world, calendar_id) == 15 * MINUTE

    await world.database.execute(
        "update public.calendar_watch_channels set expires_at = null"
    )
    assert await polled_in(world, calendar_id) > 10_000 * DAY


async def test_the_next_poll_is_jittered_around_its_interval(world: World) -> None:
    calendar_id = await world.switch_on(poll_every=HOUR)
    await world.pull(calendar_id)
    due_in = [(await world.task("pull", calendar_id))["due_in"]]
    await world.pull(calendar_id)
    due_in.append((await world.task("pull", calendar_id))["due_in"])

    assert all(0.84 * HOUR < one < 1.16 * HOUR for one in due_in)
    assert abs(due_in[0] - due_in[1]) > timedelta(milliseconds=50)


async def test_a_calendar_whose_channel_is_lost_is_polled_ever_more_rarely(
    still_world: World,
) -> None:
    world = still_world
    world.twin.switchboard.answer("events.watch", 503, times=None)
    calendar_id = await world.switch_on()
    await world.watch(calendar_id)
    polls: list[float] = []

    for half_minute in range(240):
        polls += [half_minute / 2 for _ in await world.work("pull")]
        await world.advance(seconds=30)

    # The first one is the reading that a switch asks for.
    assert 10 <= len([at for at in polls if at < 15]) <= 17
    assert 7 <= len([at for at in polls if 15 <= at < 60]) <= 12
    assert 2 <= len([at for at in polls if at >= 75]) <= 5


async def test_a_calendar_that_is_never_polled_says_so_while_its_channel_lives(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await world.switch_on(poll_every=timedelta(0))
    await world.work()

    [gap] = await gaps(world)

    assert gap["gap"] == "it is never polled: what no push announces is not noticed"
    # Once a week all the same, give or take 15 %.
    due_in = (await world.task("pull", calendar_id))["due_in"]
    assert 7 * 0.85 * DAY - MINUTE < due_in < 7 * 1.15 * DAY
    await world.change(calendar_id, poll_every=None)
    assert await gaps(world) == []


# The budget: half of what the provider grants our project.


async def set_budget(world: World, polls_a_minute: float) -> None:
    await world.database.execute(
        "update sync.poll_budgets set polls_a_minute = $1", polls_a_minute
    )


async def demand(world: World) -> tuple[float, float]:
    """What calendars wish for, and what the others would take, in polls a minute."""
    row = await world.database.fetchrow(
        "select wished, adaptive from sync.poll_budgets where provider = 'google'"
    )
    assert row is not None
    return round(row["wished"], 3), round(row["adaptive"], 3)


async def switched_on(world: World, count: int, **columns: object) -> list[UUID]:
    connection_id = await world.connect()
    calendars = [world.account.primary] + [
        world.account.add_calendar(f"Calendar {n}") for n in range(1, count)
    ]
    return [
        await world.switch_on(calendar, connection_id=connection_id, **columns)
        for calendar in calendars
    ]


async def poll(world: World, calendar_id: UUID) -> timedelta:
    """A poll that finds nothing; returns when the next one is due."""
    await world.pull(calendar_id, lane=2)
    due_in: timedelta = (await world.task("pull", calendar_id))["due_in"]
    return due_in


async def test_polls_have_half_of_what_google_grants_a_project(
    world: World,
) -> None:
    budgets = await world.database.fetch(
        "select provider, polls_a_minute from sync.poll_budgets"
    )

    # 10,000 a minute. The others count by mailbox, user or key.
    assert [tuple(budget) for budget in budgets] == [("google", 5000)]


async def test_polls_stretch_alike_where_the_budget_is_short(
    still_world: World,
) -> None:
    world = still_world
    calendars = await switched_on(world, 3)
    await add_channel(world, calendars[1], "active")
    await set_state(world, calendars[1], announced=20)
    for calendar_id in calendars:
        await set_state(world, calendar_id, channel_lost_at=world.clock.now())
    await poll(world, calendars[0])
    await set_budget(world, 0.5)
    asked = 1 + 1 / 60 + 1
    assert await demand(world) == (0, round(asked, 3))

    stretched = [await polled_in(world, one) for one in calendars]

    factor = asked / 0.5
    seconds = [interval.total_seconds() for interval in stretched]
    assert seconds == pytest.approx([60 * factor, 3600 * factor, 60 * factor])
    due_in = await poll(world, calendars[0])
    assert 0.84 * stretched[0] < due_in < 1.16 * stretched[0]


async def test_polls_of_all_calendars_stay_within_the_budget(
    still_world: World,
) -> None:
    world = still_world
    calendars = await switched_on(world, 6, poll_every=None)
    for calendar_id in calendars:
        await synced_as_it_is(world, calendar_id)
    await set_budget(world, 0.1)  # they would take 6 / 15
    world.twin.calls.records.clear()

    for _ in range(24 * 3):
        await world.advance(minutes=20)
        await world.work("pull")

    assert 0.1 * 60 * 24 * 0.7 < world.twin.calls.count("events.list") < 0.1 * 60 * 24


async def synced_as_it_is(world: World, calendar_id: UUID) -> None:
    assert (await world.pull(calendar_id)).outcome
    # Nothing but polls are to be counted.
    await set_state(world, calendar_id, window_rolls_at=world.clock.now() + 90 * DAY)


async def test_nobody_waits_longer_than_a_day_for_want_of_quota(
    still_world: World,
) -> None:
    world = still_world
    adaptive, wished, rare = await switched_on(world, 3)
    await world.change(wished, poll_every=MINUTE)
    await world.change(rare, poll_every=7 * DAY)
    await poll(world, adaptive)

    await set_budget(world, 0.000_001)

    assert await polled_in(world, adaptive) == DAY
    assert await polled_in(world, wished) == DAY
    assert await polled_in(world, rare) == 7 * DAY  # as it wishes


async def test_what_users_wish_is_served_first_but_not_all_of_the_budget(
    still_world: World,
) -> None:
    world = still_world
    adaptive, wished, other = await switched_on(world, 3)
    await world.change(wished, poll_every=MINUTE)
    await world.change(other, poll_every=MINUTE)
    await poll(world, adaptive)
    assert await demand(world) == (2, round(1 / 15, 3))

    await set_budget(world, 8 / 3)  # three quarters of it are 2
    assert await polled_in(world, wished) == MINUTE
    assert await polled_in(world, adaptive) == 15 * MINUTE

    await set_budget(world, 4 / 3)
    assert await polled_in(world, wished) == 2 * MINUTE
    # A quarter is left for those who wish for nothing: more than they need.
    assert await polled_in(world, adaptive) == 15 * MINUTE

    await set_budget(world, 4 / 30)
    assert await polled_in(world, adaptive) == 30 * MINUTE


async def test_what_is_not_polled_takes_nothing_of_the_budget(
    still_world: World,
) -> None:
    world = still_world
    counted, off, never, resting = [
        (await switched_on(world, 1, poll_every=MINUTE))[0] for _ in range(4)
    ]
    await world.change(off, sync_enabled=False)
    await world.change(never, poll_every=timedelta(0))
    await add_channel(world, never, "active")
    await world.database.execute(
        "update public.calendar_connections as connection set status = 'needs_reauth' "
        "from public.calendars as calendar "
        "where calendar.connection_id = connection.id and calendar.id = $1",
        resting,
    )

    await poll(world, counted)

    assert await demand(world) == (1, 0)


async def test_polls_are_counted_once_a_minute_and_by_nobody_who_found_something(
    still_world: World,
) -> None:
    world = still_world
    first, _ = await switched_on(world, 2, poll_every=MINUTE)
    await world.pull(first, lane=1)  # announced: somebody waits
    assert await demand(world) == (0, 0)
    await poll(world, first)
    assert await demand(world) == (2, 0)

    await world.change(first, poll_every=2 * MINUTE)
    await world.advance(seconds=59)
    await poll(world, first)
    assert await demand(world) == (2, 0)
    await world.advance(seconds=1)
    await poll(world, first)
    assert await demand(world) == (1.5, 0)


async def test_who_polls_does_not_wait_for_who_counts(
    world: World, connect: Connect
) -> None:
    first, second = await switched_on(world, 2)
    counting = await connect()

    async with counting.transaction():
        await counting.execute("select from sync.poll_budgets for update")
        async with asyncio.timeout(5):
            await poll(world, first)
            await poll(world, second)

    assert await demand(world) == (0, 0)
