"""Channels as Google knows them, and what it sends on them."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

import httpx2

from runtime.sealing import Keyring
from runtime.settings import ReceiverSettings, read
from tests.support.sessions import Connection

PATH = "/webhooks/google"
KEYS = Keyring.generate("test")
KEYRING = Keyring.parse(KEYS)


@dataclass
class Channel:
    """A channel as Google knows it."""

    id: UUID
    calendar_id: UUID
    resource_id: str = "Qk3vN8sYp1wLr0TzE6dHbU2mX9A"
    keyring: Keyring = field(default=KEYRING)

    def headers(self, *, state: str = "exists", number: int = 2) -> dict[str, str]:
        """What a push on this channel carries."""
        return {
            "content-type": "application/json; utf-8",
            "user-agent": "APIs-Google; (+https://developers.google.com/)",
            "x-goog-channel-id": str(self.id),
            "x-goog-channel-token": self.keyring.channel_token(self.id),
            "x-goog-channel-expiration": "Sat, 28 Nov 2026 07:30:00 GMT",
            "x-goog-resource-id": self.resource_id,
            "x-goog-resource-uri": "https://www.googleapis.com/calendar/v3/x",
            "x-goog-resource-state": state,
            "x-goog-message-number": str(number),
        }


async def make_channel(
    database: Connection, calendar_id: UUID, *, status: str = "active"
) -> Channel:
    channel_id = uuid4()
    await database.execute(
        """
        insert into public.calendar_watch_channels
          (id, calendar_id, organization_id, status)
        select $1, calendar.id, calendar.organization_id, $3
        from public.calendars as calendar
        where calendar.id = $2
        """,
        channel_id,
        calendar_id,
        status,
    )
    return Channel(channel_id, calendar_id)


def make_settings(database_url: str, **more: str) -> ReceiverSettings:
    environ = {"DATABASE_URL": database_url, "SUPACAL_SECRET_KEYS": KEYS}
    return read(ReceiverSettings, environ | {k.upper(): v for k, v in more.items()})


def error_of(response: httpx2.Response) -> str:
    """The code of a refusal, which always has the same form."""
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"code", "message"}
    return str(error["code"])
