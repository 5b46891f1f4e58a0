"""`supacal dev`: everything on this machine, until Ctrl-C."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import uvloop

from local_stack.errors import StackError
from local_stack.facts import Facts, summary
from local_stack.stack import LOOK_EVERY_S, Stack
from local_stack.state import State
from runtime import logging
from runtime.settings import StackSettings, read
from supacal.exit_codes import INTERRUPTED
from supacal.tour import Tour

T = TypeVar("T")

SEEN_AFTER_S = 2 * LOOK_EVERY_S


class ToldToStop(Exception):
    """Ctrl-C or SIGTERM came."""


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    settings = read(StackSettings)
    logging.configure("console")
    keys = settings.supacal_secret_keys
    secret_keys = keys.get_secret_value() if keys else None
    with State(settings.supacal_state_dir, secret_keys=secret_keys) as state:
        if given.reset:
            state.reset()
        return uvloop.run(_serve(given, settings, state))


async def _serve(
    given: argparse.Namespace, settings: StackSettings, state: State
) -> int:
    began = time.monotonic()
    stopped = _when_told_to_stop()
    # stdout is for what was asked for: JSON, or the tour.
    say = _writer(sys.stderr.write if given.json else sys.stdout.write)
    stack = Stack(state, settings, say=say)
    async with AsyncExitStack() as closing:
        closing.push_async_callback(stack.stop)
        try:
            facts = await _unless(stopped, stack.start())
            if not given.tour:
                await stack.switch_on()
            _tell(given, facts, say, time.monotonic() - began)
            return await _unless(stopped, _show(given, stack, facts, say))
        except ToldToStop:
            # Ending is how serving ends well; what was to end by itself broke off.
            return INTERRUPTED if given.exit else 0


async def _show(
    given: argparse.Namespace, stack: Stack, facts: Facts, say: Callable[[str], None]
) -> int:
    """Do what was asked for, as long as all parts of the stack live."""
    trouble = asyncio.create_task(stack.trouble())
    try:
        code = 0
        if given.tour:
            toured = await _before(trouble, Tour(stack, facts).walk(say))
            code = 0 if toured else 1
        if given.exit:
            return code
        say("Serving. Ctrl-C ends it.")
        raise await trouble
    finally:
        trouble.cancel()


def _when_told_to_stop() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def _unless(stopped: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work gives.

    Raises:
        ToldToStop: that came first; the work is over all the same.
    """
    stopping = asyncio.create_task(stopped.wait())
    try:
        return await _first(stopping, work, ToldToStop)
    finally:
        stopping.cancel()


async def _before(trouble: asyncio.Task[StackError], work: Coroutine[Any, Any, T]) -> T:
    """Return what the work gives, or raise the trouble that came first."""
    try:
        return await _first(trouble, work, trouble.result)
    except Exception:
        # A part that ended may be felt before it is seen.
        done, _ = await asyncio.wait({trouble}, timeout=SEEN_AFTER_S)
        if done:
            raise trouble.result() from None
        raise


async def _first(
    event: asyncio.Task[Any],
    work: Coroutine[Any, Any, T],
    error: Callable[[], Exception],
) -> T:
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, event}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise error()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _tell(
    given: argparse.Namespace,
    facts: Facts,
    say: Callable[[str], None],
    took_s: float,
) -> None:
    if given.json:
        sys.stdout.write(facts.as_json() + "\n")
        sys.stdout.flush()
    else:
        say(f"Ready after {took_s:.1f} s.\n\n{summary(facts)}\n")


def _writer(write: Callable[[str], object]) -> Callable[[str], None]:
    def say(line: str) -> None:
        write(f"{line}\n")
        sys.stdout.flush()

    return say
