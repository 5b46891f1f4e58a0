"""Promises of a watch where organizations share a calendar: one channel serves all."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.channels import gaps, live_channel, rows
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sync import World, assert_mirrors, receiving

DAY = timedelta(days=1)


@pytest.fixture
async def pushed(still_world: World, database_url: str) -> AsyncIterator[World]:
    """A world in which Google's pushes arrive, and where time stands."""
    async with receiving(still_world, database_url):
        yield still_world


@pytest.fixture
async def pair(pushed: World) -> tuple[UUID, UUID]:
    """One calendar of one account in two organizations: who lends, who borrows."""
    lender = await pushed.switch_on()
    await pushed.work()
    borrower = await pushed.switch_on()
    await pushed.work()
    return lender, borrower


def live(world: World) -> list[str]:
    """The ids of the channels that Google would push to."""
    return [
        channel.id
        for channel in world.twin.channels.by_id.values()
        if channel.stopped_at is None and world.twin.channels.is_live(channel)
    ]


async def set_status(world: World, calendar_id: UUID, status: str) -> None:
    """What becomes of the connection of a calendar."""
    await world.database.execute(
        "update public.calendar_connections as connection set status = $2 "
        "from public.calendars as calendar "
        "where calendar.connection_id = connection.id and calendar.id = $1",
        calendar_id,
        status,
    )


async def hears(world: World, *calendars: UUID) -> bool:
    """Whether a change is announced to all of these, and read."""

    async def are_asked() -> bool:
        asked = [await world.task("pull", calendar_id) for calendar_id in calendars]
        return all(task["lane"] == 1 and task["lease"] is None for task in asked)

    world.account.primary.add("Announced", coming(3))
    await eventually(are_asked)
    await world.work("pull")
    for calendar_id in calendars:
        await assert_mirrors(world.database, calendar_id, world.account.primary)
    return True


# One for all.


async def test_two_organizations_with_one_calendar_share_a_channel(
    pushed: World, pair: tuple[UUID, UUID]
) -> None:
    world, (lender, borrower) = pushed, pair

    lent, borrowed = [await live_channel(world, one) for one in pair]
    assert live(world) == [str(lent["id"])]
    assert world.twin.calls.count("events.watch") == 1
    assert borrowed["heard_as"] == lent["id"]
    for name in ("resource_id", "provider_channel_id", "expires_at"):
        assert borrowed[name] == lent[name]
    assert await gaps(world) == []
    assert await hears(world, lender, borrower)
    for calendar_id in pair:
        assert len(await world.meetings(calendar_id)) == 1
    organizations = "select count(distinct organization_id) from public.meetings"
    assert await world.database.fetchval(organizations) == 2


async def test_the_same_calendar_of_another_account_has_its_own_channel(
    pushed: World,
) -> None:
    world = pushed
    first = await world.switch_on()
    connection_id = await world.connect()
    await world.database.execute(
        "update public.calendar_connections set account_email = 'bob@example.org' "
        "where id = $1",
        connection_id,
    )
    second = await world.switch_on(connection_id=connection_id)

    await world.work()

    assert len(live(world)) == 2
    for calendar_id in (first, second):
        assert (await live_channel(world, calendar_id))["heard_as"] is None


async def test_who_borrows_and_is_switched_off_takes_nothing_away(
    pushed: World, pair: tuple[UUID, UUID]
) -> None:
    world, (lender, borrower) = pushed, pair

    await world.change(borrower, sync_enabled=False)
    await world.work()

    assert world.twin.calls.count("channels.stop") == 0
    assert await world.channels(borrower) == ["stopped"]
    assert await hears(world, lender)


# Whoever lends renews.


async def test_a_renewed_channel_takes_those_along_who_borrow_it(
    pushed: World, pair: tuple[UUID, UUID]
) -> None:
    world, (lender, borrower) = pushed, pair

    for _ in range(20):
        await world.advance(days=1)
        await world.work()

    lent, borrowed = [await live_channel(world, one) for one in pair]
    assert live(world) == [str(lent["id"])]
    assert borrowed["heard_as"] == lent["id"]
    assert borrowed["expires_at"] == lent["expires_at"] > world.clock.now()
    assert await world.channels(borrower) == ["active"]
    assert await gaps(world) == []
    assert await hears(world, lender, borrower)


