"""Broadcasts from the database: rows of realtime.messages, on their way to rooms."""

import asyncio
from collections import deque
from typing import Final, Protocol

from local_stack.gateway.frames import ENCODING_BINARY, ENCODING_JSON, UserPayload
from local_stack.gateway.pace import Pace
from local_stack.gateway.pgoutput import Change, Relation, Transaction
from local_stack.gateway.rooms import RoomName, Rooms, Said

SCHEMA: Final = "realtime"
TABLE: Final = "messages"
WAITING_BYTES: Final = 64 * 1024 * 1024


class Pausable(Protocol):
    """The stream, to those who cannot keep up with it."""

    def pause(self, holder: object) -> None: ...
    def resume(self, holder: object) -> None: ...


class Messages:
    """Says rows of realtime.messages in their rooms: at once, unless there are many."""

    def __init__(self, rooms: Rooms, pace: Pace, stream: Pausable):
        self._rooms = rooms
        self._pace = pace
        self._stream = stream
        self._waiting: deque[tuple[RoomName, UserPayload, str | None]] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()

    def take(self, transaction: Transaction) -> None:
        """Send a transaction's messages; never waits."""
        for change in transaction.changes:
            if change.kind != "INSERT" or not is_messages(change.relation):
                continue
            message = _read(change)
            if message is None:
                continue
            if self._waiting or self._pace.is_due:
                self._waiting.append(message)
                self._waiting_bytes += len(message[1].data)
                self._wake.set()
            else:
                self._say(*message)
        if self._waiting_bytes > WAITING_BYTES:
            self._stream.pause(self)

    async def run(self) -> None:
        """Send what had to wait, in its order, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if self._pace.is_due:
                    await self._pace.breathe()
                # taken out only now: what arrives meanwhile has to queue up behind it
                message = self._waiting.popleft()
                self._waiting_bytes -= len(message[1].data)
                self._say(*message)
                if self._waiting_bytes <= WAITING_BYTES // 2:
                    self._stream.resume(self)

    def _say(self, room: RoomName, user: UserPayload, message_id: str | None) -> None:
        self._rooms.say(room, Said(user, message_id=message_id))


def is_messages(relation: Relation) -> bool:
    """Tell realtime.messages, or one of its days, from other tables."""
    return relation.schema == SCHEMA and (
        relation.table == TABLE or relation.table.startswith(f"{TABLE}_")
    )


def _read(change: Change) -> tuple[RoomName, UserPayload, str | None] | None:
    """Read a row; None if it is no broadcast."""
    row = dict(zip(change.relation.columns, change.new or (), strict=True))
    topic, event = row.get("topic"), row.get("event")
    payload, data = row.get("payload"), row.get("binary_payload")
    if not isinstance(topic, str) or not isinstance(event, str):
        return None
    if isinstance(payload, str):
        user = UserPayload(event, ENCODING_JSON, payload.encode())
    elif isinstance(data, str):
        user = UserPayload(event, ENCODING_BINARY, bytes.fromhex(data[2:]))
    else:
        return None
    message_id = row.get("id")
    room = RoomName(topic, row.get("private") == "t")
    return room, user, message_id if isinstance(message_id, str) else None
