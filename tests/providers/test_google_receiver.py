from collections.abc import Mapping
from datetime import UTC, datetime
from timeit import timeit
from uuid import UUID, uuid4

import pytest

from providers.errors import InvalidNotification
from providers.google.receiver import GoogleReceiver
from providers.model import Notification, Provider
from runtime.sealing import Keyring

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
KEYRING = Keyring.parse(Keyring.generate())
CHANNEL = UUID("c7f0a9d2-1b64-4e0e-9d3a-5b1e2f6a7c88")
HEADERS = {
    "host": "hooks.example.app",
    "content-type": "application/json; utf-8",
    "content-length": "0",
    "x-goog-channel-id": str(CHANNEL),
    "x-goog-channel-token": KEYRING.channel_token(CHANNEL),
    "x-goog-channel-expiration": "Sat, 28 Nov 2026 07:30:00 GMT",
    "x-goog-resource-id": "Qk3vN8sYp1wLr0TzE6dHbU2mX9A",
    "x-goog-resource-uri": "https://www.googleapis.com/calendar/v3/calendars/x/events",
    "x-goog-resource-state": "exists",
    "x-goog-message-number": "481734",
}


def read(headers: Mapping[str, str]) -> list[Notification]:
    return GoogleReceiver().read(headers, b"", keyring=KEYRING, now=NOW)


def refusal(headers: Mapping[str, str]) -> InvalidNotification:
    with pytest.raises(InvalidNotification) as refused:
        read(headers)
    return refused.value


def test_a_delivery_says_that_something_changed_and_keeps_what_matters() -> None:
    kept = {
        "resource_id": "Qk3vN8sYp1wLr0TzE6dHbU2mX9A",
        "resource_state": "exists",
        "message_number": "481734",
        "channel_expires_at": "2026-11-28T07:30:00+00:00",
    }
    assert read(HEADERS) == [
        Notification(Provider.GOOGLE, "change", CHANNEL, None, kept, None)
    ]


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("sync", "hello"),
        ("exists", "change"),
        ("not_exists", "change"),
        ("invented_later", "change"),
    ],
)
def test_only_sync_is_a_hello(state: str, kind: str) -> None:
    (notification,) = read(HEADERS | {"x-goog-resource-state": state})
    assert notification.kind == kind


def test_a_channel_without_an_end_has_none() -> None:
    headers = {k: v for k, v in HEADERS.items() if k != "x-goog-channel-expiration"}
    (notification,) = read(headers)
    assert "channel_expires_at" not in notification.headers


def test_an_end_that_cannot_be_read_costs_no_delivery() -> None:
    (notification,) = read(HEADERS | {"x-goog-channel-expiration": "soon"})
    assert "channel_expires_at" not in notification.headers


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "v1.k1.." + "x" * 43,
        KEYRING.channel_token(uuid4()),
        Keyring.parse(Keyring.generate()).channel_token(CHANNEL),
        HEADERS["x-goog-channel-token"][:-1] + "é",
    ],
    ids=["none", "nonsense", "forged", "foreign", "other ring", "no ascii"],
)
def test_a_missing_forged_or_foreign_token_is_401(token: str) -> None:
    assert refusal(HEADERS | {"x-goog-channel-token": token}).status == 401


def test_a_request_without_any_of_googles_headers_is_401() -> None:
    assert refusal({}).status == 401


def test_a_token_counts_for_its_own_channel_only() -> None:
    assert refusal(HEADERS | {"x-goog-channel-id": str(uuid4())}).status == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-goog-resource-state", ""),
        ("x-goog-resource-state", "x" * 1000),
        ("x-goog-resource-id", ""),
        ("x-goog-resource-id", "x" * 1000),
        ("x-goog-message-number", "many"),
        ("x-goog-message-number", "9" * 100),
    ],
)
def test_a_malformed_header_is_400_and_named(name: str, value: str) -> None:
    invalid = refusal(HEADERS | {name: value})
    assert invalid.status == 400
    assert name in invalid.reason


def test_a_forged_delivery_is_refused_before_it_is_read() -> None:
    nonsense = HEADERS | {"x-goog-channel-token": "x", "x-goog-message-number": "many"}
    assert refusal(nonsense).status == 401


def test_reading_costs_microseconds() -> None:
    rounds = 2000
    # Measured: 7 µs; a bound that only a change of kind breaks.
    assert timeit(lambda: read(HEADERS), number=rounds) / rounds < 200e-6