async def test_the_borrowed_end_of_a_channel_is_the_end_of_the_lent_one(
    pushed: World, pair: tuple[UUID, UUID]
) -> None:
    world, (lender, borrower) = pushed, pair
    world.twin.switchboard.answer("events.watch", 503, times=None)
    await world.advance(days=7, minutes=1)

    await world.work("watch")

    for calendar_id in (lender, borrower):
        assert (await world.channels(calendar_id))[0] == "expired"
        assert (await world.state(calendar_id))["channel_lost_at"] is not None
    assert len(await gaps(world)) == 2
    world.account.primary.add("Unannounced", coming())

    world.twin.switchboard.clear()
    for _ in range(3):
        await world.advance(hours=1)
        await world.work()

    assert len(live(world)) == 1
    assert await gaps(world) == []
    assert await hears(world, lender, borrower)


# Whoever lends may go.


async def test_who_lends_and_is_switched_off_leaves_the_other_watched(
    pushed: World, pair: tuple[UUID, UUID]
) -> None:
    world, (lender, borrower) = pushed, pair
    await world.change(lender, sync_enabled=False)
    await world.watch(lender)
    assert live(world) == []
    world.account.primary.add("Unannounced", coming())

    kinds = [ended.task.kind for ended in await world.work("watch")]
    await world.work()

    assert kinds == ["watch"]
    channel = await live_channel(world, borrower)
    assert live(world) == [str(channel["id"])]
    assert channel["heard_as"] is None
    await assert_mirrors(world.database, borrower, world.account.primary)
    assert await gaps(world) == []
    assert await hears(world, borrower)


@pytest.mark.parametrize("status", ["needs_reauth", "paused", "revoked"])
async def test_who_lends_and_loses_access_leaves_the_other_watched(
    pushed: World, pair: tuple[UUID, UUID], status: str
) -> None:
    world, (lender, borrower) = pushed, pair
    await world.advance(seconds=1)
    await set_status(world, lender, status)
    world.account.primary.add("Unannounced", coming())

    await world.work()

    assert await world.channels(borrower) == ["expired", "active"]
    made = await live_channel(world, borrower)
    assert made["heard_as"] is None
    await assert_mirrors(world.database, borrower, world.account.primary)

    # Who comes back borrows, and what it lent is ended.
    await world.advance(seconds=1)
    await set_status(world, lender, "active")
    await world.work()
    assert live(world) == [str(made["id"])]
    assert await world.channels(lender) == ["stopped", "active"]
    assert (await live_channel(world, lender))["heard_as"] == made["id"]
    assert await hears(world, lender, borrower)


@pytest.mark.parametrize("table", ["calendars", "calendar_connections"])
async def test_who_lends_and_is_gone_leaves_the_other_watched(
    pushed: World, pair: tuple[UUID, UUID], table: str
) -> None:
    world, (lender, borrower) = pushed, pair
    ours = "id" if table == "calendars" else "connection_id"
    await world.database.execute(
        f"delete from public.{table} "
        f"where id = (select {ours} from public.calendars where id = $1)",
        lender,
    )

    await world.work()

    assert str((await live_channel(world, borrower))["id"]) in live(world)
    assert await hears(world, borrower)


@pytest.mark.parametrize("goes", ["who lends", "who borrows"])
async def test_who_goes_takes_no_grant_along_that_another_connection_needs(
    pushed: World, pair: tuple[UUID, UUID], goes: str
) -> None:
    """Google would revoke all of an account's grants for the application at once."""
    world, (lender, borrower) = pushed, pair
    gone, stays = (lender, borrower) if goes == "who lends" else (borrower, lender)
    await world.database.execute(
        "delete from public.calendar_connections "
        "where id = (select connection_id from public.calendars where id = $1)",
        gone,
    )
    await world.work()
    await world.advance(hours=2)  # the access token is over by then
    renewed = world.twin.calls.count("token")

    assert await hears(world, stays)

    assert world.twin.calls.count("revoke") == 0
    assert world.twin.calls.count("token") > renewed
    assert await world.alerts() == set()


