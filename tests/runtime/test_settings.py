import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from runtime.sealing import Keyring
from runtime.settings import (
    DatabaseSettings,
    ReceiverSettings,
    SettingsError,
    StackSettings,
    WorkerSettings,
    read,
)

KEYS = Keyring.generate()
DATABASE = "postgresql://app:hunter2@db.example.org:5432/postgres"
WORKER = {
    "DATABASE_URL": DATABASE,
    "SUPACAL_SECRET_KEYS": KEYS,
    "SUPACAL_PUBLIC_URL": "https://hooks.example.org/",
}


def problems(cls: type, environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        read(cls, environ)
    assert str(refused.value).splitlines() == refused.value.problems
    return refused.value.problems


def test_every_problem_stands_in_one_message() -> None:
    found = problems(
        WorkerSettings,
        {
            "SUPACAL_LEASE_SECONDS": "60s",
            "SUPACAL_PUBLIC_URL": "http://hooks.example.org",
            "DATABASE_URL": "mysql://app:hunter2@db/app",
            "GOOGLE_CLIENT_ID": "me",
            "SUPACAL_LOG_FORMAT": "xml",
        },
    )
    text = "\n".join(found)
    assert "SUPACAL_LEASE_SECONDS must be whole seconds, 1 to 86400, not '60s'" in found
    assert "SUPACAL_PUBLIC_URL must be an https URL" in text
    assert "DATABASE_URL must be a URL like postgresql://" in text
    assert "GOOGLE_CLIENT_SECRET is missing: " in text
    assert "SUPACAL_SECRET_KEYS is missing: " in text
    assert "SUPACAL_LOG_FORMAT must be json or console, not 'xml'" in found
    assert len(found) == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://app:hunter2@db/app"),
        ("DATABASE_URL", "postgresql://app:hunter2#x@db:5432/app"),
        ("DATABASE_URL", "postgresql://app:hunter2/x@db:5432/app"),
        ("SUPACAL_SECRET_KEYS", "k1:hunter2"),
        ("SUPACAL_PUBLIC_URL", "https://me:hunter2@example.org"),
        ("GOOGLE_API_URL", "https://me:hunter2@example.org"),
    ],
)
def test_a_secret_is_not_in_the_message(name: str, value: str) -> None:
    (problem,) = problems(WorkerSettings, WORKER | {name: value})
    assert problem.startswith(f"{name} must be ")
    assert "hunter2" not in problem


def test_a_secret_is_not_shown_by_settings_that_are_right() -> None:
    settings = read(WorkerSettings, WORKER)
    assert "hunter2" not in repr(settings)
    assert KEYS.partition(":")[2] not in repr(settings)


def test_the_refusal_carries_no_values_along() -> None:
    with pytest.raises(SettingsError) as refused:
        read(WorkerSettings, WORKER | {"SUPACAL_SECRET_KEYS": "k1:hunter2"})
    assert refused.value.__context__ is None


def test_a_malformed_key_ring_says_what_is_wrong_with_it() -> None:
    (problem,) = problems(
        WorkerSettings, WORKER | {"SUPACAL_SECRET_KEYS": "k1:c2hvcnQ"}
    )
    assert problem.endswith("key 1 has 5 bytes, not 32")


@pytest.mark.parametrize("cls", [ReceiverSettings, WorkerSettings])
@pytest.mark.parametrize("app", ["GOOGLE", "MICROSOFT", "CALENDLY"])
def test_an_oauth_app_has_an_id_and_a_secret_or_neither(app: str, cls: type) -> None:
    both = f"{app}_CLIENT_ID", f"{app}_CLIENT_SECRET"
    known = WORKER | {"CALENDLY_WEBHOOK_SIGNING_KEY": "k"}
    for given, absent in (both, both[::-1]):
        (problem,) = problems(cls, known | {given: "hunter2"})
        assert problem.startswith(f"{absent} is missing: The ")
        assert "hunter2" not in problem
    assert read(cls, known | dict.fromkeys(both, "hunter2"))


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]"]
)
def test_loopback_needs_no_https(url: str) -> None:
    settings = read(WorkerSettings, WORKER | {"SUPACAL_PUBLIC_URL": url})
    assert settings.supacal_public_url == url


