"""Bookings: how many stored deliveries a worker takes in, and how soon one shows."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from bench.bookings import booking, lives, post
from bench.calendars import queries
from bench.caller import Caller, calling
from bench.ground import Ground, connected
from bench.measure import Claim, Result, Spread, percentile
from bench.receiving import receiver
from bench.waiting import until
from sql import queries as product

NAME = "bookings"
TITLE = "Bookings by webhook: stored deliveries taken in, and POST → meeting committed"
HOSTS = 10
DELIVERIES = 10_000
STORED_AT_ONCE = 500
ROUNDS = 3
A_SECOND = 50
SECONDS = 8  # a round
CALLERS = 8
LIMIT_S = 120


async def measure(ground: Ground) -> Result:
    """Take in what lies there, then watch single bookings arrive."""
    result = Result(NAME, TITLE)
    rounds = ground.rounds(ROUNDS)
    speed = [await _take_in(ground) for _ in range(rounds)]
    result.claims.append(
        Claim(
            "deliveries/s by one worker, made, moved and cancelled",
            Spread.of(speed),
            at_least=1500,
            unit="/s",
        )
    )
    async with (
        _hosts(ground) as (url, admin, channels),
        receiver(ground, url) as port,
        _worker(ground, url),
    ):
        took = [
            await _arrive(ground, port, admin, channels, number)
            for number in range(rounds)
        ]
    p95 = Spread.of(percentile(one, 0.95) for one in took)
    result.claims.append(
        Claim(f"POST → meeting, p95 at {A_SECOND}/s", p95, at_most=100, unit="ms")
    )
    result.show("p50", [percentile(one, 0.5) for one in took], "ms")
    return result


async def _take_in(ground: Ground) -> float:
    """Store deliveries while no worker runs; return how many a second one takes in."""
    wanted = ground.amount(DELIVERIES)
    async with _hosts(ground) as (url, admin, channels):
        pairs = (
            (channel, body)
            for channel, bodies in zip(itertools.cycle(channels), lives(), strict=False)
            for body in bodies
        )
        stored = list(itertools.islice(pairs, wanted))
        for first in range(0, wanted, STORED_AT_ONCE):
            await _store(admin, stored[first : first + STORED_AT_ONCE])
        await admin.execute("vacuum analyze")
        async with _worker(ground, url):
            await until(lambda: _is_taken_in(admin), within_s=LIMIT_S)
        outcome = await queries.bookings.outcome(admin)
    if outcome["left_over"]:
        raise RuntimeError(f"{outcome['left_over']} deliveries were not taken in")
    return wanted / float(outcome["took_s"])


async def _is_taken_in(admin: asyncpg.Connection) -> bool:
    return not await queries.bookings.open_deliveries(admin)


async def _store(
    admin: asyncpg.Connection, deliveries: Sequence[tuple[UUID, str]]
) -> None:
    count, now = len(deliveries), datetime.now(UTC)
    outcomes = await product.deliveries.receive(
        admin,
        providers=["calcom"] * count,
        channel_ids=[channel for channel, _ in deliveries],
        routing_keys=[None] * count,
        kinds=["booking"] * count,
        headers=["{}"] * count,
        bodies=[body for _, body in deliveries],
        received_at=[now] * count,
    )
    if set(outcomes) != {"accepted"}:
        raise RuntimeError(f"not all were stored: {set(outcomes)}")


async def _arrive(
    ground: Ground,
    port: int,
    admin: asyncpg.Connection,
    channels: Sequence[UUID],
    number: int,
) -> list[float]:
    """Post bookings evenly; return milliseconds from each POST to its meeting."""
    count = int(A_SECOND * ground.seconds(SECONDS))
    prefix = f"Round {number}, "
    sent: dict[str, datetime] = {}
    free: asyncio.Queue[Caller] = asyncio.Queue()

    async def send(place: int) -> None:
        channel = channels[place % len(channels)]
        one = booking(1_000_000 * (number + 1) + place, f"{prefix}{place}")
        request = post(channel, ground.keyring.signing_keys(channel)[0], one.made())
        caller = await free.get()
        sent[one.title] = datetime.now(UTC)
        await caller.post(request)
        free.put_nowait(caller)

    async with asyncio.TaskGroup() as group, _callers(port) as callers:
        for caller in callers:
            free.put_nowait(caller)
        sending = []
        for place in range(count):
            sending.append(group.create_task(send(place)))
            await asyncio.sleep(1 / A_SECOND)
        await asyncio.wait(sending)

    async def shown() -> Mapping[str, datetime] | None:
        rows = queries.bookings.written(admin, title=prefix)
        found = {row["title"]: row["committed_at"] async for row in rows}
        return found if len(found) == count else None

    await until(shown, within_s=LIMIT_S)
    committed = await shown() or {}
    return [(committed[one] - at).total_seconds() * 1000 for one, at in sent.items()]


@asynccontextmanager
async def _callers(port: int) -> AsyncIterator[list[Caller]]:
    """Keep some connections to the receiver."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(calling(port)) for _ in range(CALLERS)]


@asynccontextmanager
async def _hosts(
    ground: Ground,
) -> AsyncIterator[tuple[str, asyncpg.Connection, list[UUID]]]:
    """Give a database with some who can be booked, and their channels."""
    async with ground.database() as url, connected(url) as admin:
        await queries.bookings.add_hosts(admin, hosts=HOSTS)
        await queries.calendars.forget_tasks(admin)
        rows = queries.bookings.channels(admin)
        yield url, admin, [row["channel_id"] async for row in rows]


@asynccontextmanager
async def _worker(ground: Ground, url: str) -> AsyncIterator[None]:
    """Run `supacal worker`."""
    async with ground.programs.program(
        ground.command("supacal", "worker"),
        ground.environment(url),
        says="listener.hearing",
    ):
        yield
