"""The connection to the database: what it survives, and what it answers meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import httpx2
import pytest

from providers.model import Notification, Provider
from runtime.settings import ReceiverSettings
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.webhook_api.channels import PATH, Channel, error_of
from tests.webhook_api.faults import KILL, STUCK, Connect, stuck
from webhook_api.app import Receiver
from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits
from webhook_api.store import Store

COUNT = "select count(*) from sync.webhook_deliveries"


def delivery(channel_id: UUID, *, body: str | None = None) -> Delivery:
    headers = {"resource_id": "r", "resource_state": "exists", "message_number": "1"}
    return Delivery(
        Notification(Provider.GOOGLE, "change", channel_id, None, headers, body),
        datetime.now(UTC),
    )


@pytest.fixture
async def store(settings: ReceiverSettings) -> AsyncIterator[Store]:
    made = Store(settings.database, limits=Limits())
    keeper = asyncio.create_task(made.keep_connected())
    await made.connected()
    yield made
    keeper.cancel()
    await asyncio.wait([keeper])
    await made.close()


async def test_it_acts_as_the_role_that_can_do_nothing_else(
    store: Store, database: Connection
) -> None:
    assert store._connection is not None
    assert await store._connection.fetchval("select current_user") == "webhook_ingest"


async def test_a_row_that_the_database_refuses_stops_no_other(
    store: Store, channel: Channel, database: Connection
) -> None:
    good = json.dumps({"fine": True})
    # Valid JSON, which jsonb cannot hold, and text that no Postgres can.
    bodies = [good, '{"nul": "\\u0000"}', good, good, "\ud800", good, "not json"]
    outcomes = await store.store([delivery(channel.id, body=body) for body in bodies])
    assert [one is Outcome.ACCEPTED for one in outcomes] == [
        body == good for body in bodies
    ]
    assert set(outcomes) == {Outcome.ACCEPTED, Outcome.UNSTORABLE}
    assert await database.fetchval(COUNT) == 4
    assert store.is_connected


async def test_outcomes_keep_the_order_of_deliveries(
    store: Store, channel: Channel
) -> None:
    unknown = UUID(int=7)
    ids = [channel.id, unknown, unknown, channel.id, unknown]
    outcomes = await store.store([delivery(one) for one in ids])
    assert [one is Outcome.IGNORED for one in outcomes] == [i == unknown for i in ids]


async def test_a_backend_killed_in_a_flush_is_503_and_the_next_delivery_is_stored(
    client: httpx2.AsyncClient,
    channel: Channel,
    database: Connection,
    connect: Connect,
    admin: Connection,
) -> None:
    async with stuck(connect):
        sent = [
            asyncio.create_task(client.post(PATH, headers=channel.headers()))
            for _ in range(3)
        ]
        await eventually(lambda: admin.fetchval(STUCK))
        await admin.execute(KILL)
        responses = await asyncio.gather(*sent)
    for response in responses:
        assert (response.status_code, error_of(response)) == (
            503,
            "database_unavailable",
        )
        assert int(response.headers["retry-after"]) > 0
    assert await database.fetchval(COUNT) == 0

    response = await client.post(PATH, headers=channel.headers())
    assert response.status_code == 200
    assert await database.fetchval(COUNT) == 1


async def test_a_connection_lost_while_idle_is_made_again_unnoticed(
    client: httpx2.AsyncClient, app: Receiver, channel: Channel, admin: Connection
) -> None:
    lost = app.store._connection
    await admin.execute(KILL)
    await eventually(lambda: app.store.is_connected and app.store._connection != lost)
    response = await client.post(PATH, headers=channel.headers())
    assert response.status_code == 200


async def test_a_crowd_that_asks_for_readiness_asks_the_database_once(
    client: httpx2.AsyncClient, app: Receiver
) -> None:
    await client.get("/readyz")  # the first call also learns the types
    assert app.store._connection is not None
    asked: list[object] = []
    with app.store._connection.query_logger(asked.append):
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
    assert {response.status_code for response in answers} == {200}
    assert len(asked) == 1


async def test_a_lock_that_does_not_come_is_503_and_costs_no_connection(
    client: httpx2.AsyncClient,
    app: Receiver,
    channel: Channel,
    database: Connection,
    connect: Connect,
) -> None:
    before = app.store._connection
    async with stuck(connect):
        response = await client.post(PATH, headers=channel.headers())
    assert (response.status_code, error_of(response)) == (503, "database_unavailable")
    assert app.store._connection is before
    assert await database.fetchval(COUNT) == 0


class TestStrict:
    """With little patience."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(answer_s=1.5, flush_s=1, probe_s=1)

    async def test_a_flush_that_takes_too_long_is_given_up_with_its_connection(
        self,
        client: httpx2.AsyncClient,
        app: Receiver,
        channel: Channel,
        connect: Connect,
    ) -> None:
        before = app.store._connection
        async with stuck(connect):
            response = await client.post(PATH, headers=channel.headers())
            assert response.status_code == 503
        await eventually(lambda: app.store.is_connected)
        assert app.store._connection is not before
        response = await client.post(PATH, headers=channel.headers())
        assert response.status_code == 200

    async def test_while_the_database_is_away_deliveries_are_503_and_so_is_readyz(
        self,
        client: httpx2.AsyncClient,
        app: Receiver,
        channel: Channel,
        database: Connection,
        admin: Connection,
    ) -> None:
        assert (await client.get("/readyz")).status_code == 200
        name = await database.fetchval("select current_database()")
        await admin.execute(f"alter database {name} connection limit 0")
        await admin.execute(KILL)
        await eventually(lambda: not app.store.is_connected)

        response = await client.post(PATH, headers=channel.headers())
        assert (response.status_code, error_of(response)) == (503, "too_slow")
        response = await client.get("/readyz")
        assert (response.status_code, error_of(response)) == (
            503,
            "database_unavailable",
        )
        assert (await client.get("/healthz")).status_code == 200
        assert "supacal_database_connected 0" in (await client.get("/metrics")).text

        await admin.execute(f"alter database {name} connection limit -1")
        await eventually(lambda: app.store.is_connected)
        assert (await client.get("/readyz")).status_code == 200
        response = await client.post(PATH, headers=channel.headers())
        assert response.status_code == 200
        assert await database.fetchval(COUNT) == 1

    async def test_not_ready_where_the_migrations_are_missing(
        self, client: httpx2.AsyncClient, database: Connection
    ) -> None:
        await database.execute("drop function sync.receive")
        assert (await client.get("/readyz")).status_code == 503
