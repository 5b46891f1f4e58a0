from datetime import timedelta

import pytest

from runtime.sealing import Keyring
from runtime.settings import ReceiverSettings, SettingsError, read

KNOWN = {
    "DATABASE_URL": "postgresql://app:hunter2@db.example.org:5432/postgres",
    "SUPACAL_SECRET_KEYS": Keyring.generate(),
}
APP = {"CALENDLY_CLIENT_ID": "id", "CALENDLY_CLIENT_SECRET": "hunter2"}


def test_a_calendly_app_needs_its_secret_and_the_key_it_signs_with() -> None:
    with pytest.raises(SettingsError) as refused:
        read(ReceiverSettings, KNOWN | {"CALENDLY_CLIENT_ID": "id"})
    told = [problem.partition(" ")[0] for problem in refused.value.problems]
    assert told == ["CALENDLY_CLIENT_SECRET", "CALENDLY_WEBHOOK_SIGNING_KEY"]
    assert read(ReceiverSettings, KNOWN | APP | {"CALENDLY_WEBHOOK_SIGNING_KEY": "k"})


def test_webhooks_made_by_hand_need_no_app() -> None:
    settings = read(ReceiverSettings, KNOWN | {"CALENDLY_WEBHOOK_SIGNING_KEY": "k1"})
    assert settings.calendly_webhook_signing_key is not None
    assert "k1" not in repr(settings.calendly_webhook_signing_key)


def test_the_tolerance_of_signatures_is_a_length_of_time() -> None:
    settings = read(
        ReceiverSettings, KNOWN | {"SUPACAL_SIGNATURE_TOLERANCE_SECONDS": "90"}
    )
    assert settings.signature_tolerance == timedelta(seconds=90)
