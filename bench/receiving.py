"""Receivers for the lines: ours, ours without a database, and the peer's."""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.calendars import Channel, push
from bench.ground import Ground
from bench.measure import NotMeasured
from bench.programs import resident_mb
from bench.reports import Reports
from local_stack.ports import free_port

PEER_SECRET = "peer"  # noqa: S105
PEER = "procrastinate_app"


@dataclass(frozen=True, slots=True)
class Peer:
    """FastAPI + procrastinate, or the reason why it does not run."""

    port: int = 0
    missing: str = ""


@asynccontextmanager
async def receiver(ground: Ground, url: str) -> AsyncIterator[int]:
    """Run `supacal api`; its memory is noted when it ends."""
    async with _ours(ground, ("supacal", "api"), url) as (port, pid):
        yield port
        ground.memory_mb["receiver"].append(resident_mb(pid))


@asynccontextmanager
async def verifying(ground: Ground, url: str) -> AsyncIterator[int]:
    """Run the same server without a database."""
    async with _ours(ground, ("bench.verifying",), url) as (port, _):
        yield port


@asynccontextmanager
async def peer(ground: Ground, url: str) -> AsyncIterator[Peer]:
    """Run the peer on an empty database."""
    try:
        await ground.peers.need("fastapi", "procrastinate", "uvicorn")
        await ground.peers.run(PEER, "schema", PEER_DATABASE_URL=url)
    except NotMeasured as reason:
        yield Peer(missing=str(reason))
        return
    port = free_port()
    environment = ground.peers.environment(
        PEER_DATABASE_URL=url, PEER_SECRET=PEER_SECRET, PEER_PORT=str(port)
    )
    command = ground.peers.command(PEER, "server")
    async with ground.programs.server(command, environment, port):
        yield Peer(port)


@asynccontextmanager
async def peer_worker(
    ground: Ground, url: str, report_port: int
) -> AsyncIterator[None]:
    """Work on what the peer has received."""
    environment = ground.peers.environment(
        PEER_DATABASE_URL=url, PEER_REPORT_PORT=str(report_port)
    )
    command = ground.peers.command(PEER, "worker")
    async with ground.programs.program(command, environment, says="working"):
        yield


@asynccontextmanager
async def no_op_worker(
    ground: Ground, url: str, reports: Reports, *, after: int = 0, **settings: str
) -> AsyncIterator[None]:
    """Run our worker with handlers that only report, each or so many together."""
    environment = ground.environment(
        url,
        BENCH_REPORT_PORT=str(reports.port),
        BENCH_REPORT_AFTER=str(after),
        **settings,
    )
    command = ground.command("bench.no_op_worker")
    async with ground.programs.program(
        command, environment, says="listener.hearing"
    ) as program:
        yield
        ground.memory_mb["worker"].append(resident_mb(program.pid))


@asynccontextmanager
async def no_op(ground: Ground) -> AsyncIterator[int]:
    """Run a server that answers without looking."""
    port = free_port()
    command = ground.command("bench.no_op_server", str(port))
    async with ground.programs.server(command, ground.environment(""), port):
        yield port


def our_push(ground: Ground, channel: Channel) -> bytes:
    """Return a push that our receiver believes."""
    return push(channel, ground.keyring.channel_token(channel.id))


def peer_push(channel: Channel) -> bytes:
    """Return the same push with a token that the peer believes."""
    mac = hmac.digest(PEER_SECRET.encode(), str(channel.id).encode(), "sha256")
    return push(channel, mac.hex())


@asynccontextmanager
async def _ours(
    ground: Ground, words: tuple[str, ...], url: str
) -> AsyncIterator[tuple[int, int | None]]:
    port = free_port()
    environment = ground.environment(url, SUPACAL_PORT=str(port))
    command = ground.command(*words)
    async with ground.programs.server(command, environment, port) as program:
        yield port, program.pid
