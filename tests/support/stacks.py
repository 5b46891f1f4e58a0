"""`supacal dev` as people start it: a program of its own, on a folder of its own."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
READY_LIMIT_S = 90
END_LIMIT_S = 30
# What points at a Supabase: tests of the program itself start from none.
SUPABASE = (
    "DATABASE_URL",
    "SUPABASE_URL",
    "SUPABASE_ANON_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
    "SUPABASE_JWT_SECRET",
)


def environment(state: Path, **settings: str) -> dict[str, str]:
    """Ours, without the settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name not in SUPABASE}
    own = {"SUPACAL_STATE_DIR": str(state), "PYTHONPATH": str(CHECKOUT)}
    return kept | own | settings


@dataclass
class Dev:
    """A running `supacal dev --json`."""

    process: subprocess.Popen[str]
    errors: Path
    facts: dict[str, Any]

    @property
    def said(self) -> str:
        """What it wrote to stderr."""
        return self.errors.read_text()

    def descendants(self) -> dict[int, str]:
        """Every process that it has started, and those started by them."""
        return descendants(self.process.pid)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(how)
        return self.process.wait(END_LIMIT_S)


def supacal(
    *words: str, environ: Mapping[str, str], within_s: float = READY_LIMIT_S
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: PLW1510
        [sys.executable, "-m", "supacal", *words],
        env=dict(environ),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=within_s,
    )


@contextmanager
def starting(environ: Mapping[str, str], scratch: Path, *words: str) -> Iterator[Dev]:
    """`supacal dev --json`, just started; it ends with the block."""
    dev = _start(environ, scratch / "stderr.txt", *words)
    try:
        yield dev
    except BaseException:
        sys.stdout.write(dev.said)  # shown with the failure
        raise
    finally:
        if dev.process.poll() is None:
            dev.process.terminate()
        dev.process.wait(END_LIMIT_S)
        if dev.process.stdout is not None:
            dev.process.stdout.close()


@contextmanager
def running(environ: Mapping[str, str], scratch: Path, *words: str) -> Iterator[Dev]:
    """`supacal dev --json` that is ready; it ends with the block."""
    with starting(environ, scratch, *words) as dev:
        wait_until_ready(dev)
        yield dev


def _start(environ: Mapping[str, str], errors: Path, *words: str) -> Dev:
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "supacal", "dev", "--json", *words],
            env=dict(environ),
            cwd="/",  # no .env there
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    return Dev(process, errors, {})


def wait_until_ready(dev: Dev) -> None:
    """Read its line of JSON."""
    line = _first_line(dev)
    assert line, f"supacal dev ended with {dev.process.wait()}:\n{dev.said}"
    dev.facts = json.loads(line)


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, with their command lines."""
    table: dict[int, list[tuple[int, str]]] = {}
    for child, parent, _, command in _processes():
        table.setdefault(parent, []).append((child, command))
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        for child, command in table.get(todo.pop(), []):
            found[child] = command
            todo.append(child)
    return found


def alive(pids: Mapping[int, str]) -> dict[int, str]:
    """Those that still run; one that waits to be noticed as dead does not."""
    return {
        pid: command
        for pid, _, state, command in _processes()
        # A number may have gone to somebody else since.
        if state not in "ZX" and pids.get(pid) == command
    }


def _processes() -> Iterator[tuple[int, int, str, str]]:
    """Number, parent, state and command line of everything that runs (on Linux)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text()
            command = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue  # ended meanwhile
        state, parent = status.rpartition(")")[2].split()[:2]
        yield int(folder.name), int(parent), state, command.replace("\0", " ")


def _first_line(dev: Dev) -> str:
    stdout = dev.process.stdout
    assert stdout is not None
    give_up_at = time.monotonic() + READY_LIMIT_S
    with selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while time.monotonic() < give_up_at:
            if selector.select(timeout=1):
                return stdout.readline()
    raise AssertionError(f"not ready after {READY_LIMIT_S} s:\n{dev.said}")
