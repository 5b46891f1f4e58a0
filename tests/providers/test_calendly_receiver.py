import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from providers.calendly.receiver import CalendlyReceiver
from providers.errors import InvalidNotification, StaleNotification
from providers.model import Notification, Provider
from providers.signatures import hex_digest
from runtime.sealing import Keyring
from tests.support.booking_bodies import HOST, CalendlyLife

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
OLD = Keyring.generate("old")
KEYRING = Keyring.parse(f"{Keyring.generate('new')},{OLD}")
CHANNEL = UUID("c7f0a9d2-1b64-4e0e-9d3a-5b1e2f6a7c88")
SHARED = "the-app's-one-key"
HEADER = "calendly-webhook-signature"
CREATED = CalendlyLife().book()[0].encode()


def signed(
    body: bytes,
    key: str = KEYRING.signing_keys(CHANNEL)[0],
    at: datetime = NOW,
    form: str = "t={t},v1={v1}",
) -> dict[str, str]:
    t = str(int(at.timestamp()))
    v1 = hex_digest(key, t.encode() + b"." + body)
    return {HEADER: form.format(t=t, v1=v1)}


def read(
    body: bytes = CREATED,
    headers: dict[str, str] | None = None,
    *,
    channel_id: UUID | None = CHANNEL,
    keyring: Keyring = KEYRING,
    **receiver: Any,
) -> list[Notification]:
    return CalendlyReceiver(SHARED, **receiver).read(
        signed(body) if headers is None else headers,
        body,
        keyring=keyring,
        now=NOW,
        channel_id=channel_id,
    )


def refusal(*args: Any, **more: Any) -> InvalidNotification:
    with pytest.raises(InvalidNotification) as refused:
        read(*args, **more)
    return refused.value


def test_a_delivery_is_kept_whole_for_its_channel() -> None:
    kept = {"trigger": "invitee.created", "signed_at": "2026-03-02T09:15:00+00:00"}
    assert read() == [
        Notification(
            Provider.CALENDLY, "booking", CHANNEL, None, kept, CREATED.decode()
        )
    ]


def test_the_published_example_verifies() -> None:
    body = b'{"event":"invitee.created","created_at":"2026-03-02T09:15:00.000000Z"}'
    v1 = "205d637306eeb18fc05e0bb16c5fd2aac8e1a740c7998346eb3c1394cbc56d9d"
    receiver = CalendlyReceiver("calendly-key-demo")
    (notification,) = receiver.read(
        {HEADER: f"t=1772442900,v1={v1}"},
        body,
        keyring=KEYRING,
        now=datetime.fromtimestamp(1772442900, UTC),
    )
    assert notification.routing_key == ""


@pytest.mark.parametrize(
    "form",
    ["v1={v1},t={t}", "t={t}, v1={v1}", "t={t},v0=00,v1={v1}", "t={t},v1=00,v1={v1}"],
)
def test_the_parts_of_a_signature_may_come_in_any_order_and_company(form: str) -> None:
    assert read(headers=signed(CREATED, form=form))


def test_an_older_key_of_the_ring_is_believed_and_a_foreign_one_is_not() -> None:
    old = Keyring.parse(OLD).signing_keys(CHANNEL)[0]
    assert read(headers=signed(CREATED, old))
    foreign = Keyring.parse(Keyring.generate()).signing_keys(CHANNEL)[0]
    assert refusal(headers=signed(CREATED, foreign)).status == 401


def test_a_key_counts_for_its_own_channel_only() -> None:
    assert refusal(channel_id=uuid4()).reason == "wrong signature"


def test_the_apps_key_counts_for_every_channel_and_without_one() -> None:
    headers = signed(CREATED, SHARED)
    assert read(headers=headers)[0].channel_id == CHANNEL
    (by_hand,) = read(headers=headers, channel_id=None)
    assert (by_hand.channel_id, by_hand.routing_key) == (None, HOST)


def test_without_any_key_nothing_is_believed() -> None:
    headers = signed(CREATED, "")
    with pytest.raises(InvalidNotification, match="wrong signature"):
        CalendlyReceiver(None).read(headers, CREATED, keyring=KEYRING, now=NOW)


