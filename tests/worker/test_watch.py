"""Promises of a watch: a calendar has the channel that its switch says, or a reason."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from local_stack.twins.google import PushRecord
from runtime.sealing import Keyring
from tests.support.channels import gaps, rows
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sync import World, assert_mirrors, receiving, synced

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def pushed(world: World, database_url: str) -> AsyncIterator[World]:
    """A world in which Google's pushes arrive."""
    async with receiving(world, database_url):
        yield world


@pytest.fixture
async def still_pushed(still_world: World, database_url: str) -> AsyncIterator[World]:
    """The same, where time stands."""
    async with receiving(still_world, database_url):
        yield still_world


def live(world: World) -> list[str]:
    """The ids of the channels that Google would push to."""
    return [
        channel.id
        for channel in world.twin.channels.by_id.values()
        if channel.stopped_at is None and world.twin.channels.is_live(channel)
    ]


def delivered(world: World) -> list[PushRecord]:
    return [push for push in world.twin.pushes.log if push.outcome == "delivered"]


# The switch.


async def test_switched_on_a_calendar_is_watched_and_then_read(pushed: World) -> None:
    world = pushed
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await world.switch_on(calendar)
    assert len(await gaps(world)) == 1

    kinds = [ended.task.kind for ended in await world.work()]

    assert kinds == ["watch", "pull"]
    assert await world.channels(calendar_id) == ["active"]
    assert live(world) == [str((await rows(world, calendar_id))[0]["id"])]
    assert await gaps(world) == []
    await eventually(lambda: delivered(world))
    calendar.add("Announced", coming(2))
    await eventually(lambda: len(delivered(world)) == 2)
    assert [ended.task.lane for ended in await world.work()] == [1]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_switched_off_its_channels_are_stopped(world: World) -> None:
    calendar_id = await world.switch_on()
    await world.work()

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert await world.channels(calendar_id) == ["stopped"]
    assert live(world) == []
    assert await world.task("watch", calendar_id) is None


async def test_switched_off_and_on_again_it_is_watched_and_read_again(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar_id = await world.switch_on(calendar)
    await world.work()
    await world.change(calendar_id, sync_enabled=False)
    await world.work()
    await world.pull(calendar_id)  # ends its task
    calendar.add("Meanwhile", coming())

    await world.change(calendar_id, sync_enabled=True)
    await world.work()

    assert await world.channels(calendar_id) == ["stopped", "active"]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_switched_off_and_on_before_anybody_looked_it_is_still_polled(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar_id = await world.switch_on(calendar)
    await world.work()
    await world.change(calendar_id, sync_enabled=False)
    await world.pull(calendar_id)  # ends its task
    await world.change(calendar_id, sync_enabled=True)

    await world.work()

    assert await world.channels(calendar_id) == ["active"]
    assert await world.task("pull", calendar_id) is not None


async def test_a_calendar_without_tokens_can_be_switched_off(world: World) -> None:
    calendar_id = await world.switch_on()
    await world.database.execute("delete from sync.credentials")
    await world.change(calendar_id, sync_enabled=False)

    ended = await world.watch(calendar_id)

    assert ended.outcome is not None
    assert await world.task("watch", calendar_id) is None
    assert await world.alerts() == set()


# Hellos and lost answers.


async def test_a_hello_that_beats_the_answer_is_no_strangers(pushed: World) -> None:
    world = pushed
    world.twin.behaviour.hello_before_answer = True
    calendar_id = await world.switch_on()

    await world.watch(calendar_id)

    assert [push.status for push in delivered(world)] == [200]
    channel = (await rows(world, calendar_id))[0]
    assert channel["hello_at"] is not None
    assert channel["status"] == "active"


async def test_a_channel_whose_answer_was_lost_is_stopped_by_its_hello(
    pushed: World,
) -> None:
    world = pushed
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await world.switch_on(calendar)
    world.twin.switchboard.cut("events.watch")

    assert (await world.watch(calendar_id)).error

    lost = live(world)
    assert len(lost) == 1
    assert await world.channels(calendar_id) == ["pending"]
    # Nobody waits for the channel: the calendar is read, and polled.
    await world.work("pull")
    await assert_mirrors(world.database, calendar_id, calendar)
    due_in = (await world.task("pull", calendar_id))["due_in"]
    assert due_in < timedelta(minutes=1.2)
    [gap] = await gaps(world)
    assert gap["gap"] == "the channel is pending"
    assert "google events.watch" in gap["reason"]

    await eventually(lambda: delivered(world))
    assert (await world.watch(calendar_id)).outcome

    assert await world.channels(calendar_id) == ["stopped", "active"]
    assert set(live(world)).isdisjoint(lost)
    assert await gaps(world) == []


async def test_a_channel_that_never_spoke_is_given_up_after_a_while(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await world.switch_on()
    world.twin.switchboard.cut("events.watch", after=False)
    assert (await world.watch(calendar_id)).error
    await world.advance(seconds=5)

    assert (await world.watch(calendar_id)).outcome

    assert await world.channels(calendar_id) == ["pending", "active"]
    due_in = (await world.task("watch", calendar_id))["due_in"]
    assert due_in <= timedelta(minutes=10)
    await world.advance(minutes=11)
    await world.work("watch")
    assert await world.channels(calendar_id) == ["failed", "active"]
    assert (await world.task("watch", calendar_id))["due_in"] > DAY
    assert (await world.state(calendar_id))["channel_lost_at"] is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "rateLimitExceeded"),
        (400, "push.webhookUrlNotHttps"),
        (401, "push.webhookUrlUnauthorized"),
        (403, "forbidden"),
    ],
)
async def test_a_refused_channel_has_failed_and_says_why(
    world: World, status: int, reason: str
) -> None:
    calendar_id = await world.switch_on()
    world.twin.switchboard.answer("events.watch", status, reason=reason)

    assert (await world.watch(calendar_id)).error

    [channel] = await rows(world, calendar_id)
    assert channel["status"] == "failed"
    assert reason in channel["status_reason"]
    [gap] = await gaps(world)
    assert reason in gap["reason"]
    task = await world.task("pull", calendar_id)
    assert task["due_in"] <= timedelta(0)
    assert (await world.watch(calendar_id)).outcome
    assert await gaps(world) == []


