"""Cal.com's webhooks: signed over the body alone, so a replay looks like the original.

https://cal.com/docs/developing/guides/automation/webhooks
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from providers.calcom import resources
from providers.calcom.bookings import TRIGGERS
from providers.errors import CustomTemplate, InvalidNotification
from providers.model import Notification, Provider
from providers.reading import storable, text
from providers.signatures import hex_digest, matches_any
from providers.triggers import kept_headers
from runtime.sealing import Keyring

HEADER: Final = "x-cal-signature-256"
# What stands there where a webhook has no secret: anybody can write that.
UNSIGNED: Final = "no-secret-provided"
PING: Final = "PING"
# Opens a door, and is of no use to us: it is not kept.
PASSWORD: Final = b"oneTimePassword"

_envelope_decoder = msgspec.json.Decoder(resources.Envelope)
_payload_decoder = msgspec.json.Decoder(resources.Payload)


class CalcomReceiver:
    """Reads what Cal.com posts to a webhook's address.

    The shared secret is that of webhooks made by hand.
    """

    def __init__(self, shared_secret: str | None = None) -> None:
        self._shared_secrets = [shared_secret] if shared_secret else []

    def read(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        keyring: Keyring,
        now: datetime,
        channel_id: UUID | None = None,
    ) -> list[Notification]:
        derived = [] if channel_id is None else keyring.signing_keys(channel_id)
        _verify(headers, body, [*derived, *self._shared_secrets])
        content = storable(body)
        try:
            delivery = _envelope_decoder.decode(content)
        except (msgspec.DecodeError, RecursionError):
            # Every body of Cal.com's own has a trigger. What a template makes has none,
            # or is no JSON: a form, or the word "false".
            raise CustomTemplate from None
        if delivery.trigger_event == PING:
            return []
        kept = kept_headers(delivery.trigger_event, known=TRIGGERS)
        return [
            Notification(
                Provider.CALCOM,
                "booking",
                channel_id,
                None if channel_id else _organizer(delivery, content),
                kept,
                _without_password(content).decode(),
            )
        ]


def _verify(headers: Mapping[str, str], body: bytes, secrets: list[str]) -> None:
    signature = headers.get(HEADER)
    if not signature or signature == UNSIGNED:
        raise InvalidNotification("no signature", 401)
    expected = [hex_digest(secret, body) for secret in secrets]
    if not matches_any(signature, expected):
        raise InvalidNotification("wrong signature", 401)


def _organizer(delivery: resources.Envelope, content: bytes) -> str:
    """Return the host's address; empty where none is told, as of a no-show."""
    try:
        payload = _payload_decoder.decode(delivery.payload or content)
    except (msgspec.DecodeError, RecursionError):
        return ""
    known = (
        payload.organizer and payload.organizer.email,
        payload.user and payload.user.email,
        payload.user_primary_email,
    )
    told = (text(address) for address in known)
    return next((address.lower() for address in told if address), "")


def _without_password(content: bytes) -> bytes:
    if PASSWORD not in content:
        return content
    name = PASSWORD.decode()
    document: dict[str, Any] = msgspec.json.decode(content)
    for part in (document, document.get("payload")):
        if isinstance(part, dict):
            part.pop(name, None)
    return msgspec.json.encode(document)
