"""The machine, the programs' versions and the commit that figures belong to."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

OURS = ("uvicorn", "asyncpg", "msgspec", "uvloop")
PEERS = ("fastapi", "procrastinate", "pgqueuer", "psycopg", "asyncpg", "orjson")

DURABLE = (
    "fsync and synchronous_commit on; a claim does not wait for it (decision 0009)"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a figure means nothing without."""

    checkout: Path
    command: str
    postgres: str
    slow_disk: str
    loader: str
    took: str

    def facts(self) -> list[tuple[str, str]]:
        """Return name and fact, in order."""
        return [
            ("command", f"`{self.command}`"),
            ("commit", commit(self.checkout)),
            ("at", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
            ("machine", f"{os.cpu_count()} cores, {_cpu()}, {_memory_gb()} GB"),
            ("system", f"{platform.system()} {platform.release()}"),
            ("Python", f"{platform.python_version()}; {_versions(OURS)}"),
            ("Postgres", f"{self.postgres}, {DURABLE}"),
            ("peers", _pinned(self.checkout)),
            ("slow disk", self.slow_disk),
            ("load", self.loader),
            ("took", self.took),
        ]


def commit(checkout: Path) -> str:
    """Return the commit, and whether the tree differs from it."""
    head = _git(checkout, "rev-parse", "--short=12", "HEAD")
    if not head:
        return "not known"
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return f"`{head}`" + (", with changes not committed" if changed else "")


def _git(checkout: Path, *words: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", checkout, *words],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> int:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return round(pages * size / 1024**3)


def _versions(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {version(name)}" for name in names)


def _pinned(checkout: Path) -> str:
    """Return the peers' versions, as bench/requirements.txt pins them."""
    lines = (checkout / "bench" / "requirements.txt").read_text().splitlines()
    pins = dict(
        line.split()[0].split("==") for line in lines if "==" in line.split(" ")[0]
    )
    return ", ".join(f"{name} {pins[name]}" for name in PEERS if name in pins)
