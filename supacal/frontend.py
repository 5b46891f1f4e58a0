"""A frontend, as supabase-py makes one: it flips a switch and listens to Realtime."""

from datetime import UTC, datetime
from uuid import UUID

import httpx
from realtime.types import BroadcastPayload, RealtimeChannelConfig
from supabase.lib.client_options import AsyncClientOptions

from local_stack.facts import Facts, User
from supabase import AsyncClient, acreate_client

PRIVATE: RealtimeChannelConfig = {
    "private": True,
    "broadcast": {"ack": False, "self": False},
    "presence": {"key": "", "enabled": False},
}
MEETING_EVENTS = ("INSERT", "UPDATE", "DELETE", "BULK")


class Frontend:
    """A signed-in user's app."""

    def __init__(self, facts: Facts, user: User) -> None:
        self._facts = facts
        self._user = user
        self._client: AsyncClient | None = None
        # One of the client's own could not be closed.
        self._http = httpx.AsyncClient()
        self._heard: dict[UUID, datetime] = {}

    async def connect(self) -> None:
        """Sign in, and listen to what the organization may hear."""
        options = AsyncClientOptions(
            headers={"Authorization": f"Bearer {self._user.jwt}"},
            httpx_client=self._http,
        )
        self._client = await acreate_client(
            self._facts.supabase_url, self._facts.anon_key, options
        )
        await self._client.realtime.set_auth(self._user.jwt)
        channel = self._client.channel(
            f"org:{self._user.organization}",
            {"config": PRIVATE},
        )
        for event in MEETING_EVENTS:
            channel.on_broadcast(event, self._on_message)
        await channel.subscribe()

    async def switch_on(self) -> bool:
        """Switch the calendars' sync on; return whether there was one still off."""
        if self._client is None:
            raise RuntimeError("connect first")
        calendars = self._client.table("calendars")
        change = calendars.update({"sync_enabled": True}).eq("sync_enabled", False)
        return bool((await change.execute()).data)

    async def heard_all(
        self, meetings: set[UUID], *, since: datetime
    ) -> datetime | None:
        """When the last of these meetings was heard of; None while one is missing."""
        times = [
            at
            for meeting in meetings
            if (at := self._heard.get(meeting)) and at >= since
        ]
        return max(times) if times and len(times) == len(meetings) else None

    async def close(self) -> None:
        """Leave."""
        if self._client is not None:
            await self._client.remove_all_channels()
            await self._client.realtime.close()
        await self._http.aclose()

    def _on_message(self, message: BroadcastPayload) -> None:
        at = datetime.now(UTC)
        payload = message["payload"]
        if payload["table"] != "meetings":
            return
        keys = payload.get("ids") or [payload["record"]["id"]]
        for key in keys:
            self._heard[UUID(key)] = at
