"""What the routes of Calendly and Cal.com promise, on a real database."""

import asyncio
import json
import time
from uuid import UUID, uuid4

import httpx2
import pytest

from local_stack.twins.calcom.webhooks import signature as calcom_signature
from local_stack.twins.calendly.webhooks import signature as calendly_signature
from runtime.settings import ReceiverSettings
from tests.support.booking_bodies import CalcomLife, CalendlyLife
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection
from tests.webhook_api.channels import KEYRING, error_of, make_channel, make_settings
from webhook_api.app import Receiver
from webhook_api.limits import Limits

STORED = "select * from sync.webhook_deliveries order by id"
COUNT = "select count(*) from sync.webhook_deliveries"
SHARED = "by-hand"


@pytest.fixture
def settings(database_url: str) -> ReceiverSettings:
    return make_settings(
        database_url,
        calendly_webhook_signing_key=SHARED,
        calcom_webhook_secret=SHARED,
        supacal_public_url="https://sync.example.org",
    )


@pytest.fixture
def limits() -> Limits:
    return Limits(answer_s=0.5, flush_s=0.4, patience_s=15)


async def channel_of(database: Connection, provider: str) -> UUID:
    organization_id = await make_organization(database)
    connection_id = await make_connection(database, organization_id, provider=provider)
    calendar_id = await make_calendar(database, connection_id, sync_enabled=True)
    return (await make_channel(database, calendar_id)).id


def calendly(body: bytes, key: str, *, age_s: int = 0) -> dict[str, str]:
    at = int(time.time()) - age_s
    return {"calendly-webhook-signature": calendly_signature(key, at, body)}


def calcom(body: bytes, key: str) -> dict[str, str]:
    return {"x-cal-signature-256": calcom_signature(key, body)}


BODIES = {
    "calendly": (CalendlyLife().book()[0].encode(), calendly),
    "calcom": (CalcomLife().book()[0].encode(), calcom),
}
BY_HAND = [
    ("calendly", "/webhooks/calendly"),
    ("calendly", "/api/calendly/webhook"),
    ("calcom", "/webhooks/calcom"),
    ("calcom", "/api/webhooks/calcom"),
]


@pytest.mark.parametrize("provider", ["calendly", "calcom"])
async def test_a_booking_for_a_channel_of_ours_is_stored_whole(
    client: httpx2.AsyncClient, database: Connection, provider: str
) -> None:
    channel_id = await channel_of(database, provider)
    body, sign = BODIES[provider]
    response = await client.post(
        f"/webhooks/{provider}/{channel_id}",
        content=body,
        headers=sign(body, KEYRING.signing_keys(channel_id)[0]),
    )
    assert (response.status_code, response.json()) == (200, {"status": "accepted"})
    (row,) = await database.fetch(STORED)
    assert (row["provider"], row["kind"]) == (provider, "booking")
    assert row["channel_id"] == channel_id
    assert json.loads(row["body"]) == json.loads(body)
    assert json.loads(row["headers"])["trigger"]


@pytest.mark.parametrize(("provider", "path"), BY_HAND)
async def test_a_webhook_made_by_hand_is_believed_by_its_secret_alone(
    client: httpx2.AsyncClient, provider: str, path: str
) -> None:
    body, sign = BODIES[provider]
    response = await client.post(path, content=body, headers=sign(body, SHARED))
    assert response.status_code == 200
    key = KEYRING.signing_keys(uuid4())[0]
    forged = await client.post(path, content=body, headers=sign(body, key))
    assert (forged.status_code, error_of(forged)) == (401, "not_verified")


@pytest.mark.parametrize("provider", ["calendly", "calcom"])
async def test_what_is_signed_for_another_channel_is_not_verified(
    client: httpx2.AsyncClient, database: Connection, provider: str
) -> None:
    channel_id = await channel_of(database, provider)
    body, sign = BODIES[provider]
    headers = sign(body, KEYRING.signing_keys(channel_id)[0])
    path = f"/webhooks/{provider}/{uuid4()}"
    response = await client.post(path, content=body, headers=headers)
    assert (response.status_code, error_of(response)) == (401, "not_verified")
    assert await database.fetchval(COUNT) == 0


