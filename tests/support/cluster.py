"""The suite's own Postgres: gone with the session, swept up if that was killed."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from local_stack.migrate import migrate
from local_stack.orphan import stop_orphan
from local_stack.ports import LOOPBACK
from local_stack.postgres import Postgres
from local_stack.surface import SUPERUSER, adopt

MIGRATIONS = Path(__file__).parents[2] / "supabase" / "migrations"
PREFIX = "supacal-test-"
DROP_LIMIT_S = 10
MEMORY = Path("/dev/shm")  # noqa: S108  # a file made there costs a tenth of one on disk
MEMORY_NEEDED = 2 * 1024**3


@contextmanager
def running_cluster() -> Iterator[Postgres]:
    """A server on a free port, without a password and without safety."""
    _sweep()
    with (
        scratch_directory() as directory,
        Postgres(directory, port=0, password=None, durable=False) as postgres,
    ):
        yield postgres


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory for a server's data, which pytest's own are closed to."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_parent()))
    directory.chmod(0o711)  # as root, the server runs as somebody else
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def executor(cluster: Postgres, dbname: str) -> NoopExecutor:
    """The cluster in the words of pytest-postgresql."""
    return NoopExecutor(
        host=LOOPBACK, port=cluster.port, user=SUPERUSER, options="", dbname=dbname
    )


def hand_over(**address: object) -> None:
    """Make `postgres` the owner of a database, as the hosted platform does."""
    with _connect(address) as connection:
        adopt(connection)


def apply_migrations(**address: object) -> None:
    """Bring a database to the newest migration."""
    url = (
        f"postgresql://postgres@{address['host']}:{address['port']}/{address['dbname']}"
    )
    migrate(url, MIGRATIONS)


@contextmanager
def copy_of(template: str, cluster: Postgres) -> Iterator[str]:
    """A database made from a template, gone afterwards whoever still looks at it."""
    janitor = DatabaseJanitor(
        user=SUPERUSER,
        host=LOOPBACK,
        port=cluster.port,
        dbname=f"test_{uuid4().hex[:12]}",
        template_dbname=template,
    )
    janitor.init()
    try:
        hand_over(
            host=janitor.host, port=janitor.port, user=SUPERUSER, dbname=janitor.dbname
        )
        yield janitor.dbname
    finally:
        _drop(janitor)


def _drop(janitor: DatabaseJanitor) -> None:
    give_up_at = time.monotonic() + DROP_LIMIT_S
    while True:
        try:
            return janitor.drop()
        except psycopg.errors.ObjectInUse:
            # A replication slot stays active until its sender has noticed its end.
            if time.monotonic() > give_up_at:
                raise


def _connect(address: dict[str, object]) -> psycopg.Connection:
    names = ("host", "port", "user", "dbname")
    words = {name: str(address[name]) for name in names}
    return psycopg.connect(make_conninfo("", **words))


def _parent() -> Path:
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        return MEMORY
    return Path(tempfile.gettempdir())


def _sweep() -> None:
    """Remove what sessions that were killed left behind."""
    for directory in _parent().glob(f"{PREFIX}*"):
        lock = directory / "lock"
        try:
            if time.time() - directory.stat().st_mtime < 60 or not lock.exists():
                continue
            with lock.open("ab") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stop_orphan(directory / "data")
                shutil.rmtree(directory)
        except OSError:
            continue  # alive, somebody else's, or just swept by another worker
