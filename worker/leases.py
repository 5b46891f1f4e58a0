"""The runs under way, and how their leases are kept.

A lease is renewed at a third of its length, for all that are due together. It counts
from the moment before it was asked for: what the way takes is against us, never for us.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from worker.handler import Task

# Who is to be renewed soon is renewed along.
ALONG = 5 / 6


@dataclass(slots=True, eq=False)
class Run:
    """A task and the job that works on it."""

    task: Task
    job: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.job is not None:
            self.job.cancel()


class Leases:
    """All runs of this worker, by the id of their task."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._runs: dict[int, Run] = {}
        self._renew_at = math.inf

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def renew_at(self) -> float:
        """When to renew next, on the monotonic clock; infinity = nothing runs."""
        return self._renew_at if self._runs else math.inf

    def begin(self, task: Task) -> Run:
        run = Run(task)
        if not self._runs:
            self._renew_at = math.inf
        self._runs[task.id] = run
        self._renew_at = min(self._renew_at, task.lease_ends - self.lease_s * 2 / 3)
        return run

    def holds(self, run: Run) -> bool:
        return self._runs.get(run.task.id) is run

    def end(self, run: Run) -> bool:
        """Whether it was still ours to end: a lost one has been taken away."""
        if not self.holds(run):
            return False
        del self._runs[run.task.id]
        return True

    def end_all(self) -> list[Run]:
        """Take all runs away."""
        runs = list(self._runs.values())
        self._runs.clear()
        return runs

    def connections(self) -> list[UUID]:
        """The connection of each run, as often as it has runs."""
        return [
            run.task.connection_id
            for run in self._runs.values()
            if run.task.connection_id is not None
        ]

    def to_renew(self) -> list[Run]:
        """Those that have used up a third of their lease, or nearly."""
        soon = time.monotonic() + self.lease_s * ALONG
        return [run for run in self._runs.values() if run.task.lease_ends <= soon]

    def renewed(
        self, asked: Iterable[Run], held: Iterable[int], asked_at: float
    ) -> list[Run]:
        """Move the leases that are still held; return the runs whose lease is gone."""
        still = set(held)
        gone = []
        for run in asked:
            if run.task.id in still:
                run.task.lease_ends = asked_at + self.lease_s
            elif self.end(run):
                gone.append(run)
        ends = (run.task.lease_ends for run in self._runs.values())
        self._renew_at = min(ends, default=math.inf) - self.lease_s * 2 / 3
        return gone
