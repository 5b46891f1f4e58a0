"""Google's push notifications: headers only, no signature, one token a channel."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

from providers.errors import InvalidNotification
from providers.google.adopted import NONE, AdoptedChannels, token_hash
from providers.model import Notification, NotificationKind, Provider
from runtime.sealing import TOKEN_VERSION, InvalidToken, Keyring

OURS = f"{TOKEN_VERSION}."
# What a resource id can look like; the length keeps the disk from being filled.
RESOURCE_ID = re.compile(r"[\x21-\x7e]{1,256}")
STATE = re.compile(r"[A-Za-z_]{1,32}")
NUMBER = re.compile(r"[0-9]{1,18}")
# As in `Sat, 28 Nov 2026 07:30:00 GMT`.
HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"


class GoogleReceiver:
    """Reads what Google posts to a channel's address."""

    def __init__(self, adopted: AdoptedChannels = NONE) -> None:
        self._adopted = adopted

    def read(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        keyring: Keyring,
        now: datetime,
    ) -> list[Notification]:
        """Believe a delivery whose token was made for its channel, or adopted with it.

        Whether that channel is still ours is asked where it is stored.
        """
        token = headers.get("x-goog-channel-token")
        if not token:
            raise InvalidNotification("no token", 401)
        if token.startswith(OURS):
            channel_id = _verified_channel(headers, token, keyring)
        else:
            channel_id = self._adopted_channel(headers, token, now)
        state = _header(headers, "x-goog-resource-state", STATE)
        kept = {
            "resource_id": _header(headers, "x-goog-resource-id", RESOURCE_ID),
            "resource_state": state,
            "message_number": _header(headers, "x-goog-message-number", NUMBER),
        }
        expires_at = _expires_at(headers.get("x-goog-channel-expiration", ""))
        if expires_at is not None:
            kept["channel_expires_at"] = expires_at
        # Google may add states, and says not to fail on them: look, whatever it is.
        kind: NotificationKind = "hello" if state == "sync" else "change"
        return [Notification(Provider.GOOGLE, kind, channel_id, None, kept, None)]

    def _adopted_channel(
        self, headers: Mapping[str, str], token: str, now: datetime
    ) -> UUID:
        named = headers.get("x-goog-channel-id", "")
        adopted = self._adopted.get((token_hash(token), named))
        if adopted is None:
            raise InvalidNotification("forged token", 401)
        if adopted.expires_at <= now:
            raise InvalidNotification("token of a channel that ended", 401)
        return adopted.channel_id


def _verified_channel(headers: Mapping[str, str], token: str, keyring: Keyring) -> UUID:
    try:
        channel_id = keyring.verify_channel_token(token)
    except InvalidToken:
        raise InvalidNotification("forged token", 401) from None
    # Before it stands the prefix of the deployment that had the channel made.
    if not headers.get("x-goog-channel-id", "").endswith(str(channel_id)):
        raise InvalidNotification("token of another channel", 401)
    return channel_id


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    value = headers.get(name, "")
    if not form.fullmatch(value):
        raise InvalidNotification(f"{name} is missing or malformed", 400)
    return value


@lru_cache(maxsize=8192)  # one value a channel, and strptime takes longer than the rest
def _expires_at(value: str) -> str | None:
    """Return the end of the channel's life; None where there is none to be read."""
    try:
        return datetime.strptime(value, HTTP_DATE).replace(tzinfo=UTC).isoformat()
    except ValueError:
        return None
