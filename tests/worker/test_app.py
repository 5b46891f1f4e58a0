"""Promises of the worker as a process: it starts, says so, and leaves in time."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runtime.pool import open_pool
from runtime.sealing import Keyring
from runtime.settings import WorkerSettings, read
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.worker.support import Proxy, make_due
from worker.app import Worker, all_handlers

ROOT = Path(__file__).parents[2]
Start = Callable[..., Awaitable[Process]]


def environment(url: str, **more: str) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "SUPACAL_SECRET_KEYS": Keyring.generate(),
        "SUPACAL_PUBLIC_URL": "http://127.0.0.1:8000",
        **more,
    }


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a worker whose handlers do not end by themselves."""
    started: list[Process] = []

    async def start(url: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.worker.slow_worker",
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environment(url)},
            stderr=PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_event(process: Process, event: str) -> dict[str, Any]:
    """Read its log up to this event."""
    assert process.stderr is not None
    async with asyncio.timeout(10):
        while line := await process.stderr.readline():
            told: dict[str, Any] = json.loads(line)
            if told["event"] == event:
                return told
    raise AssertionError(f"the log ended without {event}")


async def test_a_worker_that_is_terminated_gives_its_tasks_back_within_10_s(
    database: Connection, database_url: str, start: Start
) -> None:
    await make_due(database, 1, kind="pull")  # ends when cancelled
    await make_due(database, 1, kind="watch")  # does not end at all
    process = await start(database_url)
    await until_event(process, "task.claimed")
    await until_event(process, "task.claimed")
    told_at = time.monotonic()
    process.terminate()
    stopped = await until_event(process, "worker.stopped")
    await process.wait()
    assert time.monotonic() - told_at < 10
    assert stopped["handed_back"] == 2
    assert await database.fetchval(
        "select count(*) = 2 and bool_and(lease is null and attempts = 0 "
        "and run_at <= sync.clock()) from sync.tasks "
        "where kind not in ('keep', 'advance')"
    )


async def test_an_idle_worker_leaves_at_once(database_url: str, start: Start) -> None:
    process = await start(database_url)
    await until_event(process, "listener.hearing")
    told_at = time.monotonic()
    process.terminate()
    assert await process.wait() == 0
    assert time.monotonic() - told_at < 2


async def test_a_second_signal_does_not_wait_for_anybody(
    database: Connection, database_url: str, start: Start
) -> None:
    await make_due(database, 1)
    process = await start(database_url)
    await until_event(process, "task.claimed")
    told_at = time.monotonic()
    process.terminate()
    await until_event(process, "worker.stopping")
    process.terminate()
    await process.wait()
    assert time.monotonic() - told_at < 2


async def test_a_worker_without_a_database_waits_for_it_and_can_be_stopped(
    database_url: str, start: Start
) -> None:
    async with Proxy(database_url) as proxy:
        proxy.refuse()
        process = await start(proxy.url)
        await until_event(process, "database.away")
        proxy.refuse(False)
        await until_event(process, "listener.hearing")
        proxy.refuse()
        await until_event(process, "listener.away")
        told_at = time.monotonic()
        process.terminate()
        assert await process.wait() == 0
        assert time.monotonic() - told_at < 10


async def test_the_queue_is_kept_by_the_worker_itself(
    database: Connection, database_url: str
) -> None:
    day = await database.fetchval(
        "select 'sync.runs_' || to_char(sync.clock() + interval '30 days', 'YYYYMMDD')"
    )
    await database.execute(f"drop table {day}")
    settings = read(WorkerSettings, environment(database_url))
    pool = await open_pool(
        database_url, role="sync_worker", min_size=0, max_size=2, application_name="t"
    )
    async with pool, httpx2.AsyncClient() as http:
        worker = Worker(settings, all_handlers(settings, pool, http))
        working = asyncio.create_task(worker.run())
        await eventually(lambda: _exists(database, day))
        await eventually(lambda: _kept(database))
        worker.stop()
        await working


async def _exists(database: Connection, table: str) -> bool:
    return bool(await database.fetchval("select to_regclass($1) is not null", table))


async def _kept(database: Connection) -> bool:
    """Whether `keep` is due again in an hour."""
    return bool(
        await database.fetchval(
            "select lease is null and run_at > sync.clock() + interval '59 minutes' "
            "from sync.tasks where kind = 'keep'"
        )
    )
