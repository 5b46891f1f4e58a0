"""What Graph is promised: an answer to its question, and 202 for what is stored."""

import asyncio
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
from tests.webhook_api.faults import KILL, STUCK, Connect, stuck
from webhook_api.app import Receiver
from webhook_api.limits import Limits

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


class TestCrowds:
    """Three changes a minute of a channel are stored; of more, one a flush."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(channel_changes=3)

    async def test_above_their_share_channels_of_one_request_are_coalesced_and_202(
        self,
        client: httpx2.AsyncClient,
        app: Receiver,
        calendar_id: UUID,
        database: Connection,
        connect: Connect,
        admin: Connection,
    ) -> None:
        channels = [
            (await make_channel(database, calendar_id, status=status)).id
            for status in ("active", "replaced")
        ]

        def send(number: int) -> asyncio.Task[httpx2.Response]:
            # What Graph says twice of a channel counts once; a stranger costs nothing.
            changed = f"2026-11-28T06:00:{number:02}+00:00"
            told = [
                item(one, subscriptionExpirationDateTime=changed) for one in channels
            ]
            forged = item(uuid4()) | {"clientState": "forged"}
            content = body(forged, *told, *told)
            return asyncio.create_task(client.post(CHANGES, content=content))

        async with stuck(connect):
            sent = [send(0)]
            await eventually(lambda: admin.fetchval(STUCK))
            sent += [send(number) for number in range(1, 20)]
            await eventually(lambda: len(app.batcher) == 2 * 19)
        responses = await asyncio.gather(*sent)

        assert {one.status_code for one in responses} == {202}
        assert all(one.json() == {"status": "accepted"} for one in responses)
        stored = await database.fetch(STORED)
        for channel_id in channels:
            ends = [
                json.loads(row["headers"])["channel_expires_at"][17:19]
                for row in stored
                if row["channel_id"] == channel_id
            ]
            assert ends == ["00", "01", "02", "19"]
        assert len(await database.fetch(PULLS)) == 1
        assert app.metrics.deliveries.value("microsoft", "accepted") == 2 * 4
        assert app.metrics.deliveries.value("microsoft", "coalesced") == 2 * 16

    async def test_one_of_several_that_is_not_stored_is_503_for_all_of_its_request(
        self,
        client: httpx2.AsyncClient,
        app: Receiver,
        calendar_id: UUID,
        database: Connection,
        connect: Connect,
        admin: Connection,
    ) -> None:
        loud, quiet = [
            (await make_channel(database, calendar_id, status=status)).id
            for status in ("active", "replaced")
        ]
        for _ in range(3):
            await client.post(CHANGES, content=body(item(loud)))
        content = body(item(loud), item(quiet))
        async with stuck(connect):
            sent = [
                asyncio.create_task(client.post(CHANGES, content=content))
                for _ in range(3)
            ]
            await eventually(lambda: admin.fetchval(STUCK))
            await admin.execute(KILL)
            responses = await asyncio.gather(*sent)

        assert {error_of(one) for one in responses} == {"database_unavailable"}
        assert {one.status_code for one in responses} == {503}
        assert app.metrics.deliveries.value("microsoft", "coalesced") == 0
        again = await client.post(CHANGES, content=content)
        assert again.status_code == 202


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
