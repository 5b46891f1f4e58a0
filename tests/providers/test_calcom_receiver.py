import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from providers.calcom.receiver import CalcomReceiver
from providers.errors import CustomTemplate, InvalidNotification
from providers.model import Notification, Provider
from providers.signatures import hex_digest
from runtime.sealing import Keyring
from tests.support.booking_bodies import CalcomLife

NOW = datetime(2026, 5, 20, 8, tzinfo=UTC)
KEYRING = Keyring.parse(Keyring.generate())
CHANNEL = UUID("c7f0a9d2-1b64-4e0e-9d3a-5b1e2f6a7c88")
SECRET = "cal-secret-demo"
HEADER = "x-cal-signature-256"
CREATED = CalcomLife().book()[0].encode()


def read(
    body: bytes = CREATED,
    signature: str | None = None,
    *,
    key: str = SECRET,
    channel_id: UUID | None = None,
) -> list[Notification]:
    given = hex_digest(key, body) if signature is None else signature
    return CalcomReceiver(SECRET).read(
        {HEADER: given}, body, keyring=KEYRING, now=NOW, channel_id=channel_id
    )


def refusal(*args: Any, **more: Any) -> InvalidNotification:
    with pytest.raises(InvalidNotification) as refused:
        read(*args, **more)
    return refused.value


def test_a_delivery_made_by_hand_is_routed_by_its_organizer() -> None:
    assert read() == [
        Notification(
            Provider.CALCOM,
            "booking",
            None,
            "host@example.com",
            {"trigger": "BOOKING_CREATED"},
            CREATED.decode(),
        )
    ]


def test_a_delivery_of_a_channel_of_ours_is_signed_with_its_own_key() -> None:
    key = KEYRING.signing_keys(CHANNEL)[0]
    (notification,) = read(key=key, channel_id=CHANNEL)
    assert (notification.channel_id, notification.routing_key) == (CHANNEL, None)
    assert refusal(key=key, channel_id=uuid4()).status == 401
    assert refusal(key=key).status == 401


def test_the_shared_secret_counts_for_a_channel_too() -> None:
    assert read(channel_id=CHANNEL)


@pytest.mark.parametrize(
    ("flat", "organizer"), [(True, "host@example.com"), (False, "host@example.com")]
)
def test_a_meeting_that_took_place_is_routed_in_both_forms(
    flat: bool, organizer: str
) -> None:
    body = CalcomLife().take_place(flat=flat)[0].encode()
    (notification,) = read(body)
    assert notification.routing_key == organizer
    assert notification.headers == {"trigger": "MEETING_STARTED"}


def test_one_that_names_no_organizer_has_an_empty_routing_key() -> None:
    (notification,) = read(CalcomLife().mark()[0].encode())
    assert notification.routing_key == ""


def test_a_ping_is_answered_and_stored_nowhere() -> None:
    body = (
        '{"triggerEvent":"PING","createdAt":"2026-03-02T09:15:00.000Z",'
        '"payload":{"title":"Zoë"}}'
    ).encode()
    published = "756a3293d65892caa62a3dd8d417da17a4797b3a9821c086d5f071c97b9b35a7"
    assert read(body, published) == []


@pytest.mark.parametrize(
    "signature",
    ["", "no-secret-provided", "00", "é", f"sha256={hex_digest(SECRET, CREATED)}"],
)
def test_what_is_not_signed_rightly_is_401(signature: str) -> None:
    assert refusal(signature=signature).status == 401


def test_a_signature_over_a_reserialized_body_is_401() -> None:
    other = json.dumps(json.loads(CREATED), indent=1).encode()
    assert refusal(CREATED, hex_digest(SECRET, other)).status == 401


def test_without_a_secret_nothing_is_believed() -> None:
    with pytest.raises(InvalidNotification, match="wrong signature"):
        CalcomReceiver(None).read(
            {HEADER: hex_digest("", CREATED)}, CREATED, keyring=KEYRING, now=NOW
        )


@pytest.mark.parametrize(
    "body",
    [
        b"false",
        b"title=30+min&when=now",
        b'{"title":"30 min","when":"now"}',
        b"{}",
        b'{"triggerEvent":7}',
        b"",
    ],
    ids=["false", "form", "no trigger", "empty", "number", "nothing"],
)
def test_a_custom_template_is_recognised_and_refused(body: bytes) -> None:
    refused = refusal(body)
    assert isinstance(refused, CustomTemplate)
    assert refused.status == 400


def test_a_template_is_only_complained_of_to_who_has_the_secret() -> None:
    assert refusal(b"false", "00").status == 401


@pytest.mark.parametrize("trigger", ["OOO_CREATED", "FORM_SUBMITTED", "BRAND_NEW"])
def test_what_is_no_booking_is_kept_as_ignored(trigger: str) -> None:
    body = json.dumps({"triggerEvent": trigger, "payload": {}}).encode()
    (notification,) = read(body)
    assert notification.headers["trigger"] == trigger
    assert notification.headers["ignored"]


@pytest.mark.parametrize("flat", [True, False])
def test_a_one_time_password_is_not_kept(flat: bool) -> None:
    row = {"uid": "u1", "oneTimePassword": "8c1f-secret"}
    document = row if flat else {"payload": row}
    body = json.dumps({"triggerEvent": "BOOKING_CREATED", **document}).encode()
    (notification,) = read(body)
    assert notification.body is not None
    assert "8c1f-secret" not in notification.body
    assert "u1" in notification.body


def test_what_postgres_cannot_keep_is_replaced_after_the_signature_is_checked() -> None:
    body = CREATED.replace(b"30 min", b"30\\u0000 \xff")
    (notification,) = read(body)
    assert notification.body is not None
    assert "30\\ufffd \ufffd" in notification.body


def test_a_thousand_attendees_are_read() -> None:
    document = json.loads(CREATED)
    document["payload"]["attendees"] *= 1000
    assert read(json.dumps(document).encode())
