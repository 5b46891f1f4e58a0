"""Channels whose id at Google begins with a prefix of the application's choice."""

from collections.abc import AsyncIterator

import pytest

from tests.support.channels import live_channel, rows
from tests.support.eventually import eventually
from tests.support.sync import World, receiving
from tests.worker.test_watch import delivered, live

PREFIX = "Salon_7+eu/of=all-28-chars-x"


def use_prefix(world: World, prefix: str | None) -> None:
    """Restart the worker with another prefix."""
    world.settings = world.settings.model_copy(
        update={"supacal_channel_prefix": prefix}
    )


@pytest.fixture
async def prefixed(still_world: World, database_url: str) -> AsyncIterator[World]:
    """A world with a prefix, in which Google's pushes arrive."""
    use_prefix(still_world, PREFIX)
    async with receiving(still_world, database_url):
        yield still_world


async def test_google_is_given_the_prefix_and_its_pushes_are_ours(
    prefixed: World,
) -> None:
    world = prefixed
    assert len(PREFIX) == 28
    calendar_id = await world.switch_on()
    await world.work()

    channel = await live_channel(world, calendar_id)
    assert live(world) == [f"{PREFIX}{channel['id']}"]
    assert channel["provider_channel_id"] == f"{PREFIX}{channel['id']}"
    await eventually(lambda: delivered(world))
    assert [push.status for push in delivered(world)] == [200]
    assert (await live_channel(world, calendar_id))["hello_at"] is not None


@pytest.mark.parametrize("later", [None, "another-"])
async def test_a_channel_is_stopped_by_the_id_it_was_made_with(
    prefixed: World, later: str | None
) -> None:
    world = prefixed
    calendar_id = await world.switch_on()
    await world.work()
    use_prefix(world, later)
    await world.change(calendar_id, sync_enabled=False)

    await world.work()

    assert await world.channels(calendar_id) == ["stopped"]
    assert live(world) == []


async def test_a_renewed_channel_has_the_prefix_of_its_own_time(
    prefixed: World,
) -> None:
    world = prefixed
    calendar_id = await world.switch_on()
    await world.work()
    use_prefix(world, "another-")

    await world.advance(days=6)
    await world.work("watch")

    assert await world.channels(calendar_id) == ["stopped", "active"]
    channel = await live_channel(world, calendar_id)
    assert live(world) == [f"another-{channel['id']}"]


async def test_a_channel_whose_answer_was_lost_is_stopped_by_the_id_it_was_given(
    prefixed: World,
) -> None:
    world = prefixed
    calendar_id = await world.switch_on()
    world.twin.switchboard.cut("events.watch")
    assert (await world.watch(calendar_id)).error
    (lost,) = live(world)
    await eventually(lambda: delivered(world))
    use_prefix(world, "another-")

    await world.advance(minutes=1)
    await world.work("watch")

    assert await world.channels(calendar_id) == ["stopped", "active"]
    assert lost not in live(world)
    assert len(live(world)) == 1


async def test_who_borrows_a_channel_is_shown_the_id_that_google_knows(
    prefixed: World,
) -> None:
    world = prefixed
    lender, borrower = await world.switch_on(), await world.switch_on()
    await world.work()
    (made,) = live(world)
    shown = {
        row["provider_channel_id"]
        for calendar_id in (lender, borrower)
        for row in await rows(world, calendar_id)
    }
    assert shown == {made}