async def test_what_google_refused_is_tried_again_as_the_same_channel(
    world: World,
) -> None:
    calendar_id = await world.switch_on()
    world.twin.switchboard.answer(
        "events.watch", 400, reason="push.webhookUrlNotHttps", times=2
    )

    for _ in range(2):
        assert (await world.watch(calendar_id)).error
    assert (await world.watch(calendar_id)).outcome

    assert await world.channels(calendar_id) == ["active"]


async def test_an_id_that_google_knows_is_never_used_again(still_world: World) -> None:
    world = still_world
    calendar_id = await world.switch_on()
    world.twin.switchboard.answer("events.watch", 400, reason="channelIdNotUnique")

    assert (await world.watch(calendar_id)).error
    await world.advance(seconds=1)
    assert (await world.watch(calendar_id)).outcome

    assert await world.channels(calendar_id) == ["failed", "active"]


async def test_with_a_new_key_a_channel_is_made_with_it_when_its_time_comes(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await world.switch_on()
    await world.work()
    keys = world.settings.supacal_secret_keys.get_secret_value()
    world.settings = world.settings.model_copy(
        update={"supacal_secret_keys": SecretStr(f"{Keyring.generate('k2')},{keys}")}
    )
    vars(world.settings).pop("keyring")  # of the settings it was copied from
    await world.advance(days=5)

    await world.work("watch")

    assert await world.channels(calendar_id) == ["stopped", "active"]
    [_, made] = await rows(world, calendar_id)
    assert made["key_id"] == "k2"
    assert live(world) == [str(made["id"])]


async def test_a_calendar_that_cannot_be_watched_is_polled_hourly_and_says_so(
    world: World,
) -> None:
    calendar = world.account.add_calendar("Holidays", generated=True)
    calendar_id = await world.switch_on(calendar)

    await world.work()

    [channel] = await rows(world, calendar_id)
    assert channel["status"] == "unwatchable"
    assert "pushNotSupportedForRequestedResource" in channel["status_reason"]
    assert await gaps(world) == []  # the reason is stated
    assert (await world.task("watch", calendar_id))["due_in"] > 6 * DAY
    due_in = (await world.task("pull", calendar_id))["due_in"]
    assert 0.8 * HOUR < due_in < 1.2 * HOUR
    # Switched off and on again it is read again.
    await world.change(calendar_id, sync_enabled=False)
    await world.work()
    await world.pull(calendar_id)
    await world.change(calendar_id, sync_enabled=True)
    await world.work()
    assert (await world.task("pull", calendar_id))["due_in"] > 0.8 * HOUR
    # Zero switches polls off where a channel lives, and only there.
    await world.change(calendar_id, poll_every=timedelta(0))
    await world.pull(calendar_id)
    assert (await world.task("pull", calendar_id))["due_in"] < 1.2 * HOUR
    assert await gaps(world) == []


async def test_a_channel_that_google_does_not_let_us_stop_is_given_up(
    world: World,
) -> None:
    calendar_id = await world.switch_on()
    await world.work()
    world.twin.switchboard.answer("channels.stop", 403, reason="forbidden", times=None)

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert await world.channels(calendar_id) == ["failed"]
    assert await world.task("watch", calendar_id) is None


async def test_a_stop_that_was_not_answered_is_repeated(world: World) -> None:
    calendar_id = await world.switch_on()
    await world.work()
    await world.change(calendar_id, sync_enabled=False)
    world.twin.switchboard.cut("channels.stop")

    assert (await world.watch(calendar_id)).error
    assert await world.channels(calendar_id) == ["active"]
    assert (await world.watch(calendar_id)).outcome

    assert await world.channels(calendar_id) == ["stopped"]


# Renewal.


@pytest.mark.parametrize(
    ("life", "lead", "expected"),
    [
        (7 * DAY, None, 3.5 * DAY),
        (7 * DAY, DAY, 6 * DAY),
        (7 * DAY, 5 * DAY, 3.5 * DAY),  # a longer lead than half of the life
        (HOUR, timedelta(minutes=1), timedelta(minutes=59)),
        (0.5 * HOUR, None, 0.5 * HOUR),
        (0.9 * HOUR, None, 0.5 * HOUR),  # not within half an hour of its birth
        (timedelta(minutes=10), None, timedelta(minutes=10)),
        (None, None, None),
    ],
)
async def test_a_channel_is_renewed_at_half_its_life_or_later_as_wished(
    world: World,
    life: timedelta | None,
    lead: timedelta | None,
    expected: timedelta | None,
) -> None:
    after = await world.database.fetchval(
        "select sync.renewal_point(at, at + $1::interval, $2) - at "
        "from (select sync.clock() as at) as born",
        life,
        lead,
    )
    assert after == expected


async def test_a_channel_is_replaced_before_it_runs_out_and_then_stopped(
    still_pushed: World,
) -> None:
    world = still_pushed
    calendar = world.account.primary
    calendar_id = await world.switch_on(
        calendar, channel_lifetime=DAY, renew_before=HOUR
    )
    await world.work()
    [first] = await rows(world, calendar_id)
    assert first["expires_at"] - world.clock.now() <= DAY
    due_in = (await world.task("watch", calendar_id))["due_in"]
    assert 23 * HOUR - timedelta(seconds=1) <= due_in < 24 * HOUR

    await world.advance(seconds=due_in.total_seconds())
    calendar.add("Meanwhile", coming())
    kinds = [ended.task.kind for ended in await world.work()]

    assert "watch" in kinds
    assert "pull" in kinds
    assert await world.channels(calendar_id) == ["stopped", "active"]
    assert live(world) == [str((await rows(world, calendar_id))[1]["id"])]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_a_channel_that_ran_out_while_google_was_away_is_polled_for(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await world.switch_on(channel_lifetime=DAY, poll_every=timedelta(0))
    await world.work()
    world.twin.switchboard.answer("events.watch", 503, times=None)
    await world.advance(days=1, minutes=2)

    await world.work("watch")

    assert await world.channels(calendar_id) == ["expired", "pending"]
    assert (await world.state(calendar_id))["channel_lost_at"] is not None
    await world.work("pull")
    due_in = (await world.task("pull", calendar_id))["due_in"]
    assert due_in < timedelta(minutes=1.2)
    [gap] = await gaps(world)
    assert "503" in gap["reason"]

    world.twin.switchboard.clear()
    await world.watch(calendar_id)
    assert [gap["reason"] for gap in await gaps(world)] == ["poll_every is zero"]
    assert (await world.state(calendar_id))["channel_lost_at"] is None


async def test_with_a_new_grant_channels_of_the_old_one_are_made_anew(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await world.switch_on()
    await world.work()
    connections = "update public.calendar_connections set status = $1"
    await world.database.execute(connections, "needs_reauth")
    await world.advance(minutes=1)

    await world.database.execute(connections, "active")
    await world.work()

    assert await world.channels(calendar_id) == ["stopped", "active"]


# Pushes.


async def test_what_is_pushed_during_a_pull_makes_one_more(pushed: World) -> None:
    world = pushed
    calendar = world.account.primary
    calendar_id = await world.switch_on(calendar)
    await world.work()
    await eventually(lambda: delivered(world))
    task = await world.claim("pull", calendar_id)

    for n in range(3):
        calendar.add(f"Visit {n}", coming(hour=8 + n))
    await eventually(lambda: len(delivered(world)) == 4)
    await world.run(task)

    assert [ended.task.lane for ended in await world.work()] == [1]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_pushes_on_a_stopped_channel_are_ignored(pushed: World) -> None:
    world = pushed
    calendar = world.account.primary
    calendar_id = await synced(world, calendar)
    await world.watch(calendar_id)
    await world.work()
    await world.change(calendar_id, sync_enabled=False)
    await world.work()
    stored = "select count(*) from sync.webhook_deliveries where kind = 'change'"

    calendar.add("Late", coming())  # the stopped channel lingers
    await eventually(lambda: len(delivered(world)) == 2)

    assert await world.database.fetchval(stored) == 0
