"""A worker as a process, whose handlers end when they are cancelled, if then."""

import asyncio

import uvloop

from runtime import logging
from runtime.settings import WorkerSettings, read
from worker.app import serve
from worker.handler import Handler, Outcome, Task


async def obedient(_: Task) -> Outcome:
    """Wait until cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


async def stubborn(_: Task) -> Outcome:
    """Wait whatever happens."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


HANDLERS: dict[str, Handler] = {"pull": obedient, "watch": stubborn}

if __name__ == "__main__":
    logging.configure("json")
    uvloop.run(serve(read(WorkerSettings), lambda *_: HANDLERS))
