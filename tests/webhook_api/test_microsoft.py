"""What Graph is promised: an answer to its question, and 202 for what is stored."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx2
import msgspec
import pytest

from local_stack.twins.microsoft import Behaviour, MicrosoftTwin
from providers.microsoft.client import MicrosoftClient
from runtime.clock import SystemClock
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.webhook_api.channels import KEYRING, Channel, error_of, make_channel
from webhook_api.app import Receiver

CHANGES = "/webhooks/microsoft"
LIFECYCLE = "/webhooks/microsoft/lifecycle"
STORED = "select * from sync.webhook_deliveries order by id"
PULLS = "select subject_id from sync.tasks where kind = 'pull'"


@pytest.fixture
async def calendar_id(database: Connection) -> UUID:
    """A calendar of an Outlook connection."""
    organization_id = await make_organization(database)
    connection_id = await make_connection(
        database, organization_id, provider="microsoft"
    )
    return await make_calendar(database, connection_id, sync_enabled=True)


def item(channel_id: UUID, **more: Any) -> dict[str, Any]:
    return {
        "subscriptionId": "6d0f3a52-8a0e-4a0e-9a57-1f1c7b7c2e10",
        "subscriptionExpirationDateTime": "2026-11-28T06:00:00+00:00",
        "changeType": "updated",
        "resource": "Users/91c1/Events/AAkALgAAPzE7aaa=",
        "clientState": KEYRING.channel_token(channel_id),
        **more,
    }


def body(*items: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"value": items})


@pytest.mark.parametrize("path", [CHANGES, LIFECYCLE])
async def test_whoever_asks_is_answered_as_text_and_nothing_is_stored(
    client: httpx2.AsyncClient, database: Connection, path: str
) -> None:
    token = "Validation: Testing client + 100% <script>alert(1)</script> é"
    answer = await client.post(
        f"{path}?channel={uuid4()}&validationToken={quote(token, safe='')}",
        headers={"content-type": "text/plain; charset=utf-8"},
        content=b"",
    )
    assert (answer.status_code, answer.text) == (200, token)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert await database.fetch(STORED) == []


async def test_a_change_is_202_after_it_was_stored(
    client: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    url = f"{CHANGES}?channel={channel.id}"
    answer = await client.post(url, content=body(item(channel.id)))
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    (row,) = await database.fetch(STORED)
    assert (row["provider"], row["kind"], row["channel_id"]) == (
        "microsoft",
        "change",
        channel.id,
    )
    assert row["body"] is None
    assert json.loads(row["headers"])["resource_state"] == "updated"
    assert await database.fetchval(PULLS) == channel.calendar_id
    everything = await database.fetchval(
        "select string_agg(d::text, '') from sync.webhook_deliveries d"
    )
    assert KEYRING.channel_token(channel.id) not in everything


async def test_a_lifecycle_event_is_stored_with_its_reason(
    client: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    told = item(channel.id, changeType=None, lifecycleEvent="missed")
    answer = await client.post(LIFECYCLE, content=body(told))
    assert answer.status_code == 202
    (row,) = await database.fetch(STORED)
    assert row["kind"] == "lifecycle"
    assert json.loads(row["headers"])["reason"] == "missed"


async def test_one_request_of_several_channels_stores_each_that_is_ours(
    client: httpx2.AsyncClient,
    channel: Channel,
    calendar_id: UUID,
    database: Connection,
) -> None:
    second = await make_channel(database, calendar_id, status="replaced")
    stopped = await make_channel(database, calendar_id, status="stopped")
    forged = item(channel.id) | {"clientState": "forged"}
    items = [item(one.id) for one in (channel, second, stopped, channel)]
    answer = await client.post(CHANGES, content=body(forged, *items))
    assert answer.status_code == 202
    stored = {row["channel_id"] for row in await database.fetch(STORED)}
    assert stored == {channel.id, second.id}


async def test_only_channels_that_are_no_longer_ours_are_ignored(
    client: httpx2.AsyncClient, database: Connection
) -> None:
    answer = await client.post(CHANGES, content=body(item(uuid4())))
    assert (answer.status_code, answer.json()) == (200, {"status": "ignored"})
    assert await database.fetch(STORED) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"value":[]}',
        b"not json",
        body({"clientState": "forged"}),
        body(item(uuid4()) | {"clientState": None}),
        body(item(uuid4()) | {"clientState": 7}),
    ],
)
async def test_what_has_nothing_of_ours_is_refused(
    client: httpx2.AsyncClient, app: Receiver, content: bytes
) -> None:
    answer = await client.post(CHANGES, content=content)
    assert (answer.status_code, error_of(answer)) == (401, "not_verified")
    reasons = ("no items", "forged token")
    counts = [app.metrics.refused.value("microsoft", reason) for reason in reasons]
    assert sum(counts) == 1


async def test_a_batch_may_be_large_but_not_endless(
    client: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    large = body(*[item(channel.id)] * 2_000)
    assert len(large) > 500_000
    assert (await client.post(CHANGES, content=large)).status_code == 202
    assert len(await database.fetch(STORED)) == 1
    endless = await client.post(CHANGES, content=large * 3)
    assert error_of(endless) == "body_too_large"


async def test_the_twin_subscribes_pushes_and_its_calendar_is_to_be_pulled(
    app: Receiver, channel: Channel, database: Connection
) -> None:
    address = f"https://hooks.test{CHANGES}"
    clock = SystemClock()
    async with (
        MicrosoftTwin(clock, Behaviour()) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        twin.deliver_to("https://hooks.test", httpx2.ASGITransport(app))
        mira = twin.account("mira@example.org")
        grant = mira.sign_in()

        async def access_token() -> str:
            return grant.access_token

        graph = MicrosoftClient(http, "https://twin.test/v1.0", access_token)
        made = await graph.watch(
            mira.primary.id,
            channel_id=channel.id,
            token=KEYRING.channel_token(channel.id),
            address=address,
        )
        mira.primary.add("Review", clock.now() + timedelta(days=1))
        twin.ask_to_reauthorize(made.resource_id)

        async def kinds() -> set[str]:
            return {row["kind"] for row in await database.fetch(STORED)}

        async def both() -> bool:
            return await kinds() == {"change", "lifecycle"}

        await eventually(both)
        assert await database.fetchval(PULLS) == channel.calendar_id
        assert {record.status for record in twin.pushes.log} == {202}
