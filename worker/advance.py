"""Kind `advance`: meetings that are over are completed, the next ones move up."""

import time
from datetime import timedelta

import asyncpg

from sql import queries
from worker.handler import Counts, Outcome, Task

# Whatever changes a meeting asks for an earlier run; looked at all the same.
AT_LEAST_EVERY = timedelta(hours=1)


class Advance:
    """Does to meetings and pipeline what only time does."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def __call__(self, task: Task) -> Outcome:
        began = time.perf_counter()
        done = await queries.tasks.advance(self._pool, **task.fence)
        latest = task.now() + AT_LEAST_EVERY
        return Outcome(
            next_at=min(done["next_at"] or latest, latest),
            counts=Counts(updated=done["completed"]),
            steps={"database": (time.perf_counter() - began) * 1000},
            idle=done["completed"] + done["moved"] == 0,
        )
