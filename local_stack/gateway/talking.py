"""What joined clients say: broadcasts and presence."""

from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from local_stack.gateway.authorization import (
    Authorization,
    Extension,
    MissingPartition,
    NoDatabase,
    Visitor,
)
from local_stack.gateway.channels import Channel
from local_stack.gateway.frames import Incoming, UserPayload
from local_stack.gateway.presence import Presence
from local_stack.gateway.rooms import Rooms, Said

if TYPE_CHECKING:
    from local_stack.gateway.sockets import Socket

log = structlog.get_logger()


class Talking:
    """Passes on what clients send, if they may."""

    def __init__(
        self,
        authorization: Authorization,
        rooms: Rooms,
        presence: Presence,
        *,
        payload_bytes: int,
    ):
        self._authorization = authorization
        self._rooms = rooms
        self._presence = presence
        self._payload_bytes = payload_bytes

    async def broadcast(
        self, socket: "Socket", channel: Channel, frame: Incoming
    ) -> None:
        """Pass a broadcast on; one that may not be sent vanishes without a word."""
        if not await self._may_write(socket, channel, "broadcast"):
            return
        join = channel.join
        if _size(frame.payload) > self._payload_bytes:
            if join.ack:
                channel.reply(frame.ref, "error", "payload_size_exceeded")
            return
        said = Said(frame.payload)
        itself = None if join.hears_itself else channel
        self._rooms.say(channel.room, said, without=itself)
        if join.ack:
            channel.reply(frame.ref, "ok", {})

    async def presence(
        self, socket: "Socket", channel: Channel, ref: str | None, payload: Any
    ) -> None:
        """Track or untrack a client."""
        event = payload.get("event") if isinstance(payload, dict) else None
        if event is None:
            channel.reply(ref, "ok", {})
            return
        event = event.lower() if isinstance(event, str) else ""
        if event == "untrack":
            channel.reply(ref, "ok", {})
            self._presence.untrack(channel)
        elif event == "track":
            await self._track(socket, channel, ref, payload.get("payload", {}))
        else:
            channel.reply(ref, "error", {})

    async def _track(
        self, socket: "Socket", channel: Channel, ref: str | None, state: Any
    ) -> None:
        if not await self._may_write(socket, channel, "presence"):
            channel.reply(ref, "error", {})
        elif not isinstance(state, dict):
            reason = "Presence track payload must be a map"
            channel.reply(ref, "error", {"reason": reason})
        else:
            channel.reply(ref, "ok", {})
            self._presence.track(channel, state)

    async def _may_write(
        self, socket: "Socket", channel: Channel, extension: Extension
    ) -> bool:
        if not channel.room.private:
            return True
        if extension not in channel.may_write:
            visitor = Visitor(channel.claims, socket.headers)
            try:
                allowed = await self._authorization.may_write(
                    visitor, channel.room.topic, extension
                )
            except (NoDatabase, MissingPartition):
                log.warning("gateway.policies_unreachable")
                return False
            channel.may_write[extension] = allowed
        return channel.may_write[extension]


def _size(payload: msgspec.Raw | UserPayload) -> int:
    if isinstance(payload, UserPayload):
        return len(payload.data)
    return len(memoryview(payload))
