"""`supacal replay`: have deliveries of bookings processed once more."""

import argparse
import sys

import uvloop

from runtime.pool import connect
from sql import queries
from supacal.here import database_url

STATES = ("received", "done", "ignored", "failed", "dead")
UNFINISHED = ("failed", "dead")


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    filters = (given.ids, given.since, given.until, given.provider, given.connection)
    if not any(filters) and given.state is None:
        sys.stderr.write(
            "Say which: ids, --since, --until, --provider, --connection or --state. "
            "`supacal replay --state failed --state dead` is all that did not work.\n"
        )
        return 2
    return uvloop.run(_replay(given))


async def _replay(given: argparse.Namespace) -> int:
    connection = await connect(
        database_url(), role=None, application_name="supacal replay"
    )
    # Who names a delivery means it, whatever became of it.
    states = given.state or (STATES if given.ids else UNFINISHED)
    try:
        count = await queries.deliveries.replay(
            connection,
            ids=given.ids or None,
            since=given.since,
            until=given.until,
            provider=given.provider,
            connection_id=given.connection,
            states=list(states),
        )
    finally:
        await connection.close()
    if count == 0:
        sys.stdout.write(f"No delivery fits (state: {', '.join(states)}).\n")
        return 1
    what = "delivery is" if count == 1 else "deliveries are"
    sys.stdout.write(f"{count} {what} processed again.\n")
    return 0
