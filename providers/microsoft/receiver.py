"""Graph's notifications: several items a request, each with its channel's secret."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qs
from uuid import UUID

import msgspec

from providers.errors import InvalidNotification
from providers.microsoft import resources
from providers.model import Notification, NotificationKind, Provider
from runtime.sealing import InvalidToken, Keyring

SUBSCRIPTION_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
WORD: Final = re.compile(r"[A-Za-z]{1,64}")
VALIDATION: Final = "validationToken"
# Opaque, a few hundred characters in practice; the limit keeps us from echoing books.
LONGEST_VALIDATION: Final = 4096

_decoder = msgspec.json.Decoder(resources.Notifications)


class MicrosoftReceiver:
    """Reads what Graph posts to a subscription's addresses."""

    def handshake(self, query: str) -> str | None:
        """Return what an address must answer to be believed; None: a real delivery.

        It is asked before a subscription is there, so whoever asks is answered.
        """
        # https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
        if VALIDATION not in query:
            return None
        # Decoded once, and not again: the token may hold what looks like an escape.
        token = next(iter(parse_qs(query).get(VALIDATION, ())), None)
        if token is None or len(token) > LONGEST_VALIDATION:
            return None
        return token

    def read(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        keyring: Keyring,
        now: datetime,
    ) -> list[Notification]:
        """Believe those items whose secret was made for a channel of ours.

        One request mixes subscriptions and tenants: a foreign item costs the others
        nothing. What says the same of one channel becomes one notification.
        """
        try:
            items = _decoder.decode(body).value
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            # Nothing in it can be verified, so a stranger made it.
            raise InvalidNotification("no items", 401) from None
        told: dict[tuple[UUID, str], Notification] = {}
        for item in items:
            notification = _read(item, keyring)
            if notification is not None and notification.channel_id is not None:
                reason = notification.headers.get("reason", "")
                told[notification.channel_id, reason] = notification
        if not told:
            raise InvalidNotification("forged token" if items else "no items", 401)
        return list(told.values())


def _read(item: resources.NotificationItem, keyring: Keyring) -> Notification | None:
    try:
        channel_id = keyring.verify_channel_token(item.client_state or "")
    except InvalidToken:
        return None
    if not SUBSCRIPTION_ID.fullmatch(item.subscription_id):
        return None
    event = item.lifecycle_event
    kind: NotificationKind = "change" if event is None else "lifecycle"
    words = {"resource_state": item.change_type, "reason": event}
    kept = {name: word for name, word in words.items() if word and WORD.fullmatch(word)}
    kept["resource_id"] = item.subscription_id
    expires_at = _expires_at(item.subscription_expiration_date_time or "")
    if expires_at is not None:
        kept["channel_expires_at"] = expires_at
    return Notification(Provider.MICROSOFT, kind, channel_id, None, kept, None)


@lru_cache(maxsize=8192)  # one value a subscription
def _expires_at(value: str) -> str | None:
    """Return the end of the subscription; None where there is none to be read."""
    try:
        moment = datetime.fromisoformat(value)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return None
