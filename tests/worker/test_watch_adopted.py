"""Channels that an older system had Google make: from its last push to our first."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from local_stack.twins.google import Account
from tests.support.adopting import OLD_ID, OLD_TOKEN, take_over
from tests.support.channels import gaps, live_channel, rows
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sync import HOOKS_URL, TWIN_URL, World, assert_mirrors, receiving

OLD_ADDRESS = f"{HOOKS_URL}/api/calendar/webhook"


class Older:
    """The system that was there before: it has its own grant, of the same client."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._token = account.sign_in().access_token

    async def watch(self, calendar_id: str) -> dict[str, Any]:
        answer = await self._world.http.post(
            f"{TWIN_URL}/calendar/v3/calendars/{calendar_id}/events/watch",
            headers={"authorization": f"Bearer {self._token}"},
            json={
                "id": OLD_ID,
                "type": "web_hook",
                "token": OLD_TOKEN,
                "address": OLD_ADDRESS,
            },
        )
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made


async def take_over_of(world: World, calendar_id: UUID, made: dict[str, Any]) -> UUID:
    """As docs/providers/google.md says."""
    ends = await world.database.fetchval(
        "select to_timestamp($1 / 1000.0)", int(made["expiration"])
    )
    assert isinstance(ends, datetime)
    return await take_over(
        world.database,
        calendar_id,
        resource_id=made["resourceId"],
        expires_at=ends,
    )


def live(world: World) -> set[str]:
    """The ids of the channels that Google would push to."""
    return {
        channel.id
        for channel in world.twin.channels.by_id.values()
        if channel.stopped_at is None and world.twin.channels.is_live(channel)
    }


@pytest.fixture
async def taken(still_world: World) -> tuple[World, UUID, UUID]:
    """A calendar that is switched on, whose channel an older system made."""
    world = still_world
    made = await Older(world, world.account).watch(world.account.primary.id)
    calendar_id = await world.switch_on()
    channel_id = await take_over_of(world, calendar_id, made)
    await world.work()
    return world, calendar_id, channel_id


@pytest.fixture
async def pushed(
    taken: tuple[World, UUID, UUID], database_url: str
) -> AsyncIterator[tuple[World, UUID, UUID]]:
    """The same, where Google's pushes arrive."""
    async with receiving(taken[0], database_url):
        yield taken


async def test_until_its_renewal_it_is_the_only_channel_and_wakes_the_pull(
    pushed: tuple[World, UUID, UUID],
) -> None:
    world, calendar_id, channel_id = pushed
    calendar = world.account.primary
    assert live(world) == {OLD_ID}
    assert await gaps(world) == []

    calendar.add("Announced to the older system", coming())
    stored = "select count(*) from sync.webhook_deliveries where channel_id = $1"
    await eventually(
        lambda: world.database.fetchval(f"{stored} and kind = 'change'", channel_id)
    )

    ended = await world.work()
    assert [(one.task.kind, one.task.lane) for one in ended] == [("pull", 1)]
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_at_its_renewal_point_one_of_ours_takes_its_place_and_it_is_stopped(
    taken: tuple[World, UUID, UUID],
) -> None:
    world, calendar_id, channel_id = taken
    due_in = (await world.task("watch", calendar_id))["due_in"]
    assert due_in.days >= 3

    await world.advance(seconds=due_in.total_seconds() - 60)
    await world.work("watch")
    assert live(world) == {OLD_ID}
    await world.advance(seconds=120)
    await world.work("watch")

    ours = await live_channel(world, calendar_id)
    assert live(world) == {str(ours["id"])}
    assert await world.channels(calendar_id) == ["stopped", "active"]
    (old, _) = await rows(world, calendar_id)
    assert (old["id"], old["provider_channel_id"]) == (channel_id, OLD_ID)


async def test_taken_over_before_the_switch_it_lives_on_just_so(
    still_world: World,
) -> None:
    world = still_world
    made = await Older(world, world.account).watch(world.account.primary.id)
    calendar_id = await world.switch_on()
    await world.change(calendar_id, sync_enabled=False)
    await world.database.execute("delete from sync.tasks")
    channel_id = await take_over_of(world, calendar_id, made)

    await world.change(calendar_id, sync_enabled=True)
    await world.work()

    assert (await live_channel(world, calendar_id))["id"] == channel_id
    assert live(world) == {OLD_ID}
    await assert_mirrors(world.database, calendar_id, world.account.primary)


async def test_beside_one_of_ours_it_is_stopped_at_once(still_world: World) -> None:
    world = still_world
    made = await Older(world, world.account).watch(world.account.primary.id)
    calendar_id = await world.switch_on()
    await world.work()
    ours = await live_channel(world, calendar_id)

    await take_over_of(world, calendar_id, made)
    await world.work()

    assert live(world) == {str(ours["id"])}


async def test_switched_off_it_is_stopped_too(
    taken: tuple[World, UUID, UUID],
) -> None:
    world, calendar_id, _ = taken

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert live(world) == set()
    assert await world.channels(calendar_id) == ["stopped"]


async def test_of_another_client_it_is_left_to_run_out(still_world: World) -> None:
    world = still_world
    made = await Older(world, world.account).watch(world.account.primary.id)
    world.twin.channels.by_id[OLD_ID].client_id = "another app"
    calendar_id = await world.switch_on()
    await take_over_of(world, calendar_id, made)
    due_in = (await world.task("watch", calendar_id))["due_in"]

    await world.advance(seconds=max(due_in.total_seconds(), 0) + 1)
    await world.advance(days=5)
    await world.work()

    assert sorted(await world.channels(calendar_id)) == ["active", "failed"]
    ours = await live_channel(world, calendar_id)
    assert live(world) == {OLD_ID, str(ours["id"])}
