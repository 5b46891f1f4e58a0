from datetime import UTC, datetime
from timeit import timeit
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import msgspec
import pytest

from providers.errors import InvalidNotification
from providers.microsoft.receiver import MicrosoftReceiver
from providers.model import Notification, Provider
from providers.protocols import ShakesHands
from runtime.sealing import Keyring

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
KEYRING = Keyring.parse(Keyring.generate())
CHANNEL = UUID("c7f0a9d2-1b64-4e0e-9d3a-5b1e2f6a7c88")
SUBSCRIPTION = "6d0f3a52-8a0e-4a0e-9a57-1f1c7b7c2e10"
ITEM: dict[str, Any] = {
    "subscriptionId": SUBSCRIPTION,
    "subscriptionExpirationDateTime": "2026-11-28T06:00:00+00:00",
    "changeType": "updated",
    "resource": "Users/91c1/Events/AAkALgAAPzE7aaa=",
    "resourceData": {
        "@odata.type": "#Microsoft.Graph.Event",
        "@odata.id": "Users/91c1/Events/AAkALgAAPzE7aaa=",
        "@odata.etag": 'W/"DwAAABYAAABq1xT7uQ9m"',
        "id": "AAkALgAAPzE7aaa=",
    },
    "clientState": KEYRING.channel_token(CHANNEL),
    "tenantId": "0a7c5f3e-41d2-4c61-9d6f-3f0f8b2f1a90",
}


def read(*items: dict[str, Any]) -> list[Notification]:
    return read_body(msgspec.json.encode({"value": list(items)}))


def read_body(body: bytes) -> list[Notification]:
    return MicrosoftReceiver().read({}, body, keyring=KEYRING, now=NOW)


def of_channel(channel_id: UUID, **more: Any) -> dict[str, Any]:
    return ITEM | {"clientState": KEYRING.channel_token(channel_id)} | more


def test_an_item_says_that_something_changed_and_keeps_what_matters() -> None:
    kept = {
        "resource_state": "updated",
        "resource_id": SUBSCRIPTION,
        "channel_expires_at": "2026-11-28T06:00:00+00:00",
    }
    assert read(ITEM) == [
        Notification(Provider.MICROSOFT, "change", CHANNEL, None, kept, None)
    ]


def test_one_request_mixes_channels_and_repeats_itself() -> None:
    other = uuid4()
    found = read(ITEM, of_channel(other), ITEM, of_channel(other, changeType="deleted"))
    assert [(one.channel_id, one.headers["resource_state"]) for one in found] == [
        (CHANNEL, "updated"),
        (other, "deleted"),
    ]


@pytest.mark.parametrize(
    "reason", ["reauthorizationRequired", "subscriptionRemoved", "missed"]
)
def test_a_lifecycle_event_is_told_with_its_reason(reason: str) -> None:
    without = {k: v for k, v in ITEM.items() if k not in {"changeType", "resource"}}
    (found,) = read(without | {"lifecycleEvent": reason})
    assert (found.kind, found.headers["reason"]) == ("lifecycle", reason)
    assert "resource_state" not in found.headers


def test_a_change_and_a_lifecycle_event_of_one_channel_are_two() -> None:
    found = read(ITEM, ITEM | {"changeType": None, "lifecycleEvent": "missed"})
    assert [one.kind for one in found] == ["change", "lifecycle"]


@pytest.mark.parametrize(
    "state",
    [None, "", "x", KEYRING.channel_token(CHANNEL)[:-2], "é" * 20],
    ids=["none", "empty", "nonsense", "cut", "no ascii"],
)
def test_a_foreign_item_costs_the_others_nothing(state: str | None) -> None:
    (found,) = read(ITEM | {"clientState": state}, ITEM)
    assert found.channel_id == CHANNEL


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"value":[]}',
        b'{"value":{}}',
        b'{"value":[1]}',
        b"\xff\xfe",
        b'{"value":[' + b"[" * 30_000,
        msgspec.json.encode({"value": [ITEM | {"clientState": "forged"}]}),
        msgspec.json.encode(
            {
                "value": [
                    ITEM
                    | {
                        "clientState": Keyring.parse(Keyring.generate()).channel_token(
                            CHANNEL
                        )
                    }
                ]
            }
        ),
    ],
)
def test_what_has_nothing_of_ours_is_401(body: bytes) -> None:
    with pytest.raises(InvalidNotification) as refused:
        read_body(body)
    assert refused.value.status == 401


def test_what_could_fill_the_disk_is_not_kept() -> None:
    (found,) = read(
        ITEM
        | {"changeType": "x" * 1000, "subscriptionExpirationDateTime": "soon" * 1000}
    )
    assert found.headers == {"resource_id": SUBSCRIPTION}
    with pytest.raises(InvalidNotification):
        read(ITEM | {"subscriptionId": "x" * 1000})


def test_a_channel_token_fits_a_client_state() -> None:
    ring = Keyring.parse(Keyring.generate("a-key-id-16-long"))
    assert len(ring.channel_token(CHANNEL)) <= 128


def test_a_handshake_answers_the_token_as_it_was_before_it_was_encoded() -> None:
    receiver = MicrosoftReceiver()
    assert isinstance(receiver, ShakesHands)
    token = "Validation: Testing client reachability + 100% <b>&amp;</b> é %2B"
    query = urlencode({"channel": str(CHANNEL), "validationToken": token})
    assert receiver.handshake(query) == token


@pytest.mark.parametrize(
    "query",
    ["", f"channel={CHANNEL}", "validationtoken=x", "validationToken=" + "x" * 5000],
)
def test_anything_else_is_no_handshake(query: str) -> None:
    assert MicrosoftReceiver().handshake(query) is None


def test_reading_costs_microseconds() -> None:
    body = msgspec.json.encode({"value": [ITEM]})
    rounds = 1000
    # A bound that only a change of kind breaks.
    assert timeit(lambda: read_body(body), number=rounds) / rounds < 300e-6
