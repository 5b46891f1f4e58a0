"""A server whose stack was killed still runs, and holds its data: stop it."""

import os
import signal
import subprocess
import time
from pathlib import Path

from local_stack.errors import StackError

STOP_LIMIT_S = 20
POLL_S = 0.05


def stop_orphan(data: Path) -> None:
    """Stop the server that an earlier, killed run left on `data`, if there is one.

    The caller holds the directory's lock, so no living stack is behind it.

    Raises:
        StackError: it does not stop.
    """
    status = data / "postmaster.pid"
    if not status.exists():
        return
    pid = int(status.read_text().split("\n", 1)[0] or 0)
    if not _is_server_on(pid, data):
        # Else Postgres takes whoever has that number now for a server, and refuses.
        status.unlink()
        return
    os.kill(pid, signal.SIGINT)
    give_up_at = time.monotonic() + STOP_LIMIT_S
    while _is_server_on(pid, data):
        if time.monotonic() > give_up_at:
            raise StackError(
                f"A Postgres of an earlier run (process {pid}) does not stop: end it "
                f"with `kill -QUIT {pid}` and start again."
            )
        time.sleep(POLL_S)


def _is_server_on(pid: int, data: Path) -> bool:
    return pid > 0 and str(data) in _command_line(pid)


def _command_line(pid: int) -> str:
    listed = Path("/proc") / str(pid) / "cmdline"
    if listed.parent.parent.joinpath("self").exists():
        return listed.read_text(errors="replace") if listed.exists() else ""
    words = ["ps", "-o", "args=", "-p", str(pid)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout  # noqa: S603
