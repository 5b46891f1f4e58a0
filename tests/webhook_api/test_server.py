"""The server as a process of its own, spoken to over real connections."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from runtime.settings import SettingsError
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.webhook_api.channels import KEYS, PATH, Channel, error_of, make_channel
from tests.webhook_api.faults import STUCK, Connect, stuck
from webhook_api.server import listen

ROOT = Path(__file__).parents[2]
SERVE = """
import webhook_api.limits as limits
from dataclasses import replace
from runtime.settings import ReceiverSettings, read

strict = replace(limits.Limits(), headers_read_s=0.3, body_read_s=0.3)
import webhook_api.server as server
create = server.create_app
server.create_app = lambda settings: create(settings, limits=strict)
server.serve(read(ReceiverSettings))
"""
COUNT = "select count(*) from sync.webhook_deliveries"


@dataclass
class Served:
    """A running server."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def say(self, *pieces: bytes) -> bytes:
        """Send pieces on a connection of their own; returns all until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Served]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "SUPACAL_SECRET_KEYS": KEYS,
        "SUPACAL_PORT": "0",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, env=environ, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async for line in process.stderr:
        said = json.loads(line)
        if said["event"] == "receiver.listening":
            break
    # Nobody else reads it: a full pipe would stop the server.
    rest = asyncio.create_task(process.stderr.read())
    try:
        yield Served(process, said["port"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await rest


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=served.url) as client:
        await eventually(lambda: _is_ready(client))
        yield client


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


def parts(answer: bytes) -> tuple[int, dict[str, str], dict[str, dict[str, str]]]:
    """Status, headers and JSON of a raw answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, json.loads(body)


async def test_a_delivery_over_the_wire(
    http: httpx2.AsyncClient, channel: Channel, database: Connection
) -> None:
    for _ in range(3):  # on one connection
        response = await http.post(PATH, headers=channel.headers())
        assert response.json() == {"status": "accepted"}
        assert "server" not in response.headers
    assert await database.fetchval(COUNT) == 3


async def test_a_body_that_does_not_come_is_refused_in_time_and_the_connection_closed(
    served: Served,
) -> None:
    answer = await served.say(
        b"POST /webhooks/google HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"
    )
    status, headers, told = parts(answer)
    assert (status, told["error"]["code"]) == (408, "body_too_slow")
    assert headers["connection"] == "close"


async def test_headers_that_do_not_come_close_the_connection(served: Served) -> None:
    for begun in (b"", b"POST /webhooks/google HTTP/1.1\r\nhost: x\r\n"):
        assert await served.say(begun) == b""


async def test_a_second_request_that_stalls_closes_the_connection_too(
    served: Served,
) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await served.say(request + request[:20])
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_body_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    answer = await served.say(
        b"POST /webhooks/google HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n"
        b"expect: 100-continue\r\n\r\n"
    )
    status, headers, told = parts(answer)
    assert (status, told["error"]["code"]) == (413, "body_too_large")
    assert headers["connection"] == "close"


async def test_who_sends_too_large_a_body_all_the_same_still_reads_the_answer(
    http: httpx2.AsyncClient,
) -> None:
    response = await http.post(PATH, content=b" " * 5_000_000)
    assert (response.status_code, error_of(response)) == (413, "body_too_large")


async def test_a_chunked_body_is_cut_at_the_cap(served: Served) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    answer = await served.say(
        b"POST /webhooks/google HTTP/1.1\r\nhost: x\r\n",
        b"transfer-encoding: chunked\r\n\r\n",
        *[chunk] * 3,
    )
    assert parts(answer)[0] == 413


async def test_what_is_not_http_is_refused_in_json(served: Served) -> None:
    status, headers, told = parts(await served.say(b"\x16\x03\x01 hello\r\n\r\n"))
    assert (status, told["error"]["code"]) == (400, "bad_request")
    assert headers["content-type"] == "application/json"


async def test_128_connections_lose_nothing(
    served: Served,
    http: httpx2.AsyncClient,
    calendar_id: UUID,
    database: Connection,
) -> None:
    # No channel says more than what is stored one by one.
    channels = [
        await make_channel(database, calendar_id, status="replaced") for _ in range(16)
    ]
    limits = httpx2.Limits(max_connections=128)
    async with httpx2.AsyncClient(
        base_url=served.url, limits=limits, timeout=60
    ) as client:
        answers = await asyncio.gather(
            *(_sent_until_taken(client, channels[n % 16]) for n in range(512))
        )
    refused = sum(answers)
    # A refusal promises nothing: the row may be there all the same.
    assert 512 <= await database.fetchval(COUNT) <= 512 + refused


async def _sent_until_taken(client: httpx2.AsyncClient, channel: Channel) -> int:
    """Send one delivery as a provider does, again after a 503; how many there were."""
    refused = 0
    while True:
        answer = await client.post(PATH, headers=channel.headers())
        if answer.status_code == 200:
            return refused
        assert answer.status_code == 503
        refused += 1


async def test_sigterm_answers_what_is_under_way_and_stores_it(
    served: Served,
    http: httpx2.AsyncClient,
    channel: Channel,
    database: Connection,
    admin: Connection,
    connect: Connect,
) -> None:
    async with stuck(connect):
        first = asyncio.create_task(http.post(PATH, headers=channel.headers()))
        await eventually(lambda: admin.fetchval(STUCK))
        second = asyncio.create_task(http.post(PATH, headers=channel.headers()))
        await eventually(lambda: _waiting(http))
        served.process.send_signal(signal.SIGTERM)
        await eventually(lambda: _refuses_connections(served.port))
    responses = await asyncio.gather(first, second)
    assert [response.status_code for response in responses] == [200, 200]
    assert await database.fetchval(COUNT) == 2
    assert await asyncio.wait_for(served.process.wait(), 10) == 0


async def _waiting(http: httpx2.AsyncClient) -> bool:
    return "supacal_deliveries_waiting 1" in (await http.get("/metrics")).text


def _refuses_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


async def test_a_sender_that_leaves_is_stored_all_the_same(
    served: Served,
    http: httpx2.AsyncClient,
    channel: Channel,
    database: Connection,
    admin: Connection,
    connect: Connect,
) -> None:
    headers = "".join(f"{k}: {v}\r\n" for k, v in channel.headers().items())
    async with stuck(connect):
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())
        await eventually(lambda: admin.fetchval(STUCK))
        writer.transport.abort()
    await eventually(lambda: database.fetchval(COUNT))


async def test_an_idle_server_leaves_at_once(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(served.process.wait(), 5) == 0


def test_a_port_that_is_taken_is_told_with_what_to_do() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            listen("127.0.0.1", port)
    (problem,) = refused.value.problems
    assert problem.startswith(f"SUPACAL_PORT {port} is taken: ")


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(SettingsError, match=r"SUPACAL_HOST 192\.0\.2\.1 is no address"):
        listen("192.0.2.1", 0)
