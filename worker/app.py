"""The worker as a whole: what it is made of, how it starts and how it stops."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import httpx2
import structlog

from runtime.clock import SystemClock
from runtime.pool import connect, open_pool
from runtime.settings import WorkerSettings
from worker.advance import Advance
from worker.connections import Connections
from worker.dispatcher import Dispatcher, Pace
from worker.handler import Handler
from worker.ingest import Ingest
from worker.keep import Keep
from worker.listener import Listener
from worker.pull import Pull
from worker.watch import Watch

# Handlers hold a connection for single statements, not while they wait for a provider.
POOL_SIZE = 8
# A page of 2,500 events comes within a few seconds, or not at all.
HTTP_TIMEOUT_S = 30
CLOSE_WITHIN_S = 1
SIGNALS = (signal.SIGTERM, signal.SIGINT)

HandlersOf = Callable[
    [WorkerSettings, asyncpg.Pool, httpx2.AsyncClient], Mapping[str, Handler]
]

log = structlog.get_logger()


class Worker:
    """Listens and works, until it is told to stop."""

    def __init__(
        self, settings: WorkerSettings, handlers: Mapping[str, Handler]
    ) -> None:
        access = settings.database
        to_database = partial(connect, access.url.get_secret_value(), role=access.role)
        self._dispatcher = Dispatcher(
            partial(to_database, application_name="supacal worker"),
            handlers,
            Pace(
                slots=settings.supacal_worker_slots,
                per_connection=settings.supacal_worker_per_connection,
                lease_s=settings.supacal_lease_seconds,
            ),
        )
        self._listener = Listener(
            partial(to_database, application_name="supacal worker listening"),
            self._dispatcher,
            probe_s=settings.supacal_probe_seconds,
        )

    async def run(self) -> None:
        """Work; return when stopped, with everything ended or given back."""
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(self._listener.run())
            await self._dispatcher.run()
            listening.cancel()

    def stop(self) -> None:
        """Claim nothing more; what runs may end by itself for 7 s."""
        self._dispatcher.stop()

    def abandoned(self) -> bool:
        """Whether, after ``run``, a handler goes on though it was cancelled."""
        return self._dispatcher.abandoned()


async def serve(
    settings: WorkerSettings, handlers_of: HandlersOf | None = None
) -> None:
    """Work until SIGTERM or SIGINT and be gone within 10 s; at the second, at once."""
    async with _resources(settings) as (pool, http):
        handlers = (handlers_of or all_handlers)(settings, pool, http)
        worker = Worker(settings, handlers)
        working = asyncio.ensure_future(worker.run())
        asked_to_stop = False

        def on_signal() -> None:
            nonlocal asked_to_stop
            if asked_to_stop:
                working.cancel()
            asked_to_stop = True
            worker.stop()

        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, on_signal)
        log.info("worker.started", pid=os.getpid(), slots=settings.supacal_worker_slots)
        await asyncio.wait({working})
        if worker.abandoned():
            # Nothing in the event loop would end it, nor the process with it.
            log.error("worker.abandoned", remedy="A handler ignores its cancellation.")
            os._exit(1)
        if not working.cancelled():
            working.result()


def all_handlers(
    settings: WorkerSettings, pool: asyncpg.Pool, http: httpx2.AsyncClient
) -> dict[str, Handler]:
    """Every kind of task that this worker claims, and who does it."""
    connections = Connections(http, pool, settings, SystemClock())
    return {
        "advance": Advance(pool),
        "ingest": Ingest(pool, connections),
        "keep": Keep(pool),
        "pull": Pull(pool, connections),
        "watch": Watch(pool, connections),
    }


@asynccontextmanager
async def _resources(
    settings: WorkerSettings,
) -> AsyncIterator[tuple[asyncpg.Pool, httpx2.AsyncClient]]:
    """What handlers share. A database that is away at the start is none of it."""
    access = settings.database
    pool = await open_pool(
        access.url.get_secret_value(),
        role=access.role,
        min_size=0,
        max_size=POOL_SIZE,
        application_name="supacal worker handlers",
    )
    try:
        async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_S) as http:
            yield pool, http
    finally:
        # Whoever still holds a connection at this point has been told to let go.
        pool.terminate()
