"""Programs that the stack runs beside itself: started, watched, ended with it."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from local_stack.errors import StackError
from local_stack.guard import Guard

READY_LIMIT_S = 30
STOP_LIMIT_S = 12  # the worker takes up to 10 s to finish what it does
POLL_S = 0.02
LAST_LINES = 15


class Child:
    """One program, its output in a file of its own."""

    def __init__(
        self,
        name: str,
        command: list[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        directory: Path,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._directory = directory
        self._guard: Guard | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._log_begins = 0  # what is before is of earlier runs

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    async def start(
        self, ready: Callable[[], Awaitable[bool]], *, guard: Guard | None = None
    ) -> None:
        """Start it, and wait till `ready` says so. The guard outlives us, if need be.

        Raises:
            StackError: it ended, or was not ready in time; with its last lines.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_begins = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self._environment),
                cwd=self._directory,
                # Ctrl-C is for us: we end our children in order.
                start_new_session=True,
            )
        self._guard = guard
        if guard is not None:
            guard.watch(self._process.pid)
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                while not await ready():
                    if self.pid is None:
                        raise StackError(self.complaint("ended at once"))
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            await self.stop()
            raise StackError(
                self.complaint(f"was not ready after {READY_LIMIT_S} s")
            ) from None

    async def wait(self) -> int:
        """Wait for its end; return the exit code."""
        if self._process is None:
            raise StackError(f"{self.name} was never started")
        return await self._process.wait()

    def said(self, words: str) -> bool:
        """Whether its output of this run has these words."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return words.encode() in log.read()

    async def stop(self) -> None:
        """Ask it to end; after a while, make it."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._guard is not None:
            self._guard.forget(process.pid)

    def complaint(self, what: str) -> str:
        """Return a sentence about it, followed by its last words."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            words = log.read().decode(errors="replace").splitlines()[-LAST_LINES:]
        return "\n".join([f"{self.name} {what}; {self.log} ends:", *words])
