"""`supacal tail`: deliveries and runs, as they happen."""

import argparse
import asyncio
import sys
from datetime import datetime

import asyncpg
import uvloop

from runtime.pool import connect
from runtime.settings import DatabaseSettings, read
from sql import queries
from supacal.commands import Commands

LOOK_EVERY_S = 0.3


def add_commands(commands: Commands) -> None:
    """Add this command."""
    command = commands.add_parser(
        "tail",
        help="follow deliveries and runs",
        description="Print what is received and what the workers do, as it happens: "
        "one line each, with how long it waited and took. Ctrl-C ends it.",
    )
    command.add_argument(
        "--since",
        default="0 minutes",
        metavar="INTERVAL",
        help="begin so long ago, for example '10 minutes'",
    )
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    settings = read(DatabaseSettings)
    return uvloop.run(_follow(settings.database_url.get_secret_value(), given.since))


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
