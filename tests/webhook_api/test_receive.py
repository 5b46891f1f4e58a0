"""What the endpoint promises to who sends, in the process, on a real database."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import httpx2
import pytest

from providers.model import Provider
from runtime.sealing import Keyring
from tests.support.sessions import Connection
from tests.webhook_api.channels import PATH, Channel, error_of, make_channel
from webhook_api.app import PATHS, Receiver
from webhook_api.limits import Limits

STORED = "select * from sync.webhook_deliveries order by id"
PULLS = "select count(*) from sync.tasks where kind = 'pull'"
COUNT = "select count(*) from sync.webhook_deliveries"


@pytest.mark.parametrize("path", PATHS[Provider.GOOGLE])
async def test_a_change_is_stored_and_its_calendar_is_to_be_pulled(
    client: httpx2.AsyncClient, channel: Channel, database: Connection, path: str
) -> None:
    response = await client.post(path, headers=channel.headers(number=481734))

    assert (response.status_code, response.json()) == (200, {"status": "accepted"})
    (row,) = await database.fetch(STORED)
    assert (row["provider"], row["kind"]) == ("google", "change")
    assert (row["channel_id"], row["body"]) == (channel.id, None)
    assert json.loads(row["headers"])["message_number"] == "481734"
    task = await database.fetchrow("select * from sync.tasks where kind = 'pull'")
    assert task is not None
    assert (task["subject_id"], task["lane"]) == (channel.calendar_id, 1)


async def test_no_token_reaches_the_database(
    client: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    headers = channel.headers()
    await client.post(PATH, headers=headers)
    rows = await database.fetch("select d::text as text from sync.webhook_deliveries d")
    assert headers["x-goog-channel-token"] not in rows[0]["text"]


@pytest.mark.parametrize("status", ["pending", "active", "replaced"])
async def test_a_hello_is_verified_and_tells_the_resource_id(
    client: httpx2.AsyncClient, database: Connection, channel: Channel, status: str
) -> None:
    await database.execute(
        "update public.calendar_watch_channels set status = $1", status
    )
    response = await client.post(PATH, headers=channel.headers(state="sync", number=1))

    assert (response.status_code, response.json()) == (200, {"status": "verified"})
    assert (
        await database.fetchval("select kind from sync.webhook_deliveries") == "hello"
    )
    resource_id = await database.fetchval(
        "select resource_id from sync.channel_state where channel_id = $1", channel.id
    )
    assert resource_id == channel.resource_id


async def test_a_right_token_on_a_channel_no_longer_ours_is_ignored_and_counted(
    client: httpx2.AsyncClient, app: Receiver, database: Connection, calendar_id: str
) -> None:
    stopped = await make_channel(database, calendar_id, status="stopped")
    unknown = Channel(uuid4(), stopped.calendar_id)
    for channel in (stopped, unknown):
        for state in ("exists", "sync"):
            response = await client.post(PATH, headers=channel.headers(state=state))
            assert (response.status_code, response.json()) == (
                200,
                {"status": "ignored"},
            )

    assert await database.fetchval(COUNT) == 0
    assert await database.fetchval(PULLS) == 0
    assert app.metrics.deliveries.value("google", "ignored") == 4


def _without_token(channel: Channel) -> dict[str, str]:
    return {k: v for k, v in channel.headers().items() if k != "x-goog-channel-token"}


def _forged(channel: Channel) -> dict[str, str]:
    foreign = Keyring.parse(Keyring.generate("test"))
    return channel.headers() | {
        "x-goog-channel-token": foreign.channel_token(channel.id)
    }


def _of_another_channel(channel: Channel) -> dict[str, str]:
    return channel.headers() | {
        "x-goog-channel-token": Channel(uuid4(), uuid4()).headers()[
            "x-goog-channel-token"
        ]
    }


def _garbage(channel: Channel) -> dict[str, str]:
    return channel.headers() | {"x-goog-channel-token": "v1.é.\x7f." + "." * 500}


@pytest.mark.parametrize(
    ("make_headers", "reason"),
    [
        (_without_token, "no token"),
        (_forged, "forged token"),
        (_of_another_channel, "token of another channel"),
        (_garbage, "forged token"),
    ],
)
async def test_what_cannot_be_verified_is_refused_and_nothing_is_stored(
    client: httpx2.AsyncClient,
    channel: Channel,
    database: Connection,
    refused: Callable[[str], int],
    make_headers: Callable[[Channel], dict[str, str]],
    reason: str,
) -> None:
    headers = {k: v.encode("latin-1") for k, v in make_headers(channel).items()}
    response = await client.post(PATH, headers=headers)

    assert (response.status_code, error_of(response)) == (401, "not_verified")
    assert refused(reason) == 1
    assert await database.fetchval(COUNT) == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_a_wrong_method_is_told_the_right_ones(
    client: httpx2.AsyncClient, refused: Callable[[str], int], method: str
) -> None:
    response = await client.request(method, PATH)
    assert (response.status_code, error_of(response)) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"
    assert refused("method not allowed") == 1


async def test_a_body_too_large_by_its_own_word_is_refused_unread(
    client: httpx2.AsyncClient, channel: Channel, refused: Callable[[str], int]
) -> None:
    body = b"{}" + b" " * Limits().body_bytes
    response = await client.post(PATH, headers=channel.headers(), content=body)
    assert (response.status_code, error_of(response)) == (413, "body_too_large")
    assert refused("body too large") == 1


async def test_a_body_that_grows_too_large_is_cut(
    client: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * (Limits().body_bytes // 8)

    response = await client.post(PATH, headers=channel.headers(), content=stream())
    assert (response.status_code, error_of(response)) == (413, "body_too_large")
    assert await database.fetchval(COUNT) == 0


async def test_a_body_that_is_not_json_is_refused_once_verified(
    client: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    response = await client.post(PATH, headers=channel.headers(), content=b"<xml/>")
    assert (response.status_code, error_of(response)) == (400, "malformed")
    response = await client.post(PATH, headers=_forged(channel), content=b"<xml/>")
    assert (response.status_code, error_of(response)) == (401, "not_verified")
    assert await database.fetchval(COUNT) == 0


async def test_a_verified_delivery_without_its_headers_is_malformed(
    client: httpx2.AsyncClient, channel: Channel
) -> None:
    headers = channel.headers() | {"x-goog-resource-id": ""}
    response = await client.post(PATH, headers=headers)
    assert (response.status_code, error_of(response)) == (400, "malformed")


async def test_paths_that_lead_nowhere_say_so_in_json(
    client: httpx2.AsyncClient,
) -> None:
    for path in ("/", "/webhooks/google/", "/webhooks/nobody", "/webhooks/microsoft/"):
        response = await client.post(path)
        assert (response.status_code, error_of(response)) == (404, "not_found")
    response = await client.post("/healthz")
    assert (response.status_code, error_of(response)) == (405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_500_deliveries_of_10_channels_at_once_are_each_stored_once(
    client: httpx2.AsyncClient, channel: Channel, app: Receiver, database: Connection
) -> None:
    assert Limits().channel_changes >= 50
    channels = [channel] + [
        await make_channel(database, channel.calendar_id, status="replaced")
        for _ in range(9)
    ]
    responses = await asyncio.gather(
        *(
            client.post(PATH, headers=channels[n % 10].headers(number=n))
            for n in range(500)
        )
    )

    assert Counter(response.status_code for response in responses) == {200: 500}
    rows = await database.fetch("select headers from sync.webhook_deliveries")
    numbers = [json.loads(row["headers"])["message_number"] for row in rows]
    assert sorted(map(int, numbers)) == list(range(500))
    assert await database.fetchval(PULLS) == 1
    assert app.metrics.deliveries.value("google", "accepted") == 500
