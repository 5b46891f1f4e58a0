"""Supabase's own clients take the gateway for theirs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent

from local_stack.gateway import Gateway
from local_stack.node import install_packages
from tests.gateway.replay import SECRET
from tests.support.eventually import eventually
from tests.support.sessions import Connection

CHECKOUT = Path(__file__).parents[2]
ANN = "a1111111-1111-4111-8111-111111111111"
BOB = "b2222222-2222-4222-8222-222222222222"
SETUP = """
create table public.notes (id int primary key, owner uuid, body text);
alter table public.notes enable row level security;
grant select on public.notes to authenticated;
create policy own on public.notes for select to authenticated
  using (owner = (select auth.uid()));
alter publication supabase_realtime add table public.notes;
create policy members on realtime.messages for select to authenticated
  using (realtime.topic() = 'user:' || (select auth.uid()) and extension = 'broadcast');
"""


def token(user: str | None) -> str:
    """A token of the local project; None is the anon key."""
    claims: dict[str, Any] = {"exp": int(time.time()) + 3600, "role": "anon"}
    if user:
        claims |= {"role": "authenticated", "sub": user, "aud": "authenticated"}
    return jwt.encode(claims, SECRET, "HS256")


@pytest.fixture
async def notes(server: Connection) -> Connection:
    await server.execute("set role postgres")
    await server.execute(SETUP)
    await server.execute("reset role")
    return server


@pytest.fixture
async def ann(
    notes: Connection, gateway: Gateway
) -> AsyncIterator[AsyncRealtimeClient]:
    client = AsyncRealtimeClient(f"{gateway.url}/realtime/v1", token(None))
    await client.connect()
    await client.set_auth(token(ANN))
    yield client
    await client.close()


async def change_notes(database: Connection, heard: Callable[[], int]) -> None:
    """Ann's row lives and dies, and there is one of somebody else's.

    Policies look at a row as it is when they are asked: hence one by one.
    """
    await database.execute(f"insert into notes values (2, '{BOB}', 'not hers')")
    for place, statement in enumerate(
        (
            f"insert into notes values (1, '{ANN}', 'mine')",
            "update notes set body = 'still mine' where id = 1",
            "delete from notes where id = 1",
        )
    ):
        await database.execute(statement)
        await eventually(lambda count=place + 1: heard() == count)


async def test_supabase_py_hears_its_users_rows(
    ann: AsyncRealtimeClient, notes: Connection
) -> None:
    heard: list[Any] = []
    messages: list[Any] = []
    channel = ann.channel("rows")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All,
        schema="public",
        table="notes",
        callback=heard.append,
    )
    channel.on_system(messages.append)
    await channel.subscribe()
    await eventually(lambda: messages)
    await change_notes(notes, lambda: len(heard))
    told = [change["data"] for change in heard]
    assert [change["type"] for change in told] == ["INSERT", "UPDATE", "DELETE"]
    assert told[0]["record"] == {"id": 1, "owner": ANN, "body": "mine"}
    assert told[1]["record"]["body"] == "still mine"
    assert told[2]["old_record"] == {"id": 1}


async def test_supabase_py_hears_broadcasts_of_its_private_topic(
    ann: AsyncRealtimeClient, notes: Connection
) -> None:
    heard: list[Any] = []
    states: list[str] = []
    channel = ann.channel(f"user:{ANN}", {"config": {"private": True}})
    channel.on_broadcast("changed", heard.append)
    await channel.subscribe(lambda state, _: states.append(state.value))
    await eventually(lambda: "SUBSCRIBED" in states)
    await notes.execute(
        f"select realtime.send('{{\"n\": 1}}', 'changed', 'user:{ANN}')"
    )
    await eventually(lambda: heard)
    assert heard[0]["payload"]["n"] == 1


async def test_supabase_py_is_refused_a_topic_of_somebody_else(
    ann: AsyncRealtimeClient,
) -> None:
    states: list[str] = []
    channel = ann.channel(f"user:{BOB}", {"config": {"private": True}})
    await channel.subscribe(lambda state, _: states.append(state.value))
    await eventually(lambda: "CHANNEL_ERROR" in states)


class Script:
    """client.mjs, and the lines it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._reader = asyncio.create_task(self._read())
        self.lines: list[dict[str, Any]] = []

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(json.loads(line))

    def told(self, key: str) -> list[Any]:
        return [line[key] for line in self.lines if key in line]

    async def end(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._reader
        return await self._process.wait()


@pytest.fixture
async def script(notes: Connection, gateway: Gateway) -> AsyncIterator[Script]:
    node = await asyncio.to_thread(install_packages, CHECKOUT, judges=True, say=print)
    process = await asyncio.create_subprocess_exec(
        node.executable,
        Path(__file__).with_name("client.mjs"),
        f"{gateway.url}",
        token(None),
        token(ANN),
        f"user:{ANN}",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Script(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_supabase_js_joins_hears_speaks_and_leaves(
    script: Script, notes: Connection
) -> None:
    await eventually(
        lambda: (
            "SUBSCRIBED" in script.told("room")
            and "Subscribed to PostgreSQL" in script.told("system")
        ),
        within_s=20,
    )
    await change_notes(notes, lambda: len(script.told("change")))
    await notes.execute(
        f"select realtime.send('{{\"n\": 1}}', 'changed', 'user:{ANN}')"
    )
    await eventually(lambda: script.told("said"))
    assert script.told("change") == ["INSERT", "UPDATE", "DELETE"]
    assert script.told("new")[0] == {"id": 1, "owner": ANN, "body": "mine"}
    assert script.told("old")[2] == {"id": 1}
    assert script.told("said") == ["changed"]
    assert script.told("payload")[0]["n"] == 1
    await eventually(lambda: script.told("sent") and script.told("here"))
    assert script.told("sent") == ["ok"]
    assert script.told("lobby") == [{"n": 1}]
    assert await script.end() == 0
    assert script.told("left") == [0]
