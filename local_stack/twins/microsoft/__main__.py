"""Run the Microsoft twin alone: `python -m local_stack.twins.microsoft --port 4020`."""

import argparse
import asyncio
import signal
import sys

import msgspec

from local_stack.twins.microsoft.behaviour import Behaviour, published_limits
from local_stack.twins.microsoft.twin import MicrosoftTwin
from local_stack.twins.serve import base_url, listen, server_of, started


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line says where, as JSON."""
    options = _parser().parse_args(arguments)
    behaviour = published_limits() if options.limits else Behaviour()
    twin = MicrosoftTwin(behaviour=behaviour)
    for email in options.account:
        twin.account(email, time_zone=options.time_zone)
    try:
        return asyncio.run(_serve(twin, options.port))
    except OSError as problem:
        sys.stderr.write(
            f"port {options.port} cannot be used ({problem.strerror}): "
            "choose another with --port, or 0 for a free one\n"
        )
        return 2


async def _serve(twin: MicrosoftTwin, port: int) -> int:
    with listen(port) as listener:
        server = server_of(twin)
        # uvicorn raises the signal again once it is done; here that is a good end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        ready = {"url": base_url(listener), "accounts": sorted(twin.store.accounts)}
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await started(server, serving)
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        await serving
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_stack.twins.microsoft")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--account", action="append", default=[], metavar="EMAIL")
    parser.add_argument("--time-zone", default="Europe/Berlin")
    parser.add_argument(
        "--limits", action="store_true", help="enforce the published limits"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
