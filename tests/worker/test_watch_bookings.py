"""Promises of a watch at Calendly and Cal.com: webhooks that never end, and do."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from providers.model import Provider
from tests.support.builders import make_connection, make_organization
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
from tests.support.sync import EMAIL, HOOKS_URL

DAY = timedelta(days=1)
APP_KEY = "the-twin's-one-key-for-the-app"
# How an account is connected: by a personal token or API key, or through our app.
BY_KEY = ["calendly", "calcom"]
ALL = ["calendly", "calendly app", "calcom"]


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, database: Connection, database_url: str
) -> AsyncIterator[WatchedWorld]:
    """One of the booking providers, named by the test's parameter."""
    name, _, app = request.param.partition(" ")
    settings = {"CALENDLY_WEBHOOK_SIGNING_KEY": APP_KEY} if app else {}
    made = make_watched_world(database, database_url, Provider(name), **settings)
    async with made as world:
        world.by_app = bool(app)
        yield world


def each(*names: str) -> Any:
    return pytest.mark.parametrize("world", names, indirect=True)


every = each(*ALL)
by_key = each(*BY_KEY)
calendly = each("calendly")
calcom = each("calcom")
app = each("calendly app")


def webhooks(world: WatchedWorld) -> list[Any]:
    """What is registered at the twin."""
    known = world.twin.store.known
    is_calcom = world.provider is Provider.CALCOM
    return list((known.webhooks if is_calcom else known.subscriptions).values())


def forget(world: WatchedWorld, webhook: Any) -> None:
    """Take a webhook away, as its owner may."""
    known = world.twin.store.known
    is_calcom = world.provider is Provider.CALCOM
    del (known.webhooks if is_calcom else known.subscriptions)[webhook.id]


def switch_off(world: WatchedWorld, webhook: Any) -> None:
    """Have it speak no more, as Calendly does after a day of failures."""
    if world.provider is Provider.CALCOM:
        webhook.active = False
    else:
        webhook.is_active = False


def operation(world: WatchedWorld, verb: str) -> str:
    is_calcom = world.provider is Provider.CALCOM
    return f"{'webhooks' if is_calcom else 'webhook_subscriptions'}.{verb}"


def book(world: WatchedWorld) -> None:
    kind = world.account.event_type("Consultation")
    world.account.book(kind, coming(), email="bo@example.org", name="Bo")


async def watched(world: WatchedWorld, **columns: Any) -> UUID:
    """Bookings with their channel; what was asked for meanwhile is forgotten."""
    calendar_id = await world.switch_on(**columns)
    await world.work()
    assert await world.is_to_be_read(calendar_id)
    return calendar_id


async def next_day(world: WatchedWorld) -> None:
    """Do what is due a day later."""
    await world.advance(days=1, minutes=1)
    assert all(ended.outcome for ended in await world.work())


def address_of(channel: Any, world: WatchedWorld) -> str:
    return f"{HOOKS_URL}/webhooks/{world.provider}/{channel['id']}"


# Making and ending.


@every
async def test_switched_on_a_webhook_is_made_whose_deliveries_are_believed(
    world: WatchedWorld,
) -> None:
    key = {"CALENDLY_WEBHOOK_SIGNING_KEY": APP_KEY} if world.by_app else {}
    calendar_id = await watched(world)

    channel = await live_channel(world, calendar_id)
    [made] = webhooks(world)
    assert made.url == address_of(channel, world)
    assert channel["expires_at"] is None
    assert await gaps(world) == []
    async with heard(world, **key):
        book(world)
        await eventually(lambda: world.is_to_be_read(calendar_id))
    stored = await world.database.fetch("select * from sync.webhook_deliveries")
    assert {one["channel_id"] for one in stored} == {channel["id"]}


@every
async def test_switched_off_its_webhook_is_taken_away(world: WatchedWorld) -> None:
    calendar_id = await watched(world)

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert webhooks(world) == []
    assert await world.channels(calendar_id) == ["stopped"]
    assert await world.task("watch", calendar_id) is None


