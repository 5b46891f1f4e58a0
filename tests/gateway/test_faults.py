"""The gateway survives what databases and clients do to it."""

import asyncio
import json
import random
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import asyncpg
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from local_stack.gateway import Gateway, GatewaySettings, joining, subscriptions
from tests.gateway.clients import Client, address, client, make_key
from tests.support.eventually import eventually
from tests.support.sessions import Connection, Sessions

ROWS = [{"event": "*", "schema": "public", "table": "log"}]
TABLE = """
create table public.log (id int primary key, note text);
grant select on public.log to anon, authenticated;
alter publication supabase_realtime add table public.log;
"""
KILL_READERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and backend_type = 'walsender'
"""
KILL_ALL = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name like 'supacal gateway%'
"""


async def say(server: Connection, number: int, *, topic: str = "news") -> None:
    payload = json.dumps({"n": number})
    await server.execute(
        "select realtime.send($1::jsonb, 'said', $2, false)", payload, topic
    )


def numbers(listener: Client) -> list[int]:
    return [payload["n"] for payload in listener.broadcasts()]


@pytest.mark.parametrize("kill", [KILL_READERS, KILL_ALL], ids=["reader", "all"])
async def test_no_change_is_lost_or_doubled_when_connections_are_killed(
    kill: str, gateway: Gateway, server: Connection
) -> None:
    await server.execute(TABLE)
    async with client(gateway.url) as listener:
        await listener.join("news")
        await listener.join("rows", postgres_changes=ROWS)
        for number in range(120):
            await server.execute("insert into log values ($1, 'x')", number)
            await say(server, number)
            if number % 20 == 10:
                await server.execute(kill)
        await eventually(lambda: len(listener.records("rows")) >= 120, within_s=20)
        await eventually(lambda: len(numbers(listener)) >= 120, within_s=20)
        assert [row["id"] for row in listener.records("rows")] == list(range(120))
        assert numbers(listener) == list(range(120))


async def test_a_slot_that_was_dropped_is_made_again(
    gateway: Gateway, server: Connection
) -> None:
    async with client(gateway.url) as listener:
        await listener.join("news")
        await server.execute(KILL_READERS)

        async def dropped() -> bool:
            try:
                await server.execute(
                    "select pg_drop_replication_slot($1)", gateway.slot
                )
            except asyncpg.ObjectInUseError:
                await server.execute(KILL_READERS)
                return False
            return True

        await eventually(dropped)

        async def heard() -> bool:
            await say(server, 1)
            return bool(numbers(listener))

        await eventually(heard, within_s=10)


async def test_a_client_that_never_reads_is_closed_and_others_hear_all(
    settings: GatewaySettings, server: Connection
) -> None:
    small = replace(settings, send_buffer_bytes=256 * 1024)
    async with Gateway(small) as gateway, client(gateway.url) as listener:
        await listener.join("news")
        deaf = await connect(
            address(gateway.url, make_key()),
            compression=None,
            proxy=None,
            max_queue=1,
            ping_interval=None,
        )
        await deaf.send(json.dumps(["1", "1", "realtime:news", "phx_join", {}]))
        await deaf.recv()
        deaf.transport.pause_reading()
        await server.execute(
            """
            select realtime.send(
              jsonb_build_object('n', n, 'x', repeat('x', 20000)), 'said', 'news', false
            ) from generate_series(0, 999) as n
            """
        )
        await eventually(lambda: len(numbers(listener)) == 1000, within_s=20)
        assert numbers(listener) == list(range(1000))
        deaf.transport.resume_reading()
        with suppress(ConnectionClosed):
            async for _ in deaf:
                pass
        assert deaf.close_code == 1006  # cut off, not told
        assert await listener.is_alive()


async def test_a_thousand_joins_of_one_socket_end_at_its_limit(
    gateway: Gateway,
) -> None:
    async with client(gateway.url) as greedy:
        for number in range(1000):
            topic = f"realtime:room-{number}"
            await greedy.send(str(number), topic, "phx_join", {"config": {}})
        await eventually(lambda: len(greedy.frames) == 1000, within_s=20)
        statuses = [frame[4]["status"] for frame in greedy.frames]
        assert statuses == ["ok"] * 100 + ["error"] * 900
        reason = greedy.frames[-1][4]["response"]["reason"]
        assert reason == "ChannelRateLimitReached: Too many channels"
        assert await greedy.is_alive()


