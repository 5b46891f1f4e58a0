"""Ends what a stack has started, should the stack itself be killed.

A small process reads from a pipe what runs. When the pipe ends while something is still
listed, whoever held it was killed: the guard then ends what is left, and itself.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE_S = 12  # the worker takes up to 10 s to finish what it does
POLL_S = 0.05
DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Guard:
    """The stack's end of the pipe."""

    def __init__(self) -> None:
        # -I: it needs nothing but the standard library, and starts in 20 ms.
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def watch(self, pid: int, *, ends_at: signal.Signals = signal.SIGTERM) -> None:
        """List a process, the leader of its group, and the signal that ends it."""
        self._tell(f"{pid} {ends_at:d}")

    def forget(self, pid: int) -> None:
        """Take a process that has ended off the list: its number is free again."""
        self._tell(f"{pid} 0")

    def close(self) -> None:
        """Let the guard go."""
        pipe = self._process.stdin
        if pipe is not None:
            pipe.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is None:
            return
        try:
            pipe.write(f"{line}\n".encode())
            pipe.flush()
        except BrokenPipeError:
            return  # somebody killed the guard: all else goes on


def main() -> None:
    """Read until the pipe ends, then end what is still listed."""
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    listed: dict[int, int] = {}
    for line in sys.stdin:
        pid, ends_at = map(int, line.split())
        listed[pid] = ends_at
    left = {pid: ends_at for pid, ends_at in listed.items() if ends_at}
    for pid, ends_at in left.items():
        _send(pid, ends_at)
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at and any(_send(pid, 0) for pid in left):
        time.sleep(POLL_S)
    for pid in left:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> bool:
    """Whether there was anybody to send it to; a group's end is that of its last."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
