"""`python -m local_stack.gateway`, as a process of its own."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from local_stack.gateway import Gateway, GatewaySettings
from tests.gateway.clients import client, make_key
from tests.gateway.replay import SECRET
from tests.support.eventually import eventually
from tests.support.sessions import Connection, Sessions

SEND = "select realtime.send('{\"n\": 1}', 'e', 'news', false)"
DEAD = "supacal_gateway_1_dead"
SLOTS = "select count(*) from pg_replication_slots where database = current_database()"


@asynccontextmanager
async def running(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "local_stack.gateway",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves_as_postgres_until_a_signal_and_drops_its_slot(
    number: signal.Signals, bare: Sessions, server: Connection
) -> None:
    words = ("--database-url", bare.url, "--jwt-secret", SECRET, "--port", "0")
    key = "--opaque-key=sb_publishable_local=anon"
    async with running(*words, key) as process:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        assert ready["event"] == "gateway.ready"
        assert await server.fetchval(SLOTS) == 1
        async with client(ready["url"], "sb_publishable_local") as listener:
            await listener.join("news")
            await server.execute(SEND)
            await eventually(listener.broadcasts)
            process.send_signal(number)
            await eventually(listener.closed.is_set)
            assert listener.socket.close_code == 1001
        assert await process.wait() == 0
    assert await server.fetchval(SLOTS) == 0


async def test_it_says_what_it_needs_when_there_is_no_database() -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    async with running("--database-url", url, "--jwt-secret", SECRET) as process:
        _, told = await process.communicate()
        assert process.returncode == 2
        assert b"wal_level=logical" in told
        assert b"Traceback" not in told


async def test_help_names_every_option() -> None:
    async with running("--help") as process:
        told, _ = await process.communicate()
        assert process.returncode == 0
        for option in (b"--database-url", b"--port", b"--jwt-secret", b"--publication"):
            assert option in told


async def test_a_slot_of_another_gateway_that_is_just_reconnecting_stays(
    bare: Sessions, server: Connection
) -> None:
    await server.execute(
        "select pg_create_logical_replication_slot($1, 'pgoutput')", DEAD
    )
    settings = GatewaySettings(database_url=bare.url, jwt_secret=SECRET)
    async with Gateway(settings):
        # it may be another gateway's that is just connecting again: not yet
        assert await server.fetchval(SLOTS) == 2
    await server.execute("select pg_drop_replication_slot($1)", DEAD)
    assert await server.fetchval(SLOTS) == 0


async def test_today_and_tomorrow_have_a_partition_again(
    gateway: Gateway, server: Connection
) -> None:
    tomorrow = "'messages_' || to_char(timezone('utc', now()) + '1 day', 'YYYY_MM_DD')"
    exists = f"select to_regclass('realtime.' || {tomorrow}) is not null"
    await eventually(lambda: server.fetchval(exists))
    name = await server.fetchval(f"select {tomorrow}")
    await server.execute(f"drop table realtime.{name}")
    async with Gateway(gateway.settings):
        await eventually(lambda: server.fetchval(exists))


async def test_a_broadcast_takes_milliseconds(
    gateway: Gateway, server: Connection
) -> None:
    loop = asyncio.get_running_loop()
    async with client(gateway.url, make_key()) as listener:
        await listener.join("news")
        took_s = []
        for _ in range(50):
            listener.heard_something.clear()
            started_at = loop.time()
            await server.execute(SEND)
            await listener.heard_something.wait()
            took_s.append(loop.time() - started_at)
        # sending, committing and hearing; generous, for busy machines
        assert sorted(took_s)[len(took_s) // 2] < 0.02
