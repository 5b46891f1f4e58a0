"""Promises of a watch at Outlook: subscriptions are extended, found again, shared."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from local_stack.twins.microsoft.subscriptions import Subscription
from providers.model import Provider
from tests.support.channels import (
    WatchedWorld,
    gaps,
    heard,
    live_channel,
    make_watched_world,
    rows,
)
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.support.sync import HOOKS_URL

DAY = timedelta(days=1)


@pytest.fixture
async def world(database: Connection, database_url: str) -> AsyncIterator[WatchedWorld]:
    """Outlook, and a receiver that answers it: without one there are no channels."""
    made = make_watched_world(database, database_url, Provider.MICROSOFT)
    async with made as world, heard(world):
        yield world


def subscriptions(world: WatchedWorld) -> list[Subscription]:
    live: list[Subscription] = world.twin.subscriptions.live()
    return live


async def watched(world: WatchedWorld, **columns: Any) -> UUID:
    """A calendar with its channel; what was asked for meanwhile is forgotten."""
    calendar_id = await world.switch_on(world.account.primary, **columns)
    await world.work()
    assert await world.is_to_be_read(calendar_id)
    return calendar_id


async def statuses(world: WatchedWorld, calendar_id: UUID) -> list[str]:
    return await world.channels(calendar_id)


# Making.


async def test_switched_on_a_calendar_is_subscribed_to_with_its_channels_secret(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)

    channel = await live_channel(world, calendar_id)
    [made] = subscriptions(world)
    assert made.id == channel["resource_id"] == channel["provider_channel_id"]
    assert made.expires_at == channel["expires_at"]
    hook = f"{HOOKS_URL}/webhooks/microsoft"
    assert made.notification_url == f"{hook}?channel={channel['id']}"
    assert made.lifecycle_url == f"{hook}/lifecycle?channel={channel['id']}"
    assert made.client_state == world.keyring.channel_token(channel["id"])
    assert channel["key_id"] == world.keyring.key_ids[0]
    assert await gaps(world) == []


async def test_what_changes_in_outlook_asks_for_reading(world: WatchedWorld) -> None:
    calendar_id = await watched(world)

    world.account.primary.add("Visit", coming())

    await eventually(lambda: world.is_to_be_read(calendar_id))


async def test_switched_off_its_subscription_ends(world: WatchedWorld) -> None:
    calendar_id = await watched(world)

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert subscriptions(world) == []
    assert await statuses(world, calendar_id) == ["stopped"]
    assert await world.task("watch", calendar_id) is None


async def test_a_calendar_that_is_shared_with_the_account_cannot_be_watched(
    world: WatchedWorld,
) -> None:
    world.twin.switchboard.answer("subscriptions.create", 403, times=None)

    calendar_id = await world.switch_on(world.account.primary)
    await world.work()

    assert await statuses(world, calendar_id) == ["unwatchable"]
    assert await gaps(world) == []
    assert (await world.task("watch", calendar_id))["due_in"] > 6 * DAY
    # A week later it is asked again, as the same channel.
    world.twin.switchboard.clear()
    await world.advance(days=8)
    await world.work()
    assert await statuses(world, calendar_id) == ["active"]


# Living on.


async def test_a_subscription_is_extended_for_weeks_and_stays_the_same(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [first] = subscriptions(world)
    renewals = 0

    for _ in range(5):
        due_in = (await world.task("watch", calendar_id))["due_in"]
        assert 3 * DAY < due_in < 5 * DAY
        await world.advance(seconds=due_in.total_seconds() + 1)
        renewals += len(await world.work())

    assert renewals == 5
    assert subscriptions(world) == [first]
    assert world.twin.calls.count("subscriptions.create") == 1
    channel = await live_channel(world, calendar_id)
    assert channel["expires_at"] == first.expires_at
    assert first.expires_at - world.clock.now() > 6 * DAY
    # Nothing was missed meanwhile.
    assert not await world.is_to_be_read(calendar_id)


async def test_a_subscription_that_asks_to_be_authorized_is_extended_and_read_after(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [subscription] = subscriptions(world)
    await world.advance(hours=5)
    before = subscription.expires_at

    world.twin.ask_to_reauthorize(subscription.id)
    await eventually(lambda: world.work("watch"))

    assert subscription.expires_at == before + timedelta(hours=5)
    assert (await live_channel(world, calendar_id))["expires_at"] > before
    assert await world.is_to_be_read(calendar_id)
    assert subscriptions(world) == [subscription]


async def test_a_subscription_that_outlook_took_away_is_made_anew_and_read_after(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [removed] = subscriptions(world)
    await world.advance(seconds=1)

    world.twin.remove_subscription(removed.id)
    await eventually(lambda: world.work("watch"))

    [made] = subscriptions(world)
    assert made.id != removed.id
    assert await statuses(world, calendar_id) == ["expired", "active"]
    [gone, _] = await rows(world, calendar_id)
    assert gone["status_reason"] == "the provider no longer has it"
    assert await world.is_to_be_read(calendar_id)


async def test_a_subscription_that_died_in_silence_is_made_anew_when_due(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [dead] = subscriptions(world)
    world.twin.subscriptions.remove(dead.id)

    await world.advance(days=5)
    await world.work()

    [made] = subscriptions(world)
    assert (await live_channel(world, calendar_id))["resource_id"] == made.id
    assert await world.is_to_be_read(calendar_id)


async def test_a_renewal_that_was_not_answered_is_repeated(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    world.twin.switchboard.answer("subscriptions.update", 503)

    assert (await world.watch(calendar_id)).error
    assert await statuses(world, calendar_id) == ["active"]
    assert (await world.watch(calendar_id)).outcome

    assert await statuses(world, calendar_id) == ["active"]


async def test_with_a_new_key_a_subscription_is_made_anew_and_the_old_key_may_go(
    world: WatchedWorld, database_url: str
) -> None:
    calendar_id = await watched(world)
    [old] = subscriptions(world)
    world.rotate_keys()
    await world.advance(days=5)

    async with heard(world):
        await world.work()
    world.rotate_keys(keep=False)

    [made] = subscriptions(world)
    assert made.id != old.id
    channel = await live_channel(world, calendar_id)
    assert channel["key_id"] != (await rows(world, calendar_id))[0]["key_id"]
    assert await statuses(world, calendar_id) == ["stopped", "active"]
    assert made.client_state.startswith(f"v1.{channel['key_id']}.")


async def test_where_the_receiver_moved_subscriptions_follow_it(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    world.configure(SUPACAL_PUBLIC_URL=f"{HOOKS_URL}/moved")
    world.twin.switchboard.answer("subscriptions.create", 503)
    await world.advance(days=5)

    assert any(ended.error for ended in await world.work())

    # The old one is ended, the new one not yet made: polling carries the calendar.
    assert await statuses(world, calendar_id) == ["stopped", "pending"]
    assert await world.is_to_be_read(calendar_id)
    assert len(await gaps(world)) == 1


# Lost answers.


async def test_a_subscription_whose_answer_was_lost_is_adopted(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on(world.account.primary)
    world.twin.switchboard.cut("subscriptions.create")

    assert (await world.watch(calendar_id)).error
    [unanswered] = subscriptions(world)
    assert await statuses(world, calendar_id) == ["pending"]
    await world.advance(seconds=1)
    assert (await world.watch(calendar_id)).outcome

    assert subscriptions(world) == [unanswered]
    assert await statuses(world, calendar_id) == ["active", "stopped"]
    assert (await live_channel(world, calendar_id))["resource_id"] == unanswered.id
    assert await gaps(world) == []
    world.account.primary.add("Visit", coming())
    await eventually(lambda: world.is_to_be_read(calendar_id))
    # What was tried in vain is what the next attempt takes.
    world.twin.subscriptions.remove(unanswered.id)
    await world.watch(calendar_id)
    assert await statuses(world, calendar_id) == ["expired", "active"]


async def test_a_subscription_given_up_and_found_again_speaks_again(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on(world.account.primary)
    world.twin.switchboard.cut("subscriptions.create")
    await world.watch(calendar_id)
    await world.change(calendar_id, sync_enabled=False)
    await world.advance(minutes=11)
    await world.work()
    assert await statuses(world, calendar_id) == ["failed"]

    await world.change(calendar_id, sync_enabled=True)
    await world.work()

    assert await statuses(world, calendar_id) == ["active", "stopped"]
    assert len(subscriptions(world)) == 1


async def test_a_subscription_that_nobody_listens_to_gives_way(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [forgotten] = subscriptions(world)
    await world.database.execute("delete from public.calendar_watch_channels")

    assert (await world.watch(calendar_id)).error
    assert subscriptions(world) == []
    assert (await world.watch(calendar_id)).outcome

    [made] = subscriptions(world)
    assert made.id != forgotten.id
    assert await statuses(world, calendar_id) == ["active"]  # the one attempt's row


async def test_what_outlook_refused_is_tried_again_as_the_same_channel(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on(world.account.primary)
    world.twin.switchboard.answer("subscriptions.create", 400, times=None)
    for _ in range(2):
        assert (await world.watch(calendar_id)).error
        assert await statuses(world, calendar_id) == ["failed"]
    # Nor did it hear of what failed for want of a token.
    world.twin.switchboard.clear()
    world.twin.switchboard.answer("token", 503)
    await world.advance(hours=2)
    assert (await world.watch(calendar_id)).error
    assert await statuses(world, calendar_id) == ["failed"]

    assert (await world.watch(calendar_id)).outcome

    assert await statuses(world, calendar_id) == ["active"]


async def test_what_never_reached_outlook_is_tried_again_as_the_same_channel(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on(world.account.primary)
    inside, graph = world.http, world.settings.microsoft_api_url
    async with httpx2.AsyncClient() as world.http:
        world.configure(MICROSOFT_API_URL="http://127.0.0.1:9/v1.0")
        assert (await world.watch(calendar_id)).error
    assert await statuses(world, calendar_id) == ["failed"]

    world.http = inside
    world.configure(MICROSOFT_API_URL=str(graph))
    assert (await world.watch(calendar_id)).outcome

    assert await statuses(world, calendar_id) == ["active"]


async def test_what_may_have_reached_outlook_is_not_tried_again_under_its_id(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on(world.account.primary)
    world.twin.switchboard.cut("subscriptions.create", after=False)

    assert (await world.watch(calendar_id)).error
    await world.advance(seconds=1)
    assert (await world.watch(calendar_id)).outcome

    assert await statuses(world, calendar_id) == ["pending", "active"]


# Two organizations, one mailbox: Outlook takes one subscription.


async def shared(world: WatchedWorld) -> tuple[UUID, UUID]:
    """One calendar of one account, in two organizations."""
    first = await watched(world)
    return first, await watched(world)


async def test_two_organizations_hear_of_one_calendar_by_one_subscription(
    world: WatchedWorld,
) -> None:
    first, second = await shared(world)

    assert len(subscriptions(world)) == 1
    assert await statuses(world, second) == ["active"]
    lent, borrowed = [await live_channel(world, one) for one in (first, second)]
    assert borrowed["heard_as"] == lent["id"]
    assert borrowed["resource_id"] == lent["resource_id"]
    assert await gaps(world) == []
    world.account.primary.add("Visit", coming())
    await eventually(lambda: world.is_to_be_read(first))
    assert await world.is_to_be_read(second)


async def test_who_borrows_hears_what_is_said_of_the_subscription(
    world: WatchedWorld,
) -> None:
    first, second = await shared(world)
    [subscription] = subscriptions(world)

    world.twin.say_missed(subscription.id)
    await eventually(lambda: world.is_to_be_read(first))
    assert await world.is_to_be_read(second)

    await world.advance(seconds=1)
    world.twin.remove_subscription(subscription.id)
    await eventually(lambda: world.work("watch"))
    await world.work()

    assert len(subscriptions(world)) == 1
    ids = {(await live_channel(world, one))["resource_id"] for one in (first, second)}
    assert ids == {subscriptions(world)[0].id}
    assert await gaps(world) == []


async def test_who_borrows_extends_the_subscription_too(world: WatchedWorld) -> None:
    first, second = await shared(world)
    [subscription] = subscriptions(world)
    await world.database.execute(
        "update public.calendar_connections as connection set status = 'needs_reauth' "
        "from public.calendars as calendar "
        "where calendar.connection_id = connection.id and calendar.id = $1",
        first,
    )

    for _ in range(12):
        await world.advance(days=1)
        await world.work()

    assert subscriptions(world) == [subscription]
    world.account.primary.add("Visit", coming())
    await eventually(lambda: world.is_to_be_read(second))


async def test_who_lends_and_is_switched_off_leaves_the_other_with_its_own(
    world: WatchedWorld,
) -> None:
    first, second = await shared(world)

    await world.change(first, sync_enabled=False)
    await world.work()

    [made] = subscriptions(world)
    channel = await live_channel(world, second)
    assert channel["resource_id"] == made.id
    assert channel["heard_as"] is None
    assert await statuses(world, first) == ["stopped"]
    assert await world.is_to_be_read(second)
    assert await gaps(world) == []


async def test_who_borrows_and_is_switched_off_takes_nothing_away(
    world: WatchedWorld,
) -> None:
    first, second = await shared(world)
    [subscription] = subscriptions(world)

    await world.change(second, sync_enabled=False)
    await world.work()

    assert subscriptions(world) == [subscription]
    assert await statuses(world, second) == ["stopped"]
    assert await statuses(world, first) == ["active"]


async def test_who_borrows_from_an_organization_that_is_gone_notices_at_once(
    world: WatchedWorld,
) -> None:
    first, second = await shared(world)
    await world.database.execute("delete from public.calendars where id = $1", first)

    # Nobody listens to the subscription: it gives way to one of their own.
    assert len(await world.work()) == 1
    await world.watch(second)

    [made] = subscriptions(world)
    channel = await live_channel(world, second)
    assert (channel["resource_id"], channel["heard_as"]) == (made.id, None)
    assert await world.is_to_be_read(second)


async def test_where_outlook_would_take_a_second_there_is_one_all_the_same(
    world: WatchedWorld,
) -> None:
    world.twin.behaviour.duplicate_subscriptions = "accept"

    await shared(world)

    assert len(subscriptions(world)) == 1
    assert world.twin.calls.count("subscriptions.create") == 1


async def test_what_stands_in_the_way_of_ones_own_is_borrowed_where_it_is_the_same(
    world: WatchedWorld,
) -> None:
    first = await watched(world)
    await world.database.execute(
        "update public.calendar_connections set status = 'needs_reauth'"
    )

    second = await watched(world)

    # Nobody would borrow it from who may have lost it; but Outlook says that it lives.
    assert world.twin.calls.count("subscriptions.create") == 2
    assert len(subscriptions(world)) == 1
    lent, borrowed = [await live_channel(world, one) for one in (first, second)]
    assert borrowed["heard_as"] == lent["id"]


async def test_another_account_borrows_nothing_and_takes_nothing_away(
    world: WatchedWorld,
) -> None:
    first = await watched(world)
    connection_id = await world.connect()
    await world.database.execute(
        "update public.calendar_connections set account_email = $2 where id = $1",
        connection_id,
        f"{uuid4().hex}@example.org",
    )
    second = await world.switch_on(world.account.primary, connection_id=connection_id)

    await world.watch(second)

    # What the first one's deliveries wake is not this calendar.
    assert await statuses(world, second) == ["unwatchable"]
    assert await statuses(world, first) == ["active"]
    assert len(subscriptions(world)) == 1
    assert await gaps(world) == []  # the reason is stated
