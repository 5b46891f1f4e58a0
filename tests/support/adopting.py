"""Channels that an older system made, and taking them over."""

from datetime import datetime
from uuid import UUID

from tests.support.sessions import Connection

OLD_ID = "calendar-sync-0815"
OLD_TOKEN = "connection=42"
OLD_RESOURCE = "Qk3vN8sYp1wLr0TzE6dHbU2mX9A"


async def take_over(
    database: Connection,
    calendar_id: UUID,
    *,
    expires_at: datetime | None = None,
    channel_id: str | None = OLD_ID,
    token: str | None = OLD_TOKEN,
    resource_id: str | None = OLD_RESOURCE,
) -> UUID:
    """Take one over as an operator does; it lives for a week unless told otherwise."""
    taken: UUID = await database.fetchval(
        "select sync.take_over_channel("
        "$1, $2, $3, $4, coalesce($5, sync.clock() + interval '7 days'))",
        calendar_id,
        channel_id,
        resource_id,
        token,
        expires_at,
    )
    return taken
