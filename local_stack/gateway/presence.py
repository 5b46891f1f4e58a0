"""Presence: who is in a room, under which key, with which state."""

import base64
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_stack.gateway import frames
from local_stack.gateway.rooms import RoomName, Rooms

if TYPE_CHECKING:
    from local_stack.gateway.channels import Channel

Meta = dict[str, Any]


@dataclass
class _Tracked:
    key: str
    state: dict[str, Any]
    meta: Meta = field(default_factory=dict)


def _reference() -> str:
    return base64.b64encode(secrets.token_bytes(12)).decode()


class Presence:
    """What every channel tracks; a change is told to the whole room."""

    def __init__(self, rooms: Rooms):
        self._rooms = rooms
        self._tracked: dict[RoomName, dict[Channel, _Tracked]] = {}

    def state(self, name: RoomName) -> dict[str, Any]:
        """Return the payload of presence_state."""
        state: dict[str, Any] = {}
        for tracked in self._tracked.get(name, {}).values():
            state.setdefault(tracked.key, {"metas": []})["metas"].append(tracked.meta)
        return state

    def track(self, channel: "Channel", state: dict[str, Any]) -> None:
        """Show a channel with a state, or with another one than so far."""
        room = self._tracked.setdefault(channel.room, {})
        before = room.get(channel)
        if before is not None and before.state == state:
            return
        meta = {**state, "phx_ref": _reference()}
        leaves: dict[str, Any] = {}
        if before is not None:
            meta["phx_ref_prev"] = before.meta["phx_ref"]
            leaves = {before.key: {"metas": [before.meta]}}
        room[channel] = _Tracked(channel.presence_key, state, meta)
        joins = {channel.presence_key: {"metas": [meta]}}
        self._tell(channel.room, joins, leaves)

    def untrack(self, channel: "Channel") -> None:
        """Show a channel no longer; nothing happens if it was not shown."""
        room = self._tracked.get(channel.room, {})
        tracked = room.pop(channel, None)
        if not room:
            self._tracked.pop(channel.room, None)
        if tracked is not None:
            self._tell(channel.room, {}, {tracked.key: {"metas": [tracked.meta]}})

    def _tell(self, name: RoomName, joins: dict[str, Any], leaves: Meta) -> None:
        payload = {"joins": joins, "leaves": leaves}
        made: dict[frames.Version, bytes] = {}
        for channel in self._rooms.members(name):
            if not channel.hears_presence:
                continue
            version = channel.version
            if version not in made:
                topic = channel.wire_topic
                made[version] = frames.push(version, topic, "presence_diff", payload)
            channel.send(made[version])
