"""A frontend that notes when it hears of a meeting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from realtime import AsyncRealtimeClient
from realtime.types import BroadcastPayload, RealtimeChannelConfig

from local_stack.tokens import anon_key

PRIVATE: RealtimeChannelConfig = {
    "private": True,
    "broadcast": {"ack": False, "self": False},
    "presence": {"key": "", "enabled": False},
}


class Frontend:
    """Hears what the organization's topic says of meetings."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[datetime]] = {}

    def expect(self, title: str) -> "asyncio.Future[datetime]":
        """Return when a meeting of this title is told of."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[title] = waiting
        return waiting

    def hear(self, message: BroadcastPayload) -> None:
        """Take in a broadcast."""
        at = datetime.now(UTC)
        payload = message["payload"]
        if payload["table"] != "meetings" or not payload.get("record"):
            return
        waiting = self._waiting.pop(payload["record"]["title"], None)
        if waiting is not None:
            waiting.set_result(at)


@asynccontextmanager
async def listening(url: str, organization: UUID, jwt: str) -> AsyncIterator[Frontend]:
    """Join the organization's private topic while the block runs."""
    frontend = Frontend()
    client = AsyncRealtimeClient(f"{url}/realtime/v1", anon_key())
    await client.connect()
    await client.set_auth(jwt)
    channel = client.channel(f"org:{organization}", {"config": PRIVATE})
    for event in ("INSERT", "UPDATE"):
        channel.on_broadcast(event, frontend.hear)
    await channel.subscribe()
    try:
        yield frontend
    finally:
        await client.close()
