"""One Postgres server of the stack's own: made, started, watched over, stopped."""

import fcntl
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from local_stack.binaries import Binaries, find_binaries
from local_stack.child_user import ChildUser
from local_stack.errors import StackError
from local_stack.orphan import stop_orphan
from local_stack.ports import LOOPBACK, free_port
from local_stack.surface import PASSWORD, SUPERUSER, Grants, lay_surface

__all__ = ["Binaries", "Postgres", "find_binaries"]

START_LIMIT_S = 60  # a server that was killed replays its log first
STOP_LIMIT_S = 20
POLL_S = 0.01
PORT_ATTEMPTS = 5

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    # A slot left behind by a gateway that was killed must not fill the disk.
    "max_slot_wal_keep_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The tour tells when each row was committed.
    "track_commit_timestamp": "on",
    "extra_float_digits": "0",
    "password_encryption": "scram-sha-256",
    # Statements, and the rows in their errors, are people's data: not in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
# Decoding reads only flushed WAL, so synchronous_commit stays on either way.
FAST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "256MB",  # the data may lie in memory
}


class Postgres:
    """A server whose data lies below `directory`, on the loopback interface only.

    `durable=False` gives up safety against power cuts for speed: for tests.
    `port` is taken if it is free, else another; 0 is any. `password=None` lets every
    local user in without one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binaries: Binaries | None = None,
        port: int = 0,
        password: str | None = PASSWORD,
        durable: bool = True,
    ) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "postgres.log"
        self.binaries = binaries or find_binaries()
        self.port = port
        self.password = password
        self.durable = durable
        self._user = ChildUser()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The main database as `postgres`, who is no superuser."""
        return self.url_of("postgres")

    @property
    def admin_url(self) -> str:
        """The main database as the superuser."""
        return self.url_of("postgres", role=SUPERUSER)

    def url_of(self, database: str, *, role: str = "postgres") -> str:
        """Return the address of a database for a role."""
        password = f":{self.password}" if self.password else ""
        return f"postgresql://{role}{password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's process, while it runs."""
        process = self._process
        return process.pid if process and process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server, making its data first where there is none.

        Afterwards `port` is the one it listens on: another than asked for where
        that was taken. Takes a second, or up to 60 after a crash.

        Raises:
            StackError: with what to do.
        """
        if self.pid is not None:
            return
        try:
            self._prepare()
            self._launch()
        except OSError as error:
            self.stop()
            raise StackError(
                f"{error.filename}: {error.strerror}. Mend its owner, its mode or what "
                "is in the way there, or run the local stack in a checkout of your own."
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, sessions or not; no process of it is left."""
        if self._process is not None:
            _end(self._process)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def install_surface(
        self, database: str = "postgres", *, grants: Grants = "strict"
    ) -> None:
        """Give a database, made if need be, what a hosted Supabase project's has.

        Raises:
            StackError: the database has one of another version: start afresh.
        """
        lay_surface(
            self.url_of("postgres", role=SUPERUSER),
            database,
            password=self.password,
            grants=grants,
        )

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        reach = [self.directory, self.binaries.directory]
        self._user = ChildUser.choose(self.data, reach)
        stop_orphan(self.data)
        if not (self.data / "PG_VERSION").exists():
            self._make_data()
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if made_by != str(self.binaries.major):
            raise StackError(
                f"{self.data} was made by Postgres {made_by}, and this one is "
                f"{self.binaries.major} ({self.binaries.directory}): start afresh with "
                f"--reset, or set SUPACAL_POSTGRES_DIR to a Postgres {made_by}."
            )
        method = "scram-sha-256" if self.password else "trust"
        rule = f"all {LOOPBACK}/32 {method}\n"
        (self.data / "pg_hba.conf").write_text(
            f"host all {rule}host replication {rule}"
        )

    def _take_lock(self) -> None:
        self._lock = (self.directory / "lock").open("ab")
        try:
            # Gone with its holder, however that ended: unlike a file with a pid.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"Another local stack runs on {self.directory}: stop that one first."
            ) from None

    def _make_data(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._user.own(self.data)
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.binaries.major < 17:
            locale = ["--locale=C"]
        words = ["-U", SUPERUSER, "-E", "UTF8", *locale, "--no-instructions"]
        password = self.directory / "password"
        if self.password:
            password.touch(mode=0o600)
            self._user.own(password)
            password.write_text(self.password)
            words += ["-A", "scram-sha-256", f"--pwfile={password}"]
        else:
            words += ["-A", "trust"]
        words += [] if self.durable else ["--no-sync"]
        initdb = self._spawn(["initdb", "-D", str(self.data), *words], subprocess.PIPE)
        output, _ = initdb.communicate()
        password.unlink(missing_ok=True)
        if initdb.returncode:
            raise StackError(
                f"initdb could not make {self.data}; it says:\n{output.decode()}"
                f"Remove {self.data} and start again."
            )

    def _launch(self) -> None:
        for _ in range(PORT_ATTEMPTS):
            self.port = free_port(self.port)
            settings = SETTINGS | ({} if self.durable else FAST_SETTINGS)
            words = [f"--{name}={value}" for name, value in settings.items()]
            # A server that holds our stdout keeps `… | tee` from ever ending.
            with self.log.open("wb") as log:
                self._process = self._spawn(
                    ["postgres", "-D", str(self.data), f"--port={self.port}", *words],
                    log,
                )
            if self._wait_until_ready(self._process):
                return
            if "Address already in use" not in self._log_text():
                break
        raise StackError(
            f"Postgres did not start; {self.log} says:\n{self._log_text()}"
            "If it cannot be mended, start afresh with --reset."
        )

    def _spawn(
        self, words: Sequence[str], output: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        program = self.binaries.tool(words[0])
        return subprocess.Popen(  # noqa: S603
            self._user.command([program, *words[1:]]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=self.binaries.environment,
            start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            **self._user.start_options(),
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        status = self.data / "postmaster.pid"
        give_up_at = time.monotonic() + START_LIMIT_S
        while process.poll() is None and time.monotonic() < give_up_at:
            lines = status.read_text().splitlines() if status.exists() else []
            if lines[:1] == [str(process.pid)] and lines[-1].strip() == "ready":
                return True
            time.sleep(POLL_S)
        _end(process)
        return False

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a server: at once if it can, then without a checkpoint, then by force."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            continue
