"""Commands explain themselves, and say in a sentence what is wrong."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from runtime.sealing import Keyring
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.sessions import Sessions
from tests.support.stacks import environment, running, supacal

COMMANDS = ("dev", "api", "worker", "migrate", "doctor", "tail", "replay", "keys")


def test_the_command_alone_names_every_command(tmp_path: Path) -> None:
    said = supacal("--help", environ=environment(tmp_path)).stdout
    for command in COMMANDS:
        assert re.search(rf"^    {command} +\w", said, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(tmp_path: Path, command: str) -> None:
    helped = supacal(command, "--help", environ=environment(tmp_path))
    assert helped.returncode == 0
    # More than its name and --help: a description.
    assert len(helped.stdout) > 150


def test_an_unknown_command_is_answered_with_those_there_are(tmp_path: Path) -> None:
    refused = supacal("bananas", environ=environment(tmp_path))
    assert refused.returncode == 2
    assert "worker" in refused.stderr


def test_keys_prints_a_key_that_opens_what_it_seals(tmp_path: Path) -> None:
    made = supacal("keys", environ=environment(tmp_path)).stdout
    ring = Keyring.parse(made.strip())
    assert ring.open(ring.seal(b"secret", context="x"), context="x") == b"secret"


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("api", {"DATABASE_URL", "SUPACAL_SECRET_KEYS"}),
        ("worker", {"DATABASE_URL", "SUPACAL_SECRET_KEYS", "SUPACAL_PUBLIC_URL"}),
        ("migrate", {"DATABASE_URL"}),
        ("tail", {"DATABASE_URL"}),
    ],
)
def test_settings_that_are_missing_are_named_all_at_once(
    tmp_path: Path, command: str, missing: set[str]
) -> None:
    refused = supacal(command, environ=environment(tmp_path))
    assert refused.returncode == 2
    assert (
        set(re.findall(r"^(\w+) is missing", refused.stderr, re.MULTILINE)) == missing
    )
    assert "docs/settings.md" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_part_of_a_supabase_is_refused_and_the_rest_named(tmp_path: Path) -> None:
    environ = environment(tmp_path / "state", SUPABASE_URL="http://127.0.0.1:1")
    refused = supacal("dev", "--exit", environ=environ)
    assert refused.returncode == 2
    assert set(re.findall(r"^(\w+) is missing", refused.stderr, re.MULTILINE)) == {
        "DATABASE_URL",
        "SUPABASE_ANON_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
        "SUPABASE_JWT_SECRET",
    }


@pytest.mark.parametrize("command", ["migrate", "tail"])
def test_a_database_that_does_not_answer_is_a_sentence(
    tmp_path: Path, command: str
) -> None:
    url = "postgresql://postgres:secret@127.0.0.1:1/postgres"
    refused = supacal(command, environ=environment(tmp_path, DATABASE_URL=url))
    assert refused.returncode == 1
    assert "DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "secret" not in refused.stderr


def test_migrate_brings_a_bare_supabase_database_up_to_date_once(
    tmp_path: Path, bare: Sessions
) -> None:
    environ = environment(tmp_path, DATABASE_URL=bare.url)
    first = supacal("migrate", environ=environ)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[0] == (
        "applied 20261121000100_schemas_and_roles.sql"
    )
    again = supacal("migrate", environ=environ)
    assert (again.returncode, again.stdout) == (0, "The database is up to date.\n")


def test_tail_on_a_database_without_our_tables_says_what_to_run_first(
    tmp_path: Path, bare: Sessions
) -> None:
    refused = supacal("tail", environ=environment(tmp_path, DATABASE_URL=bare.url))
    assert refused.returncode == 1
    assert "supacal migrate" in refused.stderr


def test_an_interval_that_is_none_is_refused(
    tmp_path: Path, sessions: Sessions
) -> None:
    environ = environment(tmp_path, DATABASE_URL=sessions.url)
    refused = supacal("tail", "--since", "a while", environ=environ)
    assert refused.returncode == 2
    assert "10 minutes" in refused.stderr


@pytest.mark.parametrize("left_behind", [True, False])
def test_tail_where_no_stack_runs_says_how_to_start_one(
    tmp_path: Path, left_behind: bool
) -> None:
    if left_behind:  # by a stack that was killed
        url = "postgresql://postgres@127.0.0.1:1/postgres"
        (tmp_path / "running.json").write_text(json.dumps({"database_url": url}))
        (tmp_path / "lock").write_text("1")
    refused = supacal("tail", environ=environment(tmp_path))
    assert refused.returncode == 2
    assert "`supacal dev`" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_tail_follows_the_stack_that_runs_here(scratch: Path) -> None:
    environ = environment(scratch / "state", SUPACAL_SHARED="/nowhere")
    with running(environ, scratch) as dev:
        log = scratch / "tail.txt"
        with log.open("w") as output:
            tail = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "supacal", "tail", "--since", "10 minutes"],
                env=environ,
                cwd="/",
                stdout=output,
                stderr=output,
            )
        try:
            await eventually(lambda: "watch" in log.read_text(), within_s=20)
            await eventually(lambda: "done: created" in log.read_text(), within_s=20)
            read = len(log.read_text().splitlines())
            twin = dev.facts["twins"]["google"]
            state = httpx2.get(f"{twin}/_twin/state").json()
            calendar = state["calendars"][-1]["id"]
            httpx2.post(
                f"{twin}/_twin/calendars/{calendar}/actions",
                json={
                    "action": "add",
                    "title": "Seen",
                    "start": coming(3).isoformat(),
                },
            )

            def has_told() -> bool:
                fresh = log.read_text().splitlines()[read:]
                return any("delivery  google change" in line for line in fresh) and any(
                    "created 1" in line for line in fresh
                )

            await eventually(has_told, within_s=20)
            assert "Seen" not in log.read_text()
        finally:
            tail.send_signal(signal.SIGINT)
            assert tail.wait(10) == 130
        assert "Traceback" not in log.read_text()