@every
async def test_a_webhook_whose_answer_was_lost_is_found_and_not_doubled(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on()
    world.twin.switchboard.cut(operation(world, "create"))

    assert (await world.watch(calendar_id)).error
    assert await world.channels(calendar_id) == ["pending"]
    assert await world.is_to_be_read(calendar_id)
    [gap] = await gaps(world)
    assert gap["gap"] == "the channel is pending"
    assert (await world.watch(calendar_id)).outcome

    assert len(webhooks(world)) == 1
    channel = await live_channel(world, calendar_id)
    assert webhooks(world)[0].url == address_of(channel, world)
    assert await gaps(world) == []


@every
async def test_an_unanswered_webhook_of_a_calendar_switched_off_is_taken_away(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on()
    world.twin.switchboard.cut(operation(world, "create"))
    await world.watch(calendar_id)

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert webhooks(world) == []
    assert await world.channels(calendar_id) == ["stopped"]


@every
async def test_a_refused_webhook_is_tried_again_as_the_same_channel(
    world: WatchedWorld,
) -> None:
    calendar_id = await world.switch_on()
    world.twin.switchboard.answer(operation(world, "create"), 400, times=2)

    for _ in range(2):
        assert (await world.watch(calendar_id)).error
        assert await world.channels(calendar_id) == ["failed"]
    assert (await world.watch(calendar_id)).outcome

    channel = await live_channel(world, calendar_id)
    assert await world.channels(calendar_id) == ["active"]
    assert webhooks(world)[0].url == address_of(channel, world)


@every
async def test_where_there_are_no_webhooks_bookings_are_swept_and_it_says_why(
    world: WatchedWorld,
) -> None:
    world.twin.switchboard.answer(
        operation(world, "create"),
        403,
        reason="Please upgrade your account",
        times=None,
    )

    calendar_id = await world.switch_on()
    await world.work()

    [channel] = await rows(world, calendar_id)
    assert channel["status"] == "unwatchable"
    assert "403" in channel["status_reason"]
    assert await gaps(world) == []
    assert await world.is_to_be_read(calendar_id)
    assert (await world.task("watch", calendar_id))["due_in"] > 6 * DAY
    # The plan may be another one a week later.
    world.twin.switchboard.clear()
    await world.advance(days=8)
    await world.work()
    assert await world.channels(calendar_id) == ["active"]


@calendly
async def test_on_calendlys_free_plan_there_are_no_webhooks(
    world: WatchedWorld,
) -> None:
    world.account.user.has_webhooks = False

    calendar_id = await world.switch_on()
    await world.work()

    [channel] = await rows(world, calendar_id)
    assert channel["status"] == "unwatchable"
    assert "planTooSmall" in channel["status_reason"]


# Looked at every day.


@every
async def test_a_webhook_in_order_is_looked_at_daily_and_left_alone(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [made] = webhooks(world)

    for _ in range(3):
        due_in = (await world.task("watch", calendar_id))["due_in"]
        assert timedelta() < due_in <= DAY
        await next_day(world)

    assert webhooks(world) == [made]
    assert await world.channels(calendar_id) == ["active"]
    assert world.twin.calls.count(operation(world, "create")) == 1
    assert not await world.is_to_be_read(calendar_id)


@every
async def test_a_look_that_was_not_answered_is_repeated(world: WatchedWorld) -> None:
    calendar_id = await watched(world)
    world.twin.switchboard.answer(operation(world, "list"), 503)

    assert (await world.watch(calendar_id)).error
    assert await world.channels(calendar_id) == ["active"]
    assert (await world.watch(calendar_id)).outcome

    assert await world.channels(calendar_id) == ["active"]


@every
async def test_a_webhook_that_was_switched_off_is_made_anew_at_another_address(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [dead] = webhooks(world)
    switch_off(world, dead)

    await next_day(world)

    [made] = webhooks(world)
    assert made.url != dead.url
    assert made.url == address_of(await live_channel(world, calendar_id), world)
    assert await world.channels(calendar_id) == ["stopped", "active"]
    [gone, _] = await rows(world, calendar_id)
    reason = {
        Provider.CALENDLY: "disabled after a day of failures: make it anew",
        Provider.CALCOM: "it is switched off",
    }
    assert gone["status_reason"] == reason[world.provider]
    assert await world.is_to_be_read(calendar_id)


@every
async def test_a_webhook_that_somebody_removed_is_made_anew(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [removed] = webhooks(world)
    forget(world, removed)

    await next_day(world)

    [made] = webhooks(world)
    assert made.url != removed.url
    assert await world.channels(calendar_id) == ["expired", "active"]
    assert await world.is_to_be_read(calendar_id)


@every
async def test_a_webhook_that_posts_elsewhere_is_made_anew(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [moved] = webhooks(world)
    moved.url = "https://elsewhere.test/hook"

    await next_day(world)

    [made] = webhooks(world)
    assert made.url == address_of(await live_channel(world, calendar_id), world)
    [gone, _] = await rows(world, calendar_id)
    assert gone["status_reason"] == "it posts to another address"


@every
async def test_where_the_receiver_moved_webhooks_follow_it(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    key = {"CALENDLY_WEBHOOK_SIGNING_KEY": APP_KEY} if world.by_app else {}
    world.configure(SUPACAL_PUBLIC_URL="https://moved.test", **key)

    await next_day(world)

    [made] = webhooks(world)
    channel = await live_channel(world, calendar_id)
    assert made.url == f"https://moved.test/webhooks/{world.provider}/{channel['id']}"


@calcom
async def test_a_webhook_with_a_template_of_its_own_is_made_anew_without(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    webhooks(world)[0].template = '{"what": "{{triggerEvent}}"}'

    await next_day(world)

    [made] = webhooks(world)
    assert made.template is None
    [gone, _] = await rows(world, calendar_id)
    assert "template" in gone["status_reason"]


@calendly
async def test_what_cannot_be_made_anew_says_so(world: WatchedWorld) -> None:
    calendar_id = await watched(world)
    switch_off(world, webhooks(world)[0])
    world.account.user.has_webhooks = False

    await next_day(world)

    assert await world.channels(calendar_id) == ["stopped", "unwatchable"]
    assert webhooks(world) == []
    assert (await world.state(calendar_id))["channel_lost_at"] is not None
    assert await world.is_to_be_read(calendar_id)


@every
async def test_a_users_wish_has_the_webhook_looked_at_now(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    forget(world, webhooks(world)[0])

    await world.change(calendar_id, sync_enabled=False)
    await world.change(calendar_id, sync_enabled=True)
    await world.work()

    assert len(webhooks(world)) == 1
    assert await world.is_to_be_read(calendar_id)


# Keys.


@by_key
async def test_with_a_new_key_webhooks_are_signed_anew_and_the_old_key_may_go(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [before] = webhooks(world)
    world.rotate_keys()

    await next_day(world)

    [made] = webhooks(world)
    channel = await live_channel(world, calendar_id)
    assert channel["key_id"] == world.keyring.key_ids[0]
    # Cal.com takes another secret; Calendly wants another webhook.
    is_calcom = world.provider is Provider.CALCOM
    assert (made.url == before.url) == is_calcom
    statuses = ["active"] if is_calcom else ["stopped", "active"]
    assert await world.channels(calendar_id) == statuses
    await world.is_to_be_read(calendar_id)
    world.rotate_keys(keep=True)
    newest = world.keyring.key_ids[1]
    assert newest == channel["key_id"]
    keys = world.settings.supacal_secret_keys.get_secret_value().split(",")
    world.configure(SUPACAL_SECRET_KEYS=",".join(keys[:2]))
    async with heard(world):
        book(world)
        await eventually(lambda: world.is_to_be_read(calendar_id))


@app
async def test_the_apps_own_key_does_not_change_with_ours(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    [made] = webhooks(world)
    keys = world.settings.supacal_secret_keys.get_secret_value()
    world.configure(
        SUPACAL_SECRET_KEYS=f"{world.keyring.generate('fresh')},{keys}",
        CALENDLY_WEBHOOK_SIGNING_KEY=APP_KEY,
    )

    await next_day(world)

    assert webhooks(world) == [made]
    assert (await live_channel(world, calendar_id))["key_id"] is None


@app
async def test_without_the_apps_key_no_webhook_is_made_and_an_alert_says_so(
    world: WatchedWorld,
) -> None:
    world.configure(CALENDLY_WEBHOOK_SIGNING_KEY="")
    calendar_id = await world.switch_on()

    for _ in range(2):
        ended = await world.watch(calendar_id)
        assert ended.error == "CALENDLY_WEBHOOK_SIGNING_KEY is not set"

    assert webhooks(world) == []
    assert await world.alerts() == {"signing_key_missing"}
    assert await world.channels(calendar_id) == ["failed"]
    [gap] = await gaps(world)
    assert gap["reason"] == "CALENDLY_WEBHOOK_SIGNING_KEY is not set"
    assert await world.is_to_be_read(calendar_id)
    # With it there is one, and the alert is over.
    world.configure(CALENDLY_WEBHOOK_SIGNING_KEY=APP_KEY)
    assert (await world.watch(calendar_id)).outcome
    assert len(webhooks(world)) == 1
    assert await world.alerts() == set()
    assert await gaps(world) == []


# Made by hand.


async def by_hand(world: WatchedWorld) -> UUID:
    """Bookings of a connection that nobody gave us a token for."""
    return await world.switch_on(
        connection_id=await make_connection(
            world.database,
            await make_organization(world.database),
            provider=world.provider,
            account_email=EMAIL,
        )
    )


@by_key
async def test_webhooks_made_by_hand_are_nobodys_of_ours(world: WatchedWorld) -> None:
    calendar_id = await by_hand(world)

    await world.work()

    [channel] = await rows(world, calendar_id)
    assert channel["status"] == "by_hand"
    assert channel["status_reason"] == "its webhook was registered by hand"
    assert await gaps(world) == []
    assert await world.alerts() == set()
    assert (await world.connection(calendar_id))["status"] == "active"
    assert world.twin.calls.count() == 0
    assert await world.is_to_be_read(calendar_id)
    await world.advance(days=8)
    await world.work()
    assert await world.channels(calendar_id) == ["by_hand"]


@by_key
async def test_webhooks_made_by_hand_stay_when_their_calendar_is_switched_off(
    world: WatchedWorld,
) -> None:
    calendar_id = await by_hand(world)
    await world.work()

    await world.change(calendar_id, sync_enabled=False)
    await world.work()

    assert await world.channels(calendar_id) == ["stopped"]
    assert world.twin.calls.count() == 0
    assert await world.task("watch", calendar_id) is None


@by_key
async def test_who_is_given_a_token_makes_webhooks_of_its_own(
    world: WatchedWorld,
) -> None:
    calendar_id = await by_hand(world)
    await world.work()
    connection = await world.connection(calendar_id)

    await world.sign_in(connection["id"], world.account)
    await world.watch(calendar_id)

    assert len(webhooks(world)) == 1
    assert await world.channels(calendar_id) == ["active"]


@calcom
async def test_the_operators_api_key_is_access_too(world: WatchedWorld) -> None:
    world.configure(CALCOM_API_KEY=world.account.api_key())

    calendar_id = await by_hand(world)
    await world.work()

    assert len(webhooks(world)) == 1
    assert await world.channels(calendar_id) == ["active"]


@by_key
async def test_who_has_lost_their_token_is_asked_for_another(
    world: WatchedWorld,
) -> None:
    calendar_id = await watched(world)
    if world.provider is Provider.CALCOM:
        world.account.revoke()
    else:
        world.twin.oauth.revoke_account(EMAIL)

    assert (await world.watch(calendar_id)).error

    assert (await world.connection(calendar_id))["status"] == "needs_reauth"
    assert await world.alerts() == {"access_lost"}
    # Connected again, the webhook is asked after.
    await world.database.execute("delete from sync.credentials")
    connection = await world.connection(calendar_id)
    await world.sign_in(connection["id"], world.account)
    forget(world, webhooks(world)[0])
    await world.database.execute(
        "update public.calendar_connections set status = 'active'"
    )
    await world.work()
    assert len(webhooks(world)) == 1
