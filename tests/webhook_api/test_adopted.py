"""Channels of an older system: whom the receiver believes, and how it learns it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from uuid import UUID

import httpx2
import pytest

from runtime.settings import ReceiverSettings
from tests.support.adopting import OLD_ID, OLD_RESOURCE, OLD_TOKEN, take_over
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.webhook_api.channels import Channel, error_of
from webhook_api.app import Receiver, create_app
from webhook_api.limits import Limits
from webhook_api.store import Store

PATH = "/api/calendar/webhook"
HEADERS = {
    "x-goog-channel-id": OLD_ID,
    "x-goog-channel-token": OLD_TOKEN,
    "x-goog-resource-id": OLD_RESOURCE,
    "x-goog-resource-state": "exists",
    "x-goog-message-number": "2",
}


@pytest.fixture
def limits() -> Limits:
    return Limits(adopted_every_s=0.05)


@pytest.fixture
async def adopted(database: Connection, calendar_id: UUID) -> UUID:
    """Taken over before the receiver is started."""
    return await take_over(database, calendar_id)


@pytest.fixture
async def store(settings: ReceiverSettings, limits: Limits) -> AsyncIterator[Store]:
    made = Store(settings.database, limits=limits)
    keeper = asyncio.create_task(made.keep_connected())
    await made.connected()
    yield made
    keeper.cancel()
    await asyncio.wait([keeper])
    await made.close()


async def test_an_adopted_channels_push_wakes_the_pull_of_its_calendar(
    adopted: UUID, client: httpx2.AsyncClient, calendar_id: UUID, database: Connection
) -> None:
    await database.execute("delete from sync.tasks")

    response = await client.post(PATH, headers=HEADERS)

    assert (response.status_code, response.json()) == (200, {"status": "accepted"})
    row = await database.fetchrow("select * from sync.webhook_deliveries")
    assert row is not None
    assert (row["channel_id"], row["kind"]) == (adopted, "change")
    (task,) = await database.fetch("select * from sync.tasks")
    assert (task["kind"], task["subject_id"]) == ("pull", calendar_id)


@pytest.mark.parametrize(
    "foreign",
    [{"x-goog-channel-token": "another"}, {"x-goog-channel-id": "another"}],
    ids=str,
)
async def test_a_foreign_channel_is_refused(
    adopted: UUID,
    client: httpx2.AsyncClient,
    refused: Callable[[str], int],
    foreign: dict[str, str],
) -> None:
    response = await client.post(PATH, headers=HEADERS | foreign)

    assert (response.status_code, error_of(response)) == (401, "not_verified")
    assert refused("forged token") == 1


async def test_an_adopted_channel_is_refused_once_it_has_ended(
    adopted: UUID, app: Receiver, client: httpx2.AsyncClient
) -> None:
    ((key, known),) = app.store.adopted.items()
    ended = type(known)(known.channel_id, known.expires_at - timedelta(days=8))
    app.store.adopted.clear()
    app.store.adopted[key] = ended

    response = await client.post(PATH, headers=HEADERS)

    assert (response.status_code, error_of(response)) == (401, "not_verified")


async def test_an_adopted_channel_that_was_stopped_is_ignored_not_refused(
    adopted: UUID, client: httpx2.AsyncClient, database: Connection
) -> None:
    await database.execute("update public.calendar_watch_channels set status='stopped'")

    response = await client.post(PATH, headers=HEADERS)

    assert (response.status_code, response.json()) == (200, {"status": "ignored"})


async def test_a_channel_taken_over_while_it_runs_is_believed_soon(
    client: httpx2.AsyncClient, app: Receiver, database: Connection, calendar_id: UUID
) -> None:
    assert (await client.post(PATH, headers=HEADERS)).status_code == 401

    await take_over(database, calendar_id)
    await eventually(lambda: app.store.adopted)

    assert (await client.post(PATH, headers=HEADERS)).status_code == 200


async def test_what_is_taken_back_is_soon_believed_no_more(
    adopted: UUID, store: Store, database: Connection
) -> None:
    assert len(store.adopted) == 1

    await database.execute("delete from sync.adopted_channels")

    await eventually(lambda: not store.adopted)


async def test_when_it_cannot_be_read_what_was_known_is_believed_on(
    adopted: UUID,
    store: Store,
    database: Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    connection, known = store._connection, dict(store.adopted)
    before = capsys.readouterr().out.count("adopted.unread")
    await database.execute("drop function sync.adopted_tokens")

    told = ""

    def failed_twice() -> bool:
        nonlocal told
        captured = capsys.readouterr()
        told += captured.out + captured.err
        return told.count("adopted.unread") >= before + 2

    await eventually(failed_twice)
    assert store.adopted == known
    assert store._connection is connection


async def test_what_verifies_asks_the_database_nothing_for_it(
    settings: ReceiverSettings, channel: Channel, database: Connection
) -> None:
    app = create_app(settings)  # which reads them once a minute
    async with app.router.lifespan_context(app):
        await app.store.connected()
        assert app.store._connection is not None
        asked: list[str] = []
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://test"
        ) as http:
            with app.store._connection.query_logger(
                lambda one: asked.append(one.query)
            ):
                for _ in range(5):
                    await http.post(PATH, headers=HEADERS)
                    await http.post(PATH, headers=channel.headers())

    assert asked
    assert not [query for query in asked if "adopted" in query]
