"""Promises of a connection: tokens are kept fresh, and never lost without need."""

import asyncio

import pytest

from local_stack.twins.switchboard import Fault, FaultKind
from runtime.sealing import Keyring
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sync import World, assert_mirrors, synced


async def test_an_access_token_that_ran_out_is_refreshed_and_kept(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await synced(world, world.account.primary)
    stored = "select ciphertext from sync.credentials"
    before = await world.database.fetchval(stored)
    await world.advance(hours=2)

    assert (await world.pull(calendar_id)).outcome

    assert world.twin.calls.count("token") == 1
    assert await world.database.fetchval(stored) != before
    assert (await world.pull(calendar_id)).outcome
    assert world.twin.calls.count("token") == 1


async def test_an_access_token_that_google_no_longer_takes_is_refreshed_once(
    world: World,
) -> None:
    calendar_id = await synced(world, world.account.primary)
    world.twin.switchboard.answer("events.list", 401)

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    assert ended.outcome.api_calls == 2
    assert world.twin.calls.count("token") == 1


async def test_a_fresh_access_token_that_is_refused_too_is_a_lost_grant(
    world: World,
) -> None:
    calendar_id = await synced(world, world.account.primary)
    world.twin.switchboard.answer("events.list", 401, times=None)

    ended = await world.pull(calendar_id)

    assert ended.error is not None
    assert "a fresh access token is refused" in ended.error
    assert world.twin.calls.count("token") == 1
    assert (await world.connection(calendar_id))["status"] == "needs_reauth"


async def test_a_lost_grant_stops_everything_until_the_owner_connects_again(
    world: World,
) -> None:
    calendar = world.account.primary
    calendar.add("Visit", coming())
    calendar_id = await synced(world, calendar)
    await world.watch(calendar_id)
    await world.work()
    world.account.revoke()

    assert (await world.pull(calendar_id)).error

    connection = await world.connection(calendar_id)
    assert connection["status"] == "needs_reauth"
    assert "invalid_grant" in connection["status_reason"]
    assert await world.alerts() == {"access_lost"}
    # Whatever is asked for rests.
    calls = world.twin.calls.count()
    for kind in ("pull", "watch"):
        await world.database.execute(
            "select sync.request_task($1, $2, $3, 0::smallint, sync.clock())",
            kind,
            calendar_id,
            connection["id"],
        )
    assert await world.work() == []
    assert world.twin.calls.count() == calls

    calendar.add("Meanwhile", coming(2))
    await world.sign_in(connection["id"], world.account)
    await world.database.execute(
        "update public.calendar_connections "
        "set status = 'active', status_reason = null where id = $1",
        connection["id"],
    )

    assert {ended.task.kind for ended in await world.work()} == {"watch", "pull"}
    assert await world.alerts() == set()
    await assert_mirrors(world.database, calendar_id, calendar)


async def test_tokens_of_a_grant_made_meanwhile_are_neither_lost_nor_overwritten(
    still_world: World,
) -> None:
    world = still_world
    calendar_id = await synced(world, world.account.primary)
    connection = await world.connection(calendar_id)
    await world.advance(hours=2)

    # The run that uses the old tokens is held while the owner connects again.
    slow = world.twin.switchboard.slow("token", 0.2)
    world.account.revoke()
    running = asyncio.create_task(world.pull(calendar_id))
    await eventually(lambda: slow.struck)
    await world.sign_in(connection["id"], world.account)
    fresh = await world.database.fetchval("select ciphertext from sync.credentials")
    await running

    assert (await world.connection(calendar_id))["status"] == "active"
    stored = await world.database.fetchval("select ciphertext from sync.credentials")
    assert stored == fresh
    assert (await world.pull(calendar_id)).outcome


@pytest.mark.parametrize("kind", [FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER])
async def test_a_refresh_without_an_answer_is_not_a_lost_grant(
    still_world: World, kind: FaultKind
) -> None:
    world = still_world
    calendar_id = await synced(world, world.account.primary)
    await world.advance(hours=2)
    world.twin.switchboard.add(Fault(kind=kind, operation="token"))

    assert (await world.pull(calendar_id)).error

    assert (await world.connection(calendar_id))["status"] == "active"
    assert await world.alerts() == set()
    assert (await world.pull(calendar_id)).outcome


async def test_tokens_sealed_with_a_key_that_is_gone_raise_an_alert(
    world: World,
) -> None:
    calendar_id = await world.switch_on()
    keys = Keyring.parse(Keyring.generate("other"))
    connection = await world.connection(calendar_id)
    row = await world.database.fetchrow("select * from sync.credentials")
    sealed = keys.seal(b"{}", context=f"connection:{connection['id']}")
    change = "update sync.credentials set key_id = $1, ciphertext = $2"
    await world.database.execute(change, sealed.key_id, sealed.ciphertext)

    pulled, watched = await world.pull(calendar_id), await world.watch(calendar_id)

    for ended in (pulled, watched):
        assert ended.error is not None
        assert "sealed with the key other" in ended.error
    assert await world.alerts() == {"key_missing"}
    assert (await world.connection(calendar_id))["status"] == "active"
    assert (await world.task("pull", calendar_id))["due_in"].total_seconds() > 0.1
    assert world.twin.calls.count() == 0
    assert await world.channels(calendar_id) == []

    await world.database.execute(change, row["key_id"], row["ciphertext"])
    await world.pull(calendar_id)
    assert await world.alerts() == set()


async def test_tokens_that_were_tampered_with_need_a_new_grant(world: World) -> None:
    calendar_id = await world.switch_on()
    await world.database.execute(
        "update sync.credentials set ciphertext = ciphertext || 'x'"
    )

    assert (await world.pull(calendar_id)).error

    assert (await world.connection(calendar_id))["status"] == "needs_reauth"
    assert await world.alerts() == {"access_lost"}
