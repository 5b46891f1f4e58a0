"""`supacal dev` as a program: it is ready, it leaves nothing behind, it heals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from providers.model import Provider
from tests.support.eventually import eventually
from tests.support.stacks import (
    Dev,
    alive,
    environment,
    running,
    starting,
    supacal,
)

KEYS = {
    "database_url",
    "admin_database_url",
    "supabase_url",
    "anon_key",
    "service_role_key",
    "jwt_secret",
    "api_url",
    "console_url",
    "twins",
    "users",
}
# A root may write everywhere; and nobody may not even start a Python below /root.
AS_NOBODY = """
import os, pwd, sys, supacal.dev, supacal.failures
from supacal.__main__ import main
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(pwd.getpwnam("nobody").pw_uid)
sys.exit(main(["dev", "--exit"]))
"""


def processes_of(dev: Dev) -> dict[int, str]:
    """All that a ready stack consists of, itself included."""
    found = {dev.process.pid: Path(f"/proc/{dev.process.pid}/cmdline").read_text()}
    found = {pid: words.replace("\0", " ") for pid, words in found.items()}
    return found | dev.descendants()


def test_one_line_of_json_says_where_everything_is(scratch: Path) -> None:
    began = time.monotonic()
    with running(environment(scratch / "state"), scratch) as dev:
        sys.stdout.write(f"ready after {time.monotonic() - began:.1f} s\n")
        assert set(dev.facts) == KEYS
        assert set(dev.facts["twins"]) == {str(one) for one in Provider}
        users: list[dict[str, Any]] = dev.facts["users"]
        assert [user["email"] for user in users] == [
            "ada@example.com",
            "ben@example.com",
        ]
        assert all(set(u) == {"id", "email", "jwt", "organization"} for u in users)
        with psycopg.connect(dev.facts["database_url"]) as database:
            assert database.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_every_process_with_exit_code_0(
    scratch: Path, how: signal.Signals
) -> None:
    with running(environment(scratch / "state"), scratch) as dev:
        before = processes_of(dev)
        words = " ".join(before.values())
        for part in ("supacal api", "supacal worker", "postgres -D", "node"):
            assert part in words
        began = time.monotonic()
        assert dev.end(how) == 0
        sys.stdout.write(f"ended after {time.monotonic() - began:.1f} s\n")
        assert alive(before) == {}
        assert "Traceback" not in dev.said


def test_a_tour_that_was_stopped_did_not_end_well(scratch: Path) -> None:
    environ = environment(scratch / "state", SUPACAL_SHARED="/nowhere")
    with running(environ, scratch, "--tour", "--exit") as dev:
        assert dev.end(signal.SIGTERM) == 130


async def test_a_signal_while_it_starts_ends_every_process(scratch: Path) -> None:
    with starting(environment(scratch / "state"), scratch) as dev:
        seen: dict[int, str] = {}

        def has_started_postgres() -> bool:
            seen.update(dev.descendants())
            return any("postgres -D" in words for words in seen.values())

        await eventually(has_started_postgres, within_s=30)
        assert dev.end(signal.SIGTERM) == 0
        assert alive(seen) == {}
        assert "Traceback" not in dev.said


async def test_a_killed_stack_leaves_nothing_for_long_and_the_next_start_heals(
    scratch: Path,
) -> None:
    environ = environment(scratch / "state")
    with running(environ, scratch) as dev:
        before = processes_of(dev)
        dev.process.kill()
        dev.process.wait()
        await eventually(lambda: not alive(before), within_s=20)
    with running(environ, scratch) as healed:
        assert healed.facts["users"]


async def test_the_next_start_heals_even_while_the_remains_of_a_killed_one_live(
    scratch: Path,
) -> None:
    environ = environment(scratch / "state")
    with running(environ, scratch) as dev:
        before = processes_of(dev)
        dev.process.kill()
        dev.process.wait()
    with running(environ, scratch) as healed:
        assert healed.facts["users"]
    await eventually(lambda: not alive(before), within_s=20)


@pytest.mark.parametrize("part", ["supacal worker", "supacal api", "postgres -D"])
def test_a_program_that_dies_is_told_with_its_last_words(
    scratch: Path, part: str
) -> None:
    with running(environment(scratch / "state"), scratch) as dev:
        before = processes_of(dev)
        pid = next(pid for pid, words in before.items() if part in words)
        os.kill(pid, signal.SIGKILL)
        assert dev.process.wait(30) == 1
        assert "ended by itself" in dev.said
        assert str(scratch / "state") in dev.said
        assert "Traceback" not in dev.said
        assert alive(before) == {}


def test_a_second_stack_on_the_same_folder_is_refused_and_the_first_unharmed(
    scratch: Path,
) -> None:
    environ = environment(scratch / "state")
    with running(environ, scratch) as dev:
        for words in (["--exit"], ["--exit", "--reset"]):
            second = supacal("dev", *words, environ=environ)
            assert second.returncode == 1
            assert f"process {dev.process.pid}" in second.stderr
            assert "SUPACAL_STATE_DIR" in second.stderr
        with psycopg.connect(dev.facts["database_url"]) as database:
            assert database.execute("select 1").fetchone() == (1,)


def test_a_folder_that_is_not_ours_stays_as_it_is(scratch: Path) -> None:
    (scratch / "README.txt").write_text("my holiday photographs")
    refused = supacal("dev", "--reset", "--exit", environ=environment(scratch))
    assert refused.returncode == 1
    assert "was not made by the local stack" in refused.stderr
    assert [file.name for file in scratch.iterdir()] == ["README.txt"]


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(
    scratch: Path,
) -> None:
    (scratch / "file").touch()
    refused = supacal("dev", "--exit", environ=environment(scratch / "file" / "state"))
    assert refused.returncode == 1
    assert str(scratch / "file") in refused.stderr
    assert "SUPACAL_STATE_DIR" in refused.stderr


def test_a_postgres_that_is_not_there_is_a_wrong_setting(scratch: Path) -> None:
    environ = environment(scratch / "state", SUPACAL_POSTGRES_DIR="/nowhere")
    refused = supacal("dev", "--exit", environ=environ)
    assert refused.returncode == 2
    assert "SUPACAL_POSTGRES_DIR: /nowhere holds no initdb" in refused.stderr


def test_whoever_may_not_write_is_told_so(scratch: Path) -> None:
    scratch.chmod(0o555)
    refused = subprocess.run(
        [sys.executable, "-c", AS_NOBODY],
        env=environment(scratch / "state"),
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    scratch.chmod(0o711)
    assert refused.returncode == 1, refused.stderr
    assert "Permission denied" in refused.stderr
    assert "SUPACAL_STATE_DIR" in refused.stderr


def test_reset_starts_afresh(scratch: Path) -> None:
    environ = environment(scratch / "state")
    with running(environ, scratch) as dev:
        organization = dev.facts["users"][0]["organization"]
    with running(environ, scratch) as again:
        assert again.facts["users"][0]["organization"] == organization
    with running(environ, scratch, "--reset") as afresh:
        assert afresh.facts["users"][0]["organization"] != organization


def test_exit_ends_when_all_is_ready_and_home_is_as_it_was(scratch: Path) -> None:
    home = scratch / "home"
    home.mkdir()
    environ = environment(scratch / "state", HOME=str(home))
    with running(environ, scratch, "--exit") as dev:
        assert dev.process.wait(30) == 0
        assert "Serving" not in dev.said
    assert list(home.iterdir()) == []
