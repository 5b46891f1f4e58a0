"""`python -m local_stack.gateway`: the gateway alone, before any Postgres."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence

import asyncpg

from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.server import Gateway, GatewayNotStarted
from local_stack.gateway.settings import GatewaySettings
from runtime import logging

USAGE = 2


def read_arguments(arguments: Sequence[str] | None = None) -> GatewaySettings:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m local_stack.gateway",
        description="A Realtime server for one machine. Prints one line of JSON when "
        "ready; stops at SIGINT or SIGTERM and drops its replication slot.",
    )
    parser.add_argument("--database-url", required=True, help="a direct connection")
    parser.add_argument("--jwt-secret", required=True, help="of HS256 tokens")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--publication", default="supabase_realtime")
    parser.add_argument(
        "--opaque-key",
        action="append",
        default=[],
        metavar="KEY=ROLE",
        help="an sb_ key and the role it stands for; may be given again",
    )
    given = parser.parse_args(arguments)
    pairs = [pair.partition("=") for pair in given.opaque_key]
    if not all(role for _, _, role in pairs):
        parser.error("--opaque-key takes KEY=ROLE")
    return GatewaySettings(
        database_url=given.database_url,
        jwt_secret=given.jwt_secret,
        host=given.host,
        port=given.port,
        publication=given.publication,
        opaque_keys={key: role for key, _, role in pairs},
    )


async def run(settings: GatewaySettings) -> None:
    """Serve until a signal."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    gateway = Gateway(settings)
    starting = asyncio.ensure_future(gateway.start())
    stopping = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    await starting
    try:
        ready = {"event": "gateway.ready", "url": gateway.url, "port": gateway.port}
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stopped.wait()
    finally:
        await gateway.stop()


def main() -> int:
    """Run the command; 2 means that it could not start as it was told to."""
    settings = read_arguments()
    logging.configure()
    try:
        asyncio.run(run(settings))
    except (GatewayNotStarted, asyncpg.PostgresError, *DATABASE_GONE) as error:
        sys.stderr.write(
            f"The gateway could not start: {error}\n"
            "It needs a Postgres with wal_level=logical and a free replication slot, "
            "a role that may replicate, and a free port.\n"
        )
        return USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
