"""Programs that a line starts and ends: receivers, workers, peers' servers."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from local_stack.children import Child
from local_stack.ports import LOOPBACK

CHECKOUT = Path(__file__).parents[1]


class Programs:
    """Starts programs; their logs lie in the bench's directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    @asynccontextmanager
    async def server(
        self, command: Sequence[str], environment: Mapping[str, str], port: int
    ) -> AsyncIterator[Child]:
        """Run a server while the block runs; it answers GET /healthz once it is up."""
        child = self._child(command, environment)
        await child.start(lambda: _answers(port))
        try:
            yield child
        finally:
            await child.stop()

    @asynccontextmanager
    async def program(
        self, command: Sequence[str], environment: Mapping[str, str], *, says: str
    ) -> AsyncIterator[Child]:
        """Run a program while the block runs; it is up when its log says so."""
        child = self._child(command, environment)
        await child.start(lambda: asyncio.to_thread(child.said, says))
        try:
            yield child
        finally:
            await child.stop()

    def _child(self, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        self._count += 1
        log = self._directory / "logs" / f"{self._count}.log"
        return Child(
            Path(command[0]).name,
            list(command),
            log=log,
            environment=environment,
            directory=CHECKOUT,
        )


async def _answers(port: int) -> bool:
    try:
        async with httpx2.AsyncClient() as client:
            answer = await client.get(f"http://{LOOPBACK}:{port}/healthz")
    except httpx2.TransportError:
        return False
    return answer.is_success


def resident_mb(pid: int | None) -> float:
    """Return how much memory a process holds at this moment."""
    status = Path(f"/proc/{pid}/status")
    if pid is None or not status.exists():
        return 0.0
    for line in status.read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
