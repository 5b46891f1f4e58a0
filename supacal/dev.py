"""`supacal dev`: everything on this machine, until Ctrl-C."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

import uvloop

from local_stack.errors import StackError
from local_stack.facts import Facts, summary
from local_stack.stack import Stack
from local_stack.state import State
from runtime import logging
from runtime.settings import StackSettings, read
from supacal.commands import Commands
from supacal.tour import Tour

T = TypeVar("T")


def add_commands(commands: Commands) -> None:
    """Add this command."""
    command = commands.add_parser(
        "dev",
        help="run everything on this machine, without Docker and without accounts",
        description="Start Postgres, REST, Auth, Realtime, a double of each provider, "
        "the webhook receiver and the worker on this machine, and serve until Ctrl-C. "
        "State is kept in .supacal/ between runs.",
    )
    command.add_argument(
        "--tour",
        action="store_true",
        help="walk through one sync first, in the terminal",
    )
    command.add_argument(
        "--exit", action="store_true", help="end when started (and toured)"
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="print where everything is as one line of JSON",
    )
    command.add_argument(
        "--reset",
        action="store_true",
        help="forget what earlier runs left in .supacal/",
    )
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    settings = read(StackSettings)
    logging.configure("console")
    if given.reset:
        State.reset(settings.supacal_state_dir)
    return uvloop.run(_serve(given, settings))


async def _serve(given: argparse.Namespace, settings: StackSettings) -> int:
    stopped = _when_told_to_stop()
    # stdout is for what was asked for: JSON, or the tour.
    say = _writer(sys.stderr.write if given.json else sys.stdout.write)
    keys = settings.supacal_secret_keys
    state = State(
        settings.supacal_state_dir,
        secret_keys=keys.get_secret_value() if keys else None,
    )
    stack = Stack(state, settings, say=say)
    starting = asyncio.create_task(stack.start())
    try:
        facts = await _unless(stopped, starting)
        if facts is None:
            return 0
        _tell(given, facts, say)
        code = 0
        if given.tour:
            toured = await _unless(
                stopped, asyncio.create_task(Tour(stack, facts).walk(say))
            )
            code = 0 if toured else 1
        else:
            await stack.switch_on()
        if not given.exit and not stopped.is_set():
            say("Serving. Ctrl-C ends it.")
            await _until_it_ends(stack, stopped)
        return code
    finally:
        await stack.stop()


def _when_told_to_stop() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def _unless(stopped: asyncio.Event, task: asyncio.Task[T]) -> T | None:
    """Return what the task gives, or None as soon as we are told to stop."""
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None
    finally:
        stopping.cancel()


async def _until_it_ends(stack: Stack, stopped: asyncio.Event) -> None:
    ended = await _unless(stopped, asyncio.create_task(stack.first_to_end()))
    if ended is not None:
        raise StackError(
            f"{ended.name} ended by itself; its last words are in {ended.log}"
        )


def _tell(given: argparse.Namespace, facts: Facts, say: Callable[[str], None]) -> None:
    if given.json:
        sys.stdout.write(facts.as_json() + "\n")
        sys.stdout.flush()
    else:
        say(f"Ready.\n{summary(facts)}\n")


def _writer(write: Callable[[str], object]) -> Callable[[str], None]:
    def say(line: str) -> None:
        write(f"{line}\n")
        sys.stdout.flush()

    return say
