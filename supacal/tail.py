"""`supacal tail`: deliveries and runs, as they happen."""

import argparse
import asyncio
import sys
from datetime import datetime

import asyncpg
import msgspec
import uvloop

from local_stack.facts import Facts
from local_stack.state import running_file
from runtime.pool import connect
from runtime.settings import DatabaseSettings, StackSettings, read
from sql import queries

LOOK_EVERY_S = 0.3


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    return uvloop.run(_follow(_database_url(), given.since))


def _database_url() -> str:
    """Return DATABASE_URL, or else that of the local stack that runs here.

    Raises:
        SettingsError: there is neither.
    """
    settings = read(StackSettings)
    running = running_file(settings.supacal_state_dir)
    if settings.database_url is None and running.exists():
        return msgspec.json.decode(running.read_bytes(), type=Facts).database_url
    return read(DatabaseSettings).database_url.get_secret_value()


async def _follow(url: str, since: str) -> int:
    connection = await connect(url, role=None, application_name="supacal tail")
    try:
        after = await queries.activity.start(connection, since=since)
    except asyncpg.DataError:
        sys.stderr.write(f"--since: {since!r} is no interval; try '10 minutes'\n")
        return 2
    told: set[tuple[str, int]] = set()
    while True:
        rows = [row async for row in queries.activity.recent(connection, after=after)]
        fresh = [row for row in rows if (row["what"], row["id"]) not in told]
        for row in fresh:
            sys.stdout.write(_line(row))
        sys.stdout.flush()
        told = {(row["what"], row["id"]) for row in rows}
        await asyncio.sleep(LOOK_EVERY_S)


def _line(row: asyncpg.Record) -> str:
    at: datetime = row["at"]
    return f"{at:%H:%M:%S.%f}"[:-3] + f"  {row['what']:<9} {row['line']}\n"
