"""Promises about what Cal.com could not deliver: it never sends that again."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.calcom.webhooks import signature
from tests.support.booking_bodies import CalcomLife, CalendlyLife
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.webhook_api.channels import KEYRING, make_channel
from tests.webhook_api.faults import Connect, stuck
from tests.webhook_api.test_bookings import calendly
from webhook_api.app import Receiver
from webhook_api.limits import Limits


@pytest.fixture
def limits() -> Limits:
    return Limits(answer_s=0.3, flush_s=0.2, patience_s=0.5)


@pytest.fixture
async def channel_id(database: Connection) -> UUID:
    return await channel_of(database, "calcom")


async def channel_of(database: Connection, provider: str) -> UUID:
    organization_id = await make_organization(database)
    connection_id = await make_connection(database, organization_id, provider=provider)
    calendar_id = await make_calendar(database, connection_id, sync_enabled=True)
    return (await make_channel(database, calendar_id)).id


async def send(client: httpx2.AsyncClient, channel_id: UUID) -> int:
    body = CalcomLife().book()[0].encode()
    response = await client.post(
        f"/webhooks/calcom/{channel_id}",
        content=body,
        headers={
            "x-cal-signature-256": signature(KEYRING.signing_keys(channel_id)[0], body)
        },
    )
    return response.status_code


async def outages(database: Connection) -> list[dict[str, Any]]:
    rows = await database.fetch(
        "select headers from sync.webhook_deliveries where kind = 'lifecycle'"
    )
    return [json.loads(row["headers"]) for row in rows]


async def test_what_was_refused_is_told_with_its_span_when_the_database_is_back(
    client: httpx2.AsyncClient, database: Connection, connect: Connect, channel_id: UUID
) -> None:
    began_at = datetime.now(UTC)
    async with stuck(connect):
        assert await send(client, channel_id) == 503
        assert await send(client, channel_id) == 503
    ended_at = datetime.now(UTC)

    async def is_told() -> bool:
        return len(await outages(database)) > 0

    await eventually(is_told)
    # What was answered too late may be stored all the same: bookings, and the span.
    told = await outages(database)
    assert {outage["reason"] for outage in told} == {"outage"}
    for outage in told:
        since, until = (
            datetime.fromisoformat(outage[name]) for name in ("from", "until")
        )
        assert began_at <= since < until <= ended_at
    states = await database.fetch(
        "select state from sync.delivery_states where kind = 'lifecycle'"
    )
    assert {row["state"] for row in states} == {"received"}


async def test_calendly_sends_again_so_there_is_nothing_to_tell(
    client: httpx2.AsyncClient,
    database: Connection,
    connect: Connect,
    app: Receiver,
) -> None:
    channel_id = await channel_of(database, "calendly")
    body = CalendlyLife().book()[0].encode()
    async with stuck(connect):
        response = await client.post(
            f"/webhooks/calendly/{channel_id}",
            content=body,
            headers=calendly(body, KEYRING.signing_keys(channel_id)[0]),
        )
    assert response.status_code == 503
    assert await app.store.can_store()
    assert await outages(database) == []


async def test_a_receiver_that_stops_while_the_database_is_away_stops(
    client: httpx2.AsyncClient, app: Receiver, connect: Connect, channel_id: UUID
) -> None:
    async with stuck(connect):
        assert await send(client, channel_id) == 503
        for endpoint in app.booking_endpoints:
            await endpoint.close()
