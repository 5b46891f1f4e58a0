"""Rooms: who hears what is said on a topic.

A public and a private room may share a name, and are two rooms all the same.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from local_stack.gateway import frames
from local_stack.gateway.frames import ENCODING_JSON, UserPayload, Version

if TYPE_CHECKING:
    from local_stack.gateway.channels import Channel

PREFIX: Final = "realtime:"  # of a topic on the wire


class RoomName(NamedTuple):
    """A topic without its prefix, and which of its two rooms."""

    topic: str
    private: bool


class Said:
    """One broadcast; encoded once for each version, whoever listens.

    A text broadcast is passed on as it came. One with a payload of its own is a kind 4
    frame to vsn 2.0.0 and JSON to vsn 1.0.0, which never gets bytes.
    """

    def __init__(
        self,
        payload: msgspec.Raw | UserPayload,
        *,
        message_id: str | None = None,
    ):
        self._payload = payload
        self.message_id = message_id
        self._frames: dict[Version, bytes | None] = {}

    def frame(self, version: Version, topic: str) -> bytes | None:
        """Return the frame for a topic on the wire, the same in every call."""
        if version not in self._frames:
            self._frames[version] = self._encode(version, topic)
        return self._frames[version]

    def _encode(self, version: Version, topic: str) -> bytes | None:
        payload = self._payload
        if isinstance(payload, msgspec.Raw):
            return frames.push(version, topic, "broadcast", payload)
        if version == 2:
            try:
                return frames.user_broadcast(topic, payload, self._metadata())
            except frames.MalformedFrame:
                pass  # a name too long for its length byte: as text, then
        if payload.encoding != ENCODING_JSON:
            return None
        body: dict[str, object] = {
            "type": "broadcast",
            "event": payload.event,
            "payload": msgspec.Raw(payload.data),
        }
        if self.message_id is not None:
            body["meta"] = {"id": self.message_id}
        return frames.push(version, topic, "broadcast", body)

    def _metadata(self) -> bytes:
        if self.message_id is None:
            return b""
        return msgspec.json.encode({"id": self.message_id})


class Rooms:
    """All rooms that have somebody in them."""

    def __init__(self) -> None:
        self._members: dict[RoomName, dict[Channel, None]] = {}

    def enter(self, channel: "Channel") -> None:
        self._members.setdefault(channel.room, {})[channel] = None

    def leave(self, channel: "Channel") -> None:
        members = self._members.get(channel.room, {})
        members.pop(channel, None)
        if not members:
            self._members.pop(channel.room, None)

    def members(self, name: RoomName) -> Iterable["Channel"]:
        # a member cut off while it is written to leaves the room: hence the copy
        return list(self._members.get(name, ()))

    def say(
        self, name: RoomName, said: Said, *, without: "Channel | None" = None
    ) -> None:
        """Send a broadcast to a room, at once."""
        if name not in self._members:
            return
        for channel in self.members(name):
            if channel is without or said.message_id in channel.replayed:
                continue
            frame = said.frame(channel.version, channel.wire_topic)
            if frame is not None:
                channel.send(frame)