@pytest.mark.parametrize("provider", ["calendly", "calcom"])
async def test_a_path_that_ends_in_no_channel_is_not_there(
    client: httpx2.AsyncClient, provider: str
) -> None:
    body, sign = BODIES[provider]
    path = f"/webhooks/{provider}/nonsense"
    response = await client.post(path, content=body, headers=sign(body, SHARED))
    assert (response.status_code, error_of(response)) == (404, "not_found")


async def test_a_stale_time_is_401_counted_and_asks_for_one_sweep(
    client: httpx2.AsyncClient, database: Connection, app: Receiver
) -> None:
    channel_id = await channel_of(database, "calendly")
    body, _ = BODIES["calendly"]
    key = KEYRING.signing_keys(channel_id)[0]
    for _ in range(3):
        response = await client.post(
            f"/webhooks/calendly/{channel_id}",
            content=body,
            headers=calendly(body, key, age_s=3600),
        )
        assert (response.status_code, error_of(response)) == (401, "stale")
    assert app.metrics.refused.value("calendly", "stale time") == 3
    (row,) = await database.fetch(STORED)
    assert (row["kind"], row["body"], row["channel_id"]) == (
        "lifecycle",
        None,
        channel_id,
    )
    assert json.loads(row["headers"]) == {"reason": "missed"}


async def test_a_custom_template_is_refused_and_says_what_to_change(
    client: httpx2.AsyncClient, database: Connection
) -> None:
    channel_id = await channel_of(database, "calcom")
    key = KEYRING.signing_keys(channel_id)[0]
    for body in (b"false", b"title=x", b'{"title":"x"}'):
        response = await client.post(
            f"/webhooks/calcom/{channel_id}", content=body, headers=calcom(body, key)
        )
        assert (response.status_code, error_of(response)) == (400, "custom_template")
        assert "choose the default payload" in response.text
    assert await database.fetchval(COUNT) == 0


async def test_a_ping_is_answered_and_not_stored(
    client: httpx2.AsyncClient, database: Connection
) -> None:
    body = b'{"triggerEvent":"PING","payload":{"title":"Test"}}'
    response = await client.post(
        "/webhooks/calcom", content=body, headers=calcom(body, SHARED)
    )
    assert (response.status_code, response.json()) == (200, {"status": "verified"})
    assert await database.fetchval(COUNT) == 0


async def test_an_unknown_trigger_is_stored_and_marked_as_ignored(
    client: httpx2.AsyncClient, database: Connection
) -> None:
    channel_id = await channel_of(database, "calcom")
    body = b'{"triggerEvent":"BRAND_NEW","payload":{}}'
    key = KEYRING.signing_keys(channel_id)[0]
    await client.post(
        f"/webhooks/calcom/{channel_id}", content=body, headers=calcom(body, key)
    )
    (row,) = await database.fetch(STORED)
    assert json.loads(row["headers"])["ignored"]


@pytest.mark.parametrize(
    "text", [b"\\u0000", b"\xff\xfe", b"\\ud800"], ids=["nul", "no utf-8", "half"]
)
@pytest.mark.parametrize("provider", ["calendly", "calcom"])
async def test_what_postgres_cannot_hold_is_stored_as_far_as_it_can(
    client: httpx2.AsyncClient, database: Connection, provider: str, text: bytes
) -> None:
    channel_id = await channel_of(database, provider)
    body, sign = BODIES[provider]
    body = body.replace(b"Mira", b"Mi" + text + b"ra")
    headers = sign(body, KEYRING.signing_keys(channel_id)[0])
    path = f"/webhooks/{provider}/{channel_id}"
    response = await client.post(path, content=body, headers=headers)
    assert response.json() == {"status": "accepted"}


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b"{", b"[" * 100_000, b'{"event":' + b"[" * 100_000]
)
async def test_a_signed_body_of_the_wrong_shape_is_refused(
    client: httpx2.AsyncClient, body: bytes
) -> None:
    headers = calendly(body, SHARED)
    response = await client.post("/webhooks/calendly", content=body, headers=headers)
    assert (response.status_code, error_of(response)) == (400, "malformed")
    headers = calcom(body, SHARED)
    response = await client.post("/webhooks/calcom", content=body, headers=headers)
    assert response.status_code == 400


