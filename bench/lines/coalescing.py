"""Many pushes for few calendars, over several connections at once."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import asyncpg

from bench.calendars import Channel, queries, seed
from bench.ground import Ground, connected
from bench.measure import Claim, Result, Spread
from sql import queries as product

NAME = "coalescing"
TITLE = "Coalescing, 8 connections by 100 notifications over 1,000 calendars"
CALENDARS = 1000
CONNECTIONS = 8
BATCH = 100
BATCHES = 60  # a connection and round
ROUNDS = 7
HEADERS = '{"resource_id":"resource","resource_state":"exists","message_number":"1"}'

Store = Callable[[asyncpg.Connection, Sequence[Channel]], Awaitable[None]]


async def measure(ground: Ground) -> Result:
    """Store the same rows by sync.receive and by a plain insert, in turn."""
    result = Result(NAME, TITLE)
    speed: dict[str, list[float]] = {"ours": [], "plain": [], "bare": []}
    async with ground.database() as url, connected(url) as admin:
        channels = await seed(admin, CALENDARS)
        await queries.coalescing.make_plain_tables(admin)
        before = await queries.coalescing.deadlocks(admin)
        for _ in range(ground.rounds(ROUNDS)):
            await queries.coalescing.rest(admin)
            for name, store in STORES.items():
                speed[name].append(await _store_all(ground, url, channels, store))
        await asyncio.sleep(1)  # until the counters are told
        deadlocks = await queries.coalescing.deadlocks(admin) - before
    result.compare(
        "rows/s against a plain insert of the same rows",
        speed["ours"],
        speed["plain"],
        at_least=0.4,
    )
    result.claims.append(Claim("deadlocks", Spread.of([deadlocks]), at_most=0, unit=""))
    result.show("sync.receive", speed["ours"], "rows/s")
    result.show(
        "plain insert, the queue's own columns and indexes", speed["plain"], "rows/s"
    )
    result.show("plain insert, primary key only", speed["bare"], "rows/s")
    return result


async def _store_all(
    ground: Ground, url: str, channels: Sequence[Channel], store: Store
) -> float:
    """Return rows a second, of all connections together."""
    batches = ground.amount(BATCHES)
    connections = [await asyncpg.connect(url) for _ in range(CONNECTIONS)]
    try:
        for connection in connections:
            await store(connection, channels[:BATCH])  # plans, caches

        async def work(connection: asyncpg.Connection) -> None:
            for _ in range(batches):
                await store(connection, random.choices(channels, k=BATCH))  # noqa: S311

        began = time.monotonic()
        await asyncio.gather(*(work(connection) for connection in connections))
        return CONNECTIONS * batches * BATCH / (time.monotonic() - began)
    finally:
        for connection in connections:
            await connection.close(timeout=5)


async def _receive(connection: asyncpg.Connection, channels: Sequence[Channel]) -> None:
    outcomes = await product.deliveries.receive(connection, **_columns(channels))
    if set(outcomes) != {"accepted"}:
        raise RuntimeError(f"not stored: {outcomes}")


async def _insert(connection: asyncpg.Connection, channels: Sequence[Channel]) -> None:
    await queries.coalescing.insert_plain(connection, **_columns(channels))


async def _insert_bare(
    connection: asyncpg.Connection, channels: Sequence[Channel]
) -> None:
    await queries.coalescing.insert_bare(connection, **_columns(channels))


def _columns(channels: Sequence[Channel]) -> dict[str, list[object]]:
    count, now = len(channels), datetime.now(UTC)
    return {
        "providers": ["google"] * count,
        "channel_ids": [channel.id for channel in channels],
        "routing_keys": [None] * count,
        "kinds": ["change"] * count,
        "headers": [HEADERS] * count,
        "bodies": [None] * count,
        "received_at": [now] * count,
    }


STORES: dict[str, Store] = {"ours": _receive, "plain": _insert, "bare": _insert_bare}