@pytest.mark.parametrize("prefix", ["a", "Team_7+eu/=-", "x" * 28])
def test_a_channel_prefix_leaves_room_for_an_id(prefix: str) -> None:
    settings = read(WorkerSettings, WORKER | {"SUPACAL_CHANNEL_PREFIX": prefix})
    assert settings.supacal_channel_prefix == prefix


@pytest.mark.parametrize("prefix", ["x" * 29, "a.b", "a b", "ä", "a\n"])
def test_a_channel_prefix_that_google_would_not_take_is_refused(prefix: str) -> None:
    (problem,) = problems(WorkerSettings, WORKER | {"SUPACAL_CHANNEL_PREFIX": prefix})
    assert problem.startswith("SUPACAL_CHANNEL_PREFIX must be at most 28 letters, ")


def test_a_slash_at_the_end_of_a_url_makes_no_difference() -> None:
    settings = read(WorkerSettings, WORKER)
    assert settings.supacal_public_url == "https://hooks.example.org"


def test_a_pool_without_a_login_takes_a_role_in_database_url() -> None:
    worker = read(WorkerSettings, WORKER)
    receiver = read(ReceiverSettings, WORKER)
    assert worker.database.role == "sync_worker"
    assert receiver.database.role == "webhook_ingest"
    assert receiver.connect_database.role == "webhook_connect"
    assert worker.database.url == SecretStr(DATABASE)


def test_a_pool_with_a_login_of_its_own_needs_no_database_url() -> None:
    own = {"SUPACAL_SECRET_KEYS": KEYS, "RECEIVER_DATABASE_URL": DATABASE}
    receiver = read(ReceiverSettings, own)
    assert receiver.database.url == SecretStr(DATABASE)
    assert receiver.database.role is None
    with pytest.raises(SettingsError, match="DATABASE_URL is missing"):
        _ = receiver.connect_database


def test_without_any_database_one_variable_is_missing() -> None:
    (problem,) = problems(ReceiverSettings, {"SUPACAL_SECRET_KEYS": KEYS})
    assert problem.startswith("DATABASE_URL is missing: ")


def test_an_empty_variable_is_as_good_as_none() -> None:
    settings = read(WorkerSettings, WORKER | {"SUPACAL_LEASE_SECONDS": ""})
    assert settings.supacal_lease_seconds == 60


def test_the_stack_needs_no_setting() -> None:
    assert read(StackSettings, {}).supacal_state_dir == Path(".supacal")


def test_settings_come_from_the_environment_and_then_from_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{name}={value}" for name, value in WORKER.items()]
    (tmp_path / ".env").write_text(
        "\n".join([*lines, "SUPACAL_LEASE_SECONDS=5", "SUPACAL_WORKER_SLOTS=3"])
    )
    monkeypatch.setenv("SUPACAL_LEASE_SECONDS", "7")
    settings = read(WorkerSettings)
    assert settings.supacal_lease_seconds == 7
    assert settings.supacal_worker_slots == 3


def test_settings_do_not_change() -> None:
    settings = read(WorkerSettings, WORKER)
    with pytest.raises(ValidationError):
        settings.supacal_lease_seconds = 1


def test_the_keys_are_ready_for_use() -> None:
    assert read(WorkerSettings, WORKER).keyring.key_ids == ["k1"]


# docs/settings.md: one table a program, one row a setting: name, default, meaning.
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
ROW = re.compile(r"\| `([A-Z_]+)` \| (.*?) \| (.*?) \|")
SECTIONS: dict[str, type[BaseSettings]] = {
    "webhook_api": ReceiverSettings,
    "worker": WorkerSettings,
    "commands on the database": DatabaseSettings,
    "local stack": StackSettings,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_document_says_what_the_classes_say(section: str) -> None:
    text = DOCUMENT.read_text().split(f"## The {section}\n")[1].split("\n## ")[0]
    expected = {
        name.upper(): (_default(field), field.description)
        for name, field in SECTIONS[section].model_fields.items()
    }
    documented = {name: (value, meaning) for name, value, meaning in ROW.findall(text)}
    assert documented == expected


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default is None else f"`{field.default}`"
