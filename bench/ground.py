"""What all lines stand on: a Postgres with fsync, fresh databases, programs, peers."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg
import psycopg
from psycopg import sql

from bench.load import Load
from bench.peers_venv import Peers
from bench.programs import Programs
from bench.slow_disk import Disk
from local_stack.migrate import migrate
from local_stack.postgres import Postgres, find_binaries
from local_stack.surface import SUPERUSER, adopt
from runtime.sealing import Keyring

CHECKOUT = Path(__file__).parents[1]
MIGRATIONS = CHECKOUT / "supabase" / "migrations"
TEMPLATE = "bench_template"
PASSWORD = "bench"  # noqa: S105


class Ground:
    """Started once for all lines; nothing of it is left afterwards."""

    def __init__(self, directory: Path, *, quick: bool = False) -> None:
        self.quick = quick
        self.directory = directory
        self.keys = Keyring.generate()
        self.keyring = Keyring.parse(self.keys)
        self.memory_mb: dict[str, list[float]] = {"receiver": [], "worker": []}

    def __enter__(self) -> Self:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.load = Load(self.directory)
        self.disk = Disk(self.directory)
        self.peers = Peers(CHECKOUT)
        self.programs = Programs(self.directory)
        self.postgres = Postgres(
            self.directory / "postgres",
            binaries=self.disk.preloaded(find_binaries()),
            port=0,
            password=PASSWORD,
            durable=True,
        )
        self.postgres.start()
        self.disk.admin_url = self.postgres.admin_url
        self.postgres.install_surface(TEMPLATE)
        migrate(self.postgres.url_of(TEMPLATE), MIGRATIONS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.postgres.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def postgres_version(self) -> str:
        """The server's version, in its own words."""
        with psycopg.connect(self.postgres.admin_url) as admin:
            version = admin.info.server_version
            return f"{version // 10000}.{version % 10000}"

    def rounds(self, wanted: int) -> int:
        """How often to repeat; a quick run only shows that the line works."""
        return min(wanted, 2) if self.quick else wanted

    def amount(self, wanted: int) -> int:
        """How much to do in each round."""
        return max(wanted // 10, 1) if self.quick else wanted

    def seconds(self, wanted: float) -> float:
        """How long to load in each round."""
        return min(wanted, 1.0) if self.quick else wanted

    @asynccontextmanager
    async def database(self, *, bare: bool = False) -> AsyncIterator[str]:
        """Give the address of a fresh database, with our migrations or bare."""
        name = f"bench_{os.urandom(4).hex()}"
        await asyncio.to_thread(self._make, name, "template1" if bare else TEMPLATE)
        try:
            yield self.postgres.url_of(name)
        finally:
            await asyncio.to_thread(self._drop, name)

    def admin_url(self, url: str) -> str:
        """Return the address of the same database for the superuser."""
        return self.postgres.url_of(url.rpartition("/")[2], role=SUPERUSER)

    def environment(self, url: str, **settings: str) -> Mapping[str, str]:
        """What our own programs read, as in production."""
        return os.environ | {
            "DATABASE_URL": url,
            "SUPACAL_SECRET_KEYS": self.keys,
            "SUPACAL_PUBLIC_URL": "http://127.0.0.1:1",
            "PYTHONPATH": str(CHECKOUT),
            **settings,
        }

    def command(self, module: str, *words: str) -> list[str]:
        """Return the words that start a module of ours."""
        return [sys.executable, "-m", module, *words]

    def _make(self, name: str, template: str) -> None:
        with psycopg.connect(self.postgres.admin_url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("create database {} template {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
            # What the lines before have left to write is not this one's burden.
            admin.execute("checkpoint")
        with psycopg.connect(self.postgres.url_of(name, role=SUPERUSER)) as made:
            adopt(made)

    def _drop(self, name: str) -> None:
        with psycopg.connect(self.postgres.admin_url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
            )


@asynccontextmanager
async def connected(
    url: str, *, role: str | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection of the bench's own."""
    connection = await asyncpg.connect(
        url, server_settings={"application_name": "supacal bench"}
    )
    try:
        if role is not None:
            await connection.execute(f"set role {role}")
        yield connection
    finally:
        await connection.close(timeout=5)
