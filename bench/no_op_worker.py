"""The worker of production with handlers that do nothing but say that they began.

Settings are the worker's; BENCH_REPORT_PORT is where to say it. With
BENCH_REPORT_AFTER only so many together are reported, as the subject "all".
"""

import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta

import asyncpg
import httpx2
import uvloop

from runtime import logging
from runtime.settings import WorkerSettings, read
from worker.app import serve
from worker.handler import Handler, Outcome, Task

TOMORROW = timedelta(days=1)


class NoOp:
    """Ends at once, as a poll does that finds nothing."""

    def __init__(self, report_port: int, report_after: int) -> None:
        self._report = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._report_to = ("127.0.0.1", report_port)
        self._after = report_after
        self._begun = 0

    async def __call__(self, task: Task) -> Outcome:
        self._begun += 1
        if not self._after:
            self._tell(str(task.subject_id))
        elif self._begun == self._after:
            self._tell("all")
        return Outcome(next_at=task.claimed_at + TOMORROW, idle=True)

    def _tell(self, subject: str) -> None:
        told = f"{subject} {time.monotonic_ns()}"
        self._report.sendto(told.encode(), self._report_to)


def handlers_of(
    _: WorkerSettings, __: asyncpg.Pool, ___: httpx2.AsyncClient
) -> Mapping[str, Handler]:
    """Pulls are all there is."""
    port, after = (
        int(os.environ[name]) for name in ("BENCH_REPORT_PORT", "BENCH_REPORT_AFTER")
    )
    return {"pull": NoOp(port, after)}


if __name__ == "__main__":
    settings = read(WorkerSettings)
    logging.configure(settings.supacal_log_format)
    uvloop.run(serve(settings, handlers_of))
