"""PgQueuer: drain so many jobs that do nothing, in batches; print jobs a second."""

# mypy: disable-error-code="import-not-found,untyped-decorator"

import json
import os
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

URL = os.environ["PEER_DATABASE_URL"]
JOBS = int(sys.argv[1])
BATCH = int(sys.argv[2])
ENQUEUED_AT_ONCE = 1000


async def main() -> None:
    """Fill the queue, then drain it."""
    connection = await asyncpg.connect(URL)
    driver = AsyncpgDriver(connection)
    queries = Queries(driver)
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    for _ in range(0, JOBS, ENQUEUED_AT_ONCE):
        await queries.enqueue(
            ["pull"] * ENQUEUED_AT_ONCE,
            [b""] * ENQUEUED_AT_ONCE,
            [0] * ENQUEUED_AT_ONCE,
        )
    await connection.execute("analyze")
    worker = PgQueuer(driver)
    done = 0
    ended_at = 0.0

    @worker.entrypoint("pull")
    async def pull(_: Job) -> None:
        nonlocal done, ended_at
        done += 1
        if done == JOBS:
            ended_at = time.monotonic()

    began = time.monotonic()
    await worker.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
    took_s = ended_at - began
    sys.stdout.write(json.dumps({"per_second": JOBS / took_s, "done": done}) + "\n")


if __name__ == "__main__":
    uvloop.run(main())