async def test_a_storm_of_reconnects_leaves_nothing_behind(gateway: Gateway) -> None:
    async def come_and_go(number: int) -> None:
        key = make_key() if number % 3 else "no-token"
        try:
            socket = await connect(address(gateway.url, key), proxy=None)
        except InvalidStatus:
            return
        await socket.send(json.dumps(["1", "1", "realtime:storm", "phx_join", {}]))
        socket.transport.abort()

    for _ in range(3):
        await asyncio.gather(*(come_and_go(number) for number in range(100)))
    async with client(gateway.url) as late:
        await late.join("storm")
        assert await late.is_alive()
        await eventually(lambda: gateway.open_sockets == 1)
    await eventually(lambda: gateway.open_sockets == 0)


NONSENSE: list[str | bytes] = [
    "",
    "null",
    "[]",
    "{}",
    '["1","1","realtime:x","phx_join"]',
    '["1","1",7,"phx_join",{}]',
    '["1","1","realtime:x",null,{}]',
    '["1","1","realtime:","phx_join",{}]',
    '["1","1","realtime:x","phx_join",7]',
    '["1","1","realtime:x","phx_join",{"config":7}]',
    '["1","1","realtime:x","phx_join",{"config":{"postgres_changes":{"a":1}}}]',
    '["1","1","realtime:x","phx_join",{"config":{"postgres_changes":[7]}}]',
    '["1","1","realtime:x","phx_join",{"config":{"broadcast":[],"presence":"y"}}]',
    '[{"a":1},[2],"realtime:x","phx_join",{"config":{}}]',
    '["1","2","realtime:x","access_token",[]]',
    '["1","2","realtime:x","access_token",{"access_token":{"a":1}}]',
    '["1","2","realtime:x","presence",7]',
    '["1","2","realtime:x","presence",{"event":7}]',
    '["1","2","realtime:x","broadcast",null]',
    "[" * 20_000,
    '["1","2","realtime:x","broadcast",' + "[" * 5000 + "]" * 5000 + "]",
    b"",
    b"\x03",
    b"\x03\xff\xff\xff\xff\xff\x01",
    b"\x04\x01\x01\x01\x01\x01\x01aaaaa{}",
    b"\x03\x01\x01\x0a\x01\x00\x0111realtime:xe{nope",
    b"\x03\x01\x01\x0a\x01\x00\x0911realtime:xe{}",
    b"\x03\x01\x01\x0a\x01\x00\x01\xff\xffrealtime:xe{}",
]


async def test_nonsense_is_ignored_and_the_socket_stays_open(gateway: Gateway) -> None:
    async with client(gateway.url) as odd:
        for nonsense in NONSENSE:
            await odd.socket.send(nonsense)
        randomly = random.Random(7)  # noqa: S311
        for _ in range(300):
            await odd.socket.send(randomly.randbytes(randomly.randrange(60)))
        assert await odd.is_alive()
        await odd.join("still-here")


async def test_a_frame_of_more_than_five_megabytes_closes_the_socket(
    gateway: Gateway,
) -> None:
    async with client(gateway.url) as loud:
        with suppress(ConnectionClosed):
            await loud.socket.send("x" * 5_000_001)
        await eventually(loud.closed.is_set)
        assert loud.socket.close_code == 1009


