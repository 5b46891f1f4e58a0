"""`supacal tail`: deliveries and runs, as they happen."""

import argparse
import asyncio
import sys
from datetime import datetime
from typing import NoReturn

import asyncpg
import uvloop

from runtime.pool import connect
from sql import queries
from supacal.exit_codes import BAD_SETTINGS
from supacal.here import database_url

LOOK_EVERY_S = 0.3


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    return uvloop.run(_follow(database_url(), given.since))


async def _follow(url: str, since: str) -> int:
    connection = await connect(url, role=None, application_name="supacal tail")
    try:
        after = await queries.activity.start(connection, since=since)
        await _tell(connection, after)
    except asyncpg.DataError:
        sys.stderr.write(f"--since: {since!r} is no interval; try '10 minutes'\n")
        return BAD_SETTINGS
    finally:
        await connection.close()


async def _tell(connection: asyncpg.Connection, after: datetime) -> NoReturn:
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
