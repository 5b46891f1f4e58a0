"""Workers that are quickly born: forked from a process that has everything imported.

What they run is `supacal worker` itself. A start of the interpreter costs 0.7 s of CPU,
a fork a hundredth of that.
"""

import argparse
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["supacal.programs", "worker.app", "tests.worker.chaos.nursery"]


def be_a_worker(environment: Mapping[str, str], log: str) -> None:
    """Become a worker with this environment, whose log goes to a file."""
    from supacal.programs import run_worker  # noqa: PLC0415 - the nursery has it

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    run_worker(argparse.Namespace())


class Nursery:
    """Starts workers with one environment."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._environment = dict(environment)
        self._log = log
        log.touch()

    def start(self) -> BaseProcess:
        """Start one; `kill()` ends it as kill -9 does."""
        worker = self._context.Process(
            target=be_a_worker, args=(self._environment, str(self._log)), daemon=True
        )
        worker.start()
        return worker

    def told(self, event: str) -> int:
        """How often a line of the workers' log has told this event."""
        return self._log.read_text().count(f'"event":"{event}"')
