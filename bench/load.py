"""Load: many callers at once, from a process of its own."""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from bench.compiled import compiled

CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a load; times in milliseconds."""

    answers: int
    failures: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_share: float

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds


class LoadFailed(Exception):
    """The server did not keep up its side; the text is the loader's."""


class Load:
    """Makes load: by a C program where one can be compiled, else by Python."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        program = compiled("load.c", directory)
        self.is_compiled = program is not None
        self._command = (
            [str(program)] if program else [sys.executable, "-m", "bench.load_python"]
        )

    async def run(
        self,
        port: int,
        requests: Sequence[bytes],
        *,
        seconds: float,
        warm_up_s: float = 1,
        connections: int = CONNECTIONS,
    ) -> Loaded:
        """Call a port of this machine for so long.

        Raises:
            LoadFailed: a connection broke, or an answer was not a 2xx.
        """
        with NamedTemporaryFile(dir=self._directory) as file:
            for request in requests:
                file.write(len(request).to_bytes(4, "little") + request)
            file.flush()
            words = (port, connections, warm_up_s, seconds, file.name)
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *map(str, words),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, errors = await process.communicate()
        if process.returncode:
            raise LoadFailed(errors.decode().strip())
        loaded = Loaded(**json.loads(out))
        if loaded.failures:
            raise LoadFailed(f"{loaded.failures} answers were not 2xx")
        return loaded
