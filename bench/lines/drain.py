"""Draining 20,000 due tasks with handlers that do nothing."""

import asyncio
import time

import asyncpg

from bench.calendars import queries, seed
from bench.ground import Ground, connected
from bench.measure import NotMeasured, Result
from bench.receiving import no_op_worker
from bench.reports import listening

NAME = "drain"
TITLE = "Drain of 20,000 due tasks"
TASKS = 20_000
ROUNDS = 5
BATCH = 500
LIMIT_S = 60


async def measure(ground: Ground) -> Result:
    """Drain ours by the worker of production, the peer's by its own, in turn."""
    result = Result(NAME, TITLE)
    tasks = ground.amount(TASKS)
    speed: dict[str, list[float]] = {"ours": [], "default": [], "peer": []}
    missing = ""
    async with (
        ground.database() as url,
        ground.database(bare=True) as peer_url,
        connected(url) as connection,
    ):
        await seed(connection, tasks)
        for _ in range(ground.rounds(ROUNDS)):
            speed["ours"].append(await _drain(ground, url, connection, BATCH))
            speed["default"].append(await _drain(ground, url, connection, None))
            try:
                speed["peer"].append(await _peer(ground, peer_url, tasks))
            except NotMeasured as reason:
                missing = str(reason)
    result.compare(
        "jobs/s against PgQueuer, both with 500 at once",
        speed["ours"],
        speed["peer"] or None,
        at_least=1,
        why_not=missing,
    )
    result.show("Supacal, 500 slots", speed["ours"], "/s")
    result.show("Supacal, 32 slots (as it comes)", speed["default"], "/s")
    if speed["peer"]:
        result.show("PgQueuer, batch 500", speed["peer"], "/s")
    return result


async def _peer(ground: Ground, url: str, tasks: int) -> float:
    await ground.peers.need("pgqueuer")
    drained = await ground.peers.run(
        "pgqueuer_drain", str(tasks), str(BATCH), PEER_DATABASE_URL=url
    )
    return float(drained["per_second"])


async def _drain(
    ground: Ground, url: str, connection: asyncpg.Connection, slots: int | None
) -> float:
    """Let a worker start, make all tasks due at once, and time the last handler."""
    settings = {} if slots is None else {"SUPACAL_WORKER_SLOTS": str(slots)}
    tasks = ground.amount(TASKS)
    await queries.drain.rest(connection)
    await connection.execute("vacuum analyze sync.tasks")
    async with (
        listening() as reports,
        no_op_worker(ground, url, reports, after=tasks, **settings),
    ):
        all_begun = reports.expect("all")
        await queries.drain.make_due(connection)
        began = time.monotonic_ns()
        async with asyncio.timeout(LIMIT_S):
            return tasks / ((await all_begun - began) / 1e9)