def test_one_without_hosts_is_routed_by_the_owner_of_the_subscription() -> None:
    body = json.dumps(
        {"event": "invitee.created", "created_by": HOST, "payload": {"uri": "x"}}
    ).encode()
    (notification,) = read(body, signed(body, SHARED), channel_id=None)
    assert notification.routing_key == HOST


@pytest.mark.parametrize("seconds", [-299, 299])
def test_a_time_within_the_tolerance_is_good(seconds: int) -> None:
    assert read(headers=signed(CREATED, at=NOW + timedelta(seconds=seconds)))


@pytest.mark.parametrize("seconds", [-301, 301, -86_400])
def test_a_right_signature_of_a_stale_time_is_401_and_names_whom_to_sweep(
    seconds: int,
) -> None:
    at = NOW + timedelta(seconds=seconds)
    stale = refusal(headers=signed(CREATED, at=at))
    assert isinstance(stale, StaleNotification)
    assert (stale.status, stale.reason) == (401, "stale time")
    assert (stale.channel_id, stale.routing_key) == (CHANNEL, None)
    by_hand = refusal(headers=signed(CREATED, SHARED, at), channel_id=None)
    assert isinstance(by_hand, StaleNotification)
    assert by_hand.routing_key == HOST


def test_the_tolerance_is_a_setting() -> None:
    headers = signed(CREATED, at=NOW - timedelta(hours=1))
    assert read(headers=headers, tolerance=timedelta(hours=2))


def test_a_stale_time_without_the_key_is_a_forgery_and_asks_for_nothing() -> None:
    headers = signed(CREATED, "guessed", NOW - timedelta(days=1))
    assert not isinstance(refusal(headers=headers), StaleNotification)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no signature"),
        ("t=1772442900", "malformed signature"),
        ("v1=00", "malformed signature"),
        ("t=soon,v1=00", "malformed signature"),
        ("t=1,t=2,v1=00", "malformed signature"),
        ("t=" + "9" * 40 + ",v1=00", "malformed signature"),
        ("t=99999999999,v1=00", "wrong signature"),
        ("t=1772442900,v1=é", "wrong signature"),
        ("sha256=00", "malformed signature"),
    ],
)
def test_what_is_not_signed_rightly_is_401(header: str, reason: str) -> None:
    refused = refusal(headers={HEADER: header})
    assert (refused.status, refused.reason) == (401, reason)


def test_a_signature_over_a_reserialized_body_is_401() -> None:
    other = json.dumps(json.loads(CREATED), indent=1).encode()
    assert refusal(headers=signed(other)).status == 401


@pytest.mark.parametrize("body", [b'{"event":1}', b'{"event":"x"'])
def test_a_signed_body_that_is_no_event_is_400(body: bytes) -> None:
    refused = refusal(body)
    assert (refused.status, refused.reason) == (400, "no event")


@pytest.mark.parametrize(
    "event", ["event_type.created", "routing_form_submission.created", "brand.new"]
)
def test_what_is_no_booking_is_kept_as_ignored(event: str) -> None:
    body = json.dumps({"event": event, "payload": {}}).encode()
    (notification,) = read(body)
    assert notification.kind == "booking"
    assert notification.headers["trigger"] == event
    assert notification.headers["ignored"]


def test_a_trigger_that_is_no_name_is_not_repeated() -> None:
    body = json.dumps({"event": "x y\n" * 100, "payload": {}}).encode()
    (notification,) = read(body)
    assert notification.headers["trigger"] == "unreadable"


def test_an_invitee_updated_is_taken_although_calendly_sends_none() -> None:
    body = CREATED.replace(b"invitee.created", b"invitee.updated")
    assert "ignored" not in read(body)[0].headers


def test_what_postgres_cannot_keep_is_replaced_after_the_signature_is_checked() -> None:
    body = CREATED.replace(b"Planning call", b"Plan\\u0000ning \xff")
    (notification,) = read(body)
    assert notification.body is not None
    assert "\\u0000" not in notification.body
    assert "Plan\\ufffdning \ufffd" in notification.body