async def test_a_crowd_of_a_thousand_is_stored(
    client: httpx2.AsyncClient, database: Connection
) -> None:
    channel_id = await channel_of(database, "calcom")
    document = json.loads(BODIES["calcom"][0])
    document["payload"]["attendees"] *= 1000
    body = json.dumps(document).encode()
    assert len(body) > Limits().body_bytes
    key = KEYRING.signing_keys(channel_id)[0]
    response = await client.post(
        f"/webhooks/calcom/{channel_id}", content=body, headers=calcom(body, key)
    )
    assert response.json() == {"status": "accepted"}


@pytest.mark.parametrize("provider", ["calendly", "calcom"])
async def test_a_crowd_that_fills_the_memory_is_refused(
    client: httpx2.AsyncClient, database: Connection, provider: str
) -> None:
    _, sign = BODIES[provider]
    body = b'{"x":"%b"}' % (b"x" * Limits().batch_bytes)
    path = f"/webhooks/{provider}"
    response = await client.post(path, content=body, headers=sign(body, SHARED))
    assert (response.status_code, error_of(response)) == (413, "body_too_large")
    assert await database.fetchval(COUNT) == 0


class TestLimited:
    """Two refusals a minute an address."""

    @pytest.fixture
    def settings(self, database_url: str) -> ReceiverSettings:
        return make_settings(
            database_url,
            calendly_webhook_signing_key=SHARED,
            calcom_webhook_secret=SHARED,
            supacal_rate_refused_per_minute="2",
        )

    @pytest.mark.parametrize("provider", ["calendly", "calcom"])
    async def test_who_forges_bookings_is_limited_and_who_verifies_never(
        self, client: httpx2.AsyncClient, provider: str
    ) -> None:
        body, sign = BODIES[provider]
        path = f"/webhooks/{provider}"
        forged = sign(body, "another")
        statuses = [
            (await client.post(path, content=body, headers=forged)).status_code
            for _ in range(4)
        ]
        assert statuses == [401, 401, 429, 429]
        genuine = sign(body, SHARED)
        response = await client.post(path, content=body, headers=genuine)
        assert response.status_code == 200

    async def test_a_stale_time_rightly_signed_limits_nobody(
        self, client: httpx2.AsyncClient
    ) -> None:
        body, _ = BODIES["calendly"]
        stale = calendly(body, SHARED, age_s=3600)
        statuses = [
            (
                await client.post("/webhooks/calendly", content=body, headers=stale)
            ).status_code
            for _ in range(4)
        ]
        assert statuses == [401] * 4


async def test_cal_com_waits_for_a_database_that_comes_back_and_calendly_does_not(
    client: httpx2.AsyncClient, database: Connection
) -> None:
    channels = {name: await channel_of(database, name) for name in BODIES}

    async def send(provider: str) -> int:
        body, sign = BODIES[provider]
        channel_id = channels[provider]
        headers = sign(body, KEYRING.signing_keys(channel_id)[0])
        path = f"/webhooks/{provider}/{channel_id}"
        return (await client.post(path, content=body, headers=headers)).status_code

    transaction = database.transaction()
    await transaction.start()
    await database.execute(
        "lock table public.calendar_watch_channels in access exclusive mode"
    )
    waiting = asyncio.create_task(send("calcom"))
    assert await send("calendly") == 503
    assert not waiting.done()
    await transaction.rollback()
    assert await waiting == 200


def test_in_production_cal_com_is_kept_waiting_for_20_s() -> None:
    assert Limits().patience_s == 20


@pytest.mark.parametrize(
    ("path", "provider"),
    [
        *((path, name) for name, path in BY_HAND),
        ("/api/calendly/webhook/test", "calendly"),
    ],
)
async def test_each_address_says_whether_it_is_reached(
    client: httpx2.AsyncClient, path: str, provider: str
) -> None:
    told = (await client.get(path)).json()
    assert (told["provider"], told["configured"]) == (provider, True)
    assert told["url"] == f"https://sync.example.org/webhooks/{provider}"
