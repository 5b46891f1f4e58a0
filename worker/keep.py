"""Kind `keep`: days of the queue are made ahead; what is over is cleared away."""

import time
from datetime import timedelta

import asyncpg

from sql import queries
from worker.handler import Outcome, Task, TaskFailed

EVERY = timedelta(hours=1)


class Keep:
    """Keeps the partitions of deliveries and runs, and forgets old channels."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def __call__(self, task: Task) -> Outcome:
        began = time.perf_counter()
        try:
            touched = await queries.tasks.prune_channels(self._pool)
            touched += await queries.tasks.keep_partitions(self._pool)
        except asyncpg.LockNotAvailableError:
            # It gives way after 200 ms: whoever queues behind it would wait as long.
            raise TaskFailed("a partition is in use: tried again soon") from None
        return Outcome(
            next_at=task.now() + EVERY,
            steps={"database": (time.perf_counter() - began) * 1000},
            idle=touched == 0,
        )
