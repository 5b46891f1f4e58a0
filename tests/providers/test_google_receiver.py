from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from timeit import timeit
from uuid import UUID, uuid4

import pytest

from providers.errors import InvalidNotification
from providers.google.adopted import Adopted, token_hash
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


# Channels that an older system made.

OLD_ID, OLD_TOKEN = "calendar-sync-0815", "connection=42"
OLD = HEADERS | {"x-goog-channel-id": OLD_ID, "x-goog-channel-token": OLD_TOKEN}


def adopting(*, token: str = OLD_TOKEN, ends_in_s: float = 60) -> GoogleReceiver:
    """A receiver that believes one channel of an older system."""
    adopted = Adopted(CHANNEL, NOW + timedelta(seconds=ends_in_s))
    return GoogleReceiver({(token_hash(token), OLD_ID): adopted})


def refused_by(
    receiver: GoogleReceiver, headers: Mapping[str, str]
) -> InvalidNotification:
    with pytest.raises(InvalidNotification) as refused:
        receiver.read(headers, b"", keyring=KEYRING, now=NOW)
    return refused.value


def test_an_adopted_channel_speaks_for_the_row_that_stands_for_it() -> None:
    (notification,) = adopting().read(OLD, b"", keyring=KEYRING, now=NOW)
    assert (notification.channel_id, notification.kind) == (CHANNEL, "change")
    assert OLD_TOKEN not in str(notification)


def test_an_adopted_channel_is_believed_until_it_ends() -> None:
    assert refused_by(adopting(ends_in_s=0), OLD).status == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-goog-channel-token", "connection=43"),
        ("x-goog-channel-token", "connection=42\u00e9"),
        ("x-goog-channel-token", ""),
        ("x-goog-channel-id", "calendar-sync-0816"),
        ("x-goog-channel-id", ""),
        ("x-goog-channel-id", str(CHANNEL)),
    ],
)
def test_an_adopted_token_counts_for_its_own_channel_only(
    name: str, value: str
) -> None:
    assert refused_by(adopting(), OLD | {name: value}).status == 401


def test_a_token_of_our_form_is_never_looked_up() -> None:
    forged = Keyring.parse(Keyring.generate()).channel_token(CHANNEL)
    headers = OLD | {"x-goog-channel-token": forged}
    assert refused_by(adopting(token=forged), headers).status == 401


def test_several_channels_may_share_the_token_of_an_older_system() -> None:
    end, ids = NOW + timedelta(days=1), {"a": uuid4(), "b": uuid4()}
    receiver = GoogleReceiver(
        {(token_hash(OLD_TOKEN), one): Adopted(ids[one], end) for one in ids}
    )
    for one, channel_id in ids.items():
        headers = OLD | {"x-goog-channel-id": one}
        (notification,) = receiver.read(headers, b"", keyring=KEYRING, now=NOW)
        assert notification.channel_id == channel_id


def test_where_channels_are_adopted_our_own_are_believed_as_ever() -> None:
    (notification,) = adopting().read(HEADERS, b"", keyring=KEYRING, now=NOW)
    assert notification.channel_id == CHANNEL
