"""The peers: programs in a venv of their own, so that no version of ours is theirs."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.measure import NotMeasured

SETUP = "run `make bench`, which installs bench/requirements.txt into .venv-bench"
PROGRAMS = Path(__file__).parent / "peers"


class Peers:
    """Finds and runs what Supacal is compared with."""

    def __init__(self, checkout: Path) -> None:
        self.python = checkout / ".venv-bench" / "bin" / "python"
        self.missing: dict[str, str] = {}

    async def need(self, *modules: str) -> None:
        """Make sure that a peer can run.

        Raises:
            NotMeasured: it is not installed; the text says what to do.
        """
        if not self.python.exists():
            raise NotMeasured(f"{modules[0]} is not installed: {SETUP}")
        for module in modules:
            process = await asyncio.create_subprocess_exec(
                self.python,
                "-c",
                f"import {module}",
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await process.wait():
                raise NotMeasured(f"{module} is not installed: {SETUP}")

    def command(self, program: str, *words: str) -> list[str]:
        """Return the words that start a peer's program."""
        return [str(self.python), str(PROGRAMS / f"{program}.py"), *words]

    def environment(self, **words: str) -> Mapping[str, str]:
        """What a peer's program reads."""
        return os.environ | words

    async def run(self, program: str, *words: str, **environment: str) -> Any:
        """Run a program to its end; return the JSON that it printed last.

        Raises:
            NotMeasured: it failed; with its last words.
        """
        process = await asyncio.create_subprocess_exec(
            *self.command(program, *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(**environment),
        )
        out, errors = await process.communicate()
        if process.returncode:
            last = errors.decode(errors="replace").strip().splitlines()[-3:]
            raise NotMeasured(f"{program} failed: {' | '.join(last)}")
        return json.loads(out.decode().strip().splitlines()[-1])
