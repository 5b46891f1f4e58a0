"""Calendars that are watched, and the pushes that announce their changes."""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from bench.ground import connected
from sql import Queries

queries = Queries(Path(__file__).parent / "sql")

CALENDARS_EACH = 5  # of one connected account
PATH = "/webhooks/google"


@dataclass(frozen=True, slots=True)
class Channel:
    """A push channel of ours, and the calendar it watches."""

    id: UUID
    calendar_id: UUID


async def seed(connection: asyncpg.Connection, calendars: int) -> list[Channel]:
    """Make so many watched calendars, due again tomorrow; return their channels."""
    async with connection.transaction():
        await queries.calendars.seed(
            connection,
            connections=calendars // CALENDARS_EACH,
            calendars_each=CALENDARS_EACH,
        )
    await queries.calendars.forget_tasks(connection)
    await queries.calendars.polls(connection)
    await connection.execute("analyze")
    return [
        Channel(row["channel_id"], row["calendar_id"])
        async for row in queries.calendars.channels(connection)
    ]


async def connected_channels(url: str, calendars: int) -> list[Channel]:
    """Make calendars in a database of which only the address is known."""
    async with connected(url) as connection:
        return await seed(connection, calendars)


def push(channel: Channel, token: str) -> bytes:
    """Return a push as Google posts it: headers, and no body."""
    head = [
        f"POST {PATH} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: */*",
        "Accept-Encoding: gzip, deflate, br",
        "User-Agent: APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)",
        "Content-Type: application/json; utf-8",
        f"X-Goog-Channel-ID: {channel.id}",
        "X-Goog-Channel-Expiration: Sat, 28 Nov 2026 07:30:00 GMT",
        "X-Goog-Message-Number: 1",
        "X-Goog-Resource-ID: resource",
        "X-Goog-Resource-State: exists",
        "X-Goog-Resource-URI: https://www.googleapis.com/calendar/v3/calendars/a/events",
        f"X-Goog-Channel-Token: {token}",
        "Content-Length: 0",
    ]
    return "\r\n".join([*head, "", ""]).encode()
