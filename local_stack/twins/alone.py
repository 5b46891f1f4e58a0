"""Run one twin as a process of its own: `python -m local_stack.twins.calendly`."""

import argparse
import asyncio
import signal
import sys

import msgspec
from starlette.types import ASGIApp

from local_stack.twins.serve import base_url, listen, server_of, started


def parser(program: str, *, person: str) -> argparse.ArgumentParser:
    """Return what every twin can be told; `--person` makes one, once or more."""
    made = argparse.ArgumentParser(prog=f"python -m {program}")
    made.add_argument("--port", type=int, default=0, help="0 takes a free one")
    made.add_argument(f"--{person}", action="append", default=[], metavar="EMAIL")
    return made


def run(twin: ASGIApp, port: int, **facts: object) -> int:
    """Serve until SIGINT or SIGTERM; the first line says where, as JSON."""
    try:
        return asyncio.run(_serve(twin, port, facts))
    except OSError as problem:
        sys.stderr.write(
            f"port {port} cannot be used ({problem.strerror}): "
            "choose another with --port, or 0 for a free one\n"
        )
        return 2


async def _serve(twin: ASGIApp, port: int, facts: dict[str, object]) -> int:
    with listen(port) as listener:
        server = server_of(twin)
        # uvicorn raises the signal again once it is done; here that is a good end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await started(server, serving)
        ready = {"url": base_url(listener), **facts}
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        await serving
    return 0
