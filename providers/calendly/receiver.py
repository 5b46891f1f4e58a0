"""Calendly's webhooks: signed over a time and the body, byte for byte.

https://developer.calendly.com/api-docs/webhook-signatures
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from providers.calendly import resources
from providers.calendly.bookings import TRIGGERS
from providers.errors import InvalidNotification, StaleNotification
from providers.model import Notification, Provider
from providers.reading import storable, text
from providers.signatures import hex_digest, matches_any
from providers.triggers import kept_headers
from runtime.sealing import Keyring

HEADER: Final = "calendly-webhook-signature"
# Calendly's own samples say three minutes, but a retry may repeat the first time.
TOLERANCE: Final = timedelta(seconds=300)
LONGEST_TIME: Final = 11  # digits: until the year 5138

_delivery_decoder = msgspec.json.Decoder(resources.Delivery)
_invitee_decoder = msgspec.json.Decoder(resources.Invitee)


class CalendlyReceiver:
    """Reads what Calendly posts to a webhook's address.

    The shared key is the one that Calendly gave to the OAuth app.
    """

    def __init__(
        self, shared_key: str | None = None, *, tolerance: timedelta = TOLERANCE
    ) -> None:
        self._shared_keys = [shared_key] if shared_key else []
        self._tolerance = tolerance

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
        signed_at = _verified(headers, body, [*derived, *self._shared_keys])
        content = storable(body)
        try:
            delivery = _delivery_decoder.decode(content)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidNotification("no event", 400) from None
        routing_key = None if channel_id else _organizer(delivery)
        if abs(now - signed_at) > self._tolerance:
            raise StaleNotification(Provider.CALENDLY, channel_id, routing_key)
        kept = kept_headers(delivery.event, known=TRIGGERS)
        kept["signed_at"] = signed_at.isoformat()
        return [
            Notification(
                Provider.CALENDLY,
                "booking",
                channel_id,
                routing_key,
                kept,
                content.decode(),
            )
        ]


def _verified(headers: Mapping[str, str], body: bytes, keys: Iterable[str]) -> datetime:
    """Return when the delivery was signed, by one who has a key."""
    header = headers.get(HEADER)
    if not header:
        raise InvalidNotification("no signature", 401)
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    signatures = [value for name, _, value in parts if name == "v1"]
    time = times[0] if len(times) == 1 else ""
    if not _is_time(time) or not signatures:
        raise InvalidNotification("malformed signature", 401)
    expected = [hex_digest(key, time.encode() + b"." + body) for key in keys]
    if not any(matches_any(signature, expected) for signature in signatures):
        raise InvalidNotification("wrong signature", 401)
    return datetime.fromtimestamp(int(time), UTC)


def _is_time(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= LONGEST_TIME


def _organizer(delivery: resources.Delivery) -> str:
    """Return the host's URI, else the subscription's owner; empty where none is."""
    try:
        event = _invitee_decoder.decode(delivery.payload).scheduled_event
    except (msgspec.DecodeError, RecursionError):
        event = None
    hosts = (event and event.event_memberships) or []
    named = (text(host.user) for host in hosts)
    return (
        next((user for user in named if user), None) or text(delivery.created_by) or ""
    )
