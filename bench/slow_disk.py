"""A disk that is as slow as a cloud's, when told so: every fsync sleeps 1 ms first."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench.compiled import compiled
from local_stack.postgres import Binaries

SLOW_US = 1000


class SlowableBinaries(Binaries):
    """A Postgres whose fsync is preloaded."""

    preload: dict[str, str]

    @classmethod
    def of(cls, found: Binaries, preload: dict[str, str]) -> "SlowableBinaries":
        binaries = cls(found.directory, found.major)
        object.__setattr__(binaries, "preload", preload)
        return binaries

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.preload


class Disk:
    """Makes the server's disk slow for the length of a block.

    With a C compiler every fsync sleeps. Without one, Postgres itself sleeps before it
    flushes a commit (commit_delay): the same for what is measured here, as nothing but
    commits is flushed in the way of anybody.
    """

    def __init__(self, directory: Path) -> None:
        library = compiled("slow_fsync.c", directory, "-shared", "-fPIC")
        self._control = directory / "fsync-delay"
        self._control.write_bytes(bytes(mmap.PAGESIZE))
        self._control.chmod(0o644)
        self._library = library
        self.admin_url = ""

    @property
    def means(self) -> str:
        """How the disk is made slow, in words."""
        if self._library is not None:
            return "every fsync and fdatasync of Postgres sleeps 1 ms first (preloaded)"
        return "no C compiler here: commit_delay = 1 ms instead of a sleeping fsync"

    def preloaded(self, found: Binaries) -> Binaries:
        """Return the server to start."""
        if self._library is None:
            return found
        words = {"BENCH_FSYNC_DELAY": self._control, "LD_PRELOAD": self._library}
        return SlowableBinaries.of(found, {k: str(v) for k, v in words.items()})

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Sleep before each fsync while the block runs."""
        self._set(SLOW_US)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, delay_us: int) -> None:
        if self._library is None:
            with psycopg.connect(self.admin_url, autocommit=True) as admin:
                admin.execute(f"alter system set commit_delay = {delay_us}")
                admin.execute("alter system set commit_siblings = 0")
                admin.execute("select pg_reload_conf()")
            return
        with self._control.open("r+b") as control:
            control.write(delay_us.to_bytes(4, "little"))