async def test_of_several_who_borrowed_one_makes_the_next_channel(
    pushed: World, pair: tuple[UUID, UUID]
) -> None:
    world, (lender, borrower) = pushed, pair
    third = await world.switch_on()
    await world.work()
    await world.change(lender, sync_enabled=False)
    await world.watch(lender)

    world.twin.switchboard.slow("events.watch", 0.2)
    tasks = [await world.claim("watch", one) for one in (borrower, third)]
    ended = await asyncio.gather(*map(world.run, tasks))

    assert [one.error for one in ended] == [None, None]
    assert len(live(world)) == 1
    await world.advance(seconds=4)
    await world.work()
    assert world.twin.calls.count("events.watch") == 2
    heard_as = [
        (await live_channel(world, one))["heard_as"] for one in (borrower, third)
    ]
    assert heard_as.count(None) == 1
    assert await gaps(world) == []
    assert await hears(world, borrower, third)


# Races.


async def test_two_watches_at_once_make_one_channel(pushed: World) -> None:
    world = pushed
    calendars = [await world.switch_on(), await world.switch_on()]
    tasks = [await world.claim("watch", one) for one in calendars]
    world.twin.switchboard.slow("events.watch", 0.2)

    await asyncio.gather(*map(world.run, tasks))

    assert world.twin.calls.count("events.watch") == 1
    # Whoever waits is read meanwhile, and does not wait for long.
    await world.work("pull")
    for calendar_id in calendars:
        await assert_mirrors(world.database, calendar_id, world.account.primary)
    assert len(await gaps(world)) == 1
    await world.advance(seconds=4)
    await world.work()
    assert world.twin.calls.count("events.watch") == 1
    assert await gaps(world) == []
    assert await hears(world, *calendars)


async def test_where_the_one_fails_the_other_makes_the_channel(pushed: World) -> None:
    world = pushed
    calendars = [await world.switch_on(), await world.switch_on()]
    world.twin.switchboard.cut("events.watch")
    first = await world.claim("watch", calendars[0])

    assert (await world.run(first)).error
    assert (await world.watch(calendars[1])).outcome

    assert await world.channels(calendars[1]) == ["active"]
    for _ in range(4):
        await world.advance(minutes=10)
        await world.work()
    # What the first one's hello named is stopped.
    lent = await live_channel(world, calendars[1])
    assert live(world) == [str(lent["id"])]
    assert (await live_channel(world, calendars[0]))["heard_as"] == lent["id"]
    assert await gaps(world) == []


async def test_nobody_waits_for_a_worker_that_died_while_it_made_the_channel(
    pushed: World,
) -> None:
    world = pushed
    calendars = [await world.switch_on(), await world.switch_on()]
    dead = await world.claim("watch", calendars[0])
    await world.database.execute(
        "select sync.open_or_borrow($1, $2, $3, 'k1', 'https://hooks.test')",
        dead.id,
        dead.lease,
        calendars[0],
    )
    assert (await world.watch(calendars[1])).outcome
    assert await world.channels(calendars[1]) == []  # its lease may be renewed

    await world.advance(minutes=2)
    await world.work()

    assert len(live(world)) == 1
    assert await gaps(world) == []


async def test_what_was_never_answered_keeps_nobody_waiting(pushed: World) -> None:
    world = pushed
    calendars = [await world.switch_on(), await world.switch_on()]
    held = [await world.claim("watch", one) for one in calendars]
    opened = "select channel_id from sync.open_or_borrow($1, $2, $3, 'k1', 'https://h')"
    for task, calendar_id in zip(held, calendars, strict=True):
        await world.database.execute(opened, task.id, task.lease, calendar_id)
        # As a worker leaves it that dies.
        await world.database.execute(
            "update sync.tasks set lease = null where id = $1", task.id
        )

    # Both are at it again at once, each with what it left behind.
    tasks = [await world.claim("watch", one) for one in calendars]
    answers = [
        await world.database.fetchval(opened, task.id, task.lease, calendar_id)
        for task, calendar_id in zip(tasks, calendars, strict=True)
    ]

    assert answers.count(None) == 1
    reasons = {row["status_reason"] for row in await rows(world, calendars[0])}
    assert "nobody answered when it was to be made" in reasons