@pytest.mark.parametrize(
    "request_text",
    [
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /api/broadcast HTTP/1.1\r\ncontent-length: nope\r\n\r\n",
        b"GET /realtime/v1/websocket HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
        b"GET /socket/websocket HTTP/1.1\r\nupgrade: websocket\r\nnonsense\r\n\r\n",
        bytes(range(1, 200)) + b"\r\n\r\n",
        b"x" * 100_000,
    ],
)
async def test_requests_that_are_none_end_with_their_connection(
    request_text: bytes, gateway: Gateway
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(request_text)
        writer.write_eof()
        async with asyncio.timeout(5):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        assert not answer or answer.startswith(b"HTTP/1.1 4")
    finally:
        writer.close()
    async with client(gateway.url) as another:
        assert await another.is_alive()


async def test_a_socket_that_says_nothing_is_closed(settings: GatewaySettings) -> None:
    async with (
        Gateway(replace(settings, idle_limit_s=0.3)) as gateway,
        client(gateway.url) as silent,
    ):
        await eventually(silent.closed.is_set)


async def test_a_channel_ends_with_its_token(gateway: Gateway) -> None:
    async with client(gateway.url, make_key(life_s=1.5)) as brief:
        await brief.join("news")
        topic = "realtime:news"
        await eventually(lambda: brief.heard(topic, "phx_close"))
        assert brief.heard(topic, "system")[-1]["message"].startswith(
            "Token has expired"
        )
        assert await brief.is_alive()


POLICIES = """
create table public.slow (id int primary key);
alter table public.slow enable row level security;
grant select on public.slow to anon, authenticated;
create policy slow on public.slow for select to authenticated
  using ((select pg_sleep(1)) is not null);
create policy broken on public.slow for select to anon using (1 / (id - id) = 1);
alter publication supabase_realtime add table public.slow;
"""


async def test_a_broadcast_does_not_wait_for_the_policies_of_rows(
    gateway: Gateway, server: Connection
) -> None:
    await server.execute(POLICIES)
    rows = [{"event": "*", "schema": "public", "table": "slow"}]
    async with client(gateway.url, make_key("authenticated")) as listener:
        await listener.join("rows", postgres_changes=rows)
        await listener.join("news")
        await server.execute("insert into slow values (7)")
        await say(server, 1)
        await eventually(lambda: numbers(listener))
        assert not listener.records("rows")
        await eventually(lambda: listener.records("rows"))


async def test_a_policy_that_fails_for_one_user_harms_no_other(
    gateway: Gateway, server: Connection
) -> None:
    await server.execute(POLICIES)
    rows = [{"event": "*", "schema": "public", "table": "slow"}]
    async with AsyncExitStack() as stack:
        harmed = await stack.enter_async_context(client(gateway.url))
        other = await stack.enter_async_context(
            client(gateway.url, make_key("service_role"))
        )
        await server.execute("grant select on slow to service_role")
        for listener in (harmed, other):
            await listener.join("rows", postgres_changes=rows)
        await server.execute("insert into slow values (1)")
        await server.execute("insert into slow values (2)")
        await eventually(lambda: len(other.records("rows")) == 2)
        await server.execute("drop policy broken on slow")
        await server.execute("create policy mended on slow to anon using (true)")
        await server.execute("insert into slow values (3)")
        await eventually(lambda: harmed.records("rows") == [{"id": 3}])


async def test_a_filter_that_fails_at_a_value_harms_no_other_binding(
    gateway: Gateway, server: Connection
) -> None:
    await server.execute(TABLE)
    rows = [*ROWS, {**ROWS[0], "filter": "note=match.^x"}]
    async with client(gateway.url) as listener:
        await listener.join("rows", postgres_changes=rows)
        await server.execute("alter table log alter note type int using null::int")
        await server.execute("insert into log values (1, 7)")
        await eventually(lambda: listener.records("rows") == [{"id": 1, "note": 7}])


async def test_who_joins_while_the_database_is_away_gets_rows_when_it_is_back(
    gateway: Gateway,
    server: Connection,
    bare: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscriptions, "ANSWER_LIMIT_S", 0.1)
    monkeypatch.setattr(joining, "TRY_AGAIN_S", 0.1)
    await server.execute(TABLE)
    admin_url = bare.cluster.url_of("postgres", role="supabase_admin")
    elsewhere = await asyncpg.connect(admin_url)
    door = f"alter database {bare.database} allow_connections"
    async with client(gateway.url) as listener:

        def told() -> list[str]:
            messages = listener.heard("realtime:rows", "system")
            return [message["status"] for message in messages]

        # Postgres closes the door, and shows out who is in
        await elsewhere.execute(f"{door} false")
        await server.execute(KILL_ALL)
        await listener.join("rows", postgres_changes=ROWS)
        assert told()[0] == "error"
        await elsewhere.execute(f"{door} true")
        await elsewhere.close()

        await eventually(lambda: told()[-1:] == ["ok"], within_s=15)
        await server.execute("insert into log values (1, 'x')")
        await eventually(lambda: listener.records("rows"))
