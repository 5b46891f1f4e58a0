"""A bare client, for what Supabase's own would never do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.gateway.replay import SECRET, read_binary
from tests.support.eventually import eventually


def make_key(role: str = "anon", *, life_s: float = 3600, **claims: Any) -> str:
    """A token of the local project."""
    claims |= {"role": role, "exp": time.time() + life_s}
    return jwt.encode(claims, SECRET, "HS256")


class Client:
    """Speaks vsn 2.0.0 and keeps what it hears."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[Any] = []
        self.heard_something = asyncio.Event()
        self.closed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self.socket:
                if isinstance(message, bytes):
                    self.frames.append(read_binary(message))
                else:
                    self.frames.append(json.loads(message))
                self.heard_something.set()
        except ConnectionClosed:
            pass
        self.closed.set()

    async def send(self, ref: str, topic: str, event: str, payload: Any) -> None:
        await self.socket.send(json.dumps(["1", ref, topic, event, payload]))

    async def join(self, topic: str, **config: Any) -> Any:
        """Join, wait for the reply and, with bindings, for the rows to come."""
        await self.send("1", f"realtime:{topic}", "phx_join", {"config": config})
        answer = await self.reply("1", f"realtime:{topic}")
        if config.get("postgres_changes"):
            await eventually(lambda: self.heard(f"realtime:{topic}", "system"))
        return answer

    async def reply(self, ref: str, topic: str) -> Any:
        def found() -> Any:
            return next(
                (
                    frame[4]
                    for frame in self.frames
                    if isinstance(frame, list)
                    and frame[1:4] == [ref, topic, "phx_reply"]
                ),
                None,
            )

        return await eventually(found)

    async def is_alive(self) -> bool:
        """Whether a heartbeat is answered."""
        ref = str(time.monotonic_ns())
        await self.send(ref, "phoenix", "heartbeat", {})
        answer = await self.reply(ref, "phoenix")
        return bool(answer["status"] == "ok")

    def heard(self, topic: str, event: str) -> list[Any]:
        return [
            frame[4]
            for frame in self.frames
            if isinstance(frame, list) and frame[2:4] == [topic, event]
        ]

    def broadcasts(self) -> list[Any]:
        """Payloads of kind 4 frames."""
        return [
            frame["$binary"]["payload"] for frame in self.frames if "$binary" in frame
        ]

    def records(self, topic: str) -> list[Any]:
        changes = self.heard(f"realtime:{topic}", "postgres_changes")
        return [change["data"].get("record") for change in changes]


def address(url: str, key: str) -> str:
    base = url.replace("http", "ws", 1)
    return f"{base}/realtime/v1/websocket?vsn=2.0.0&apikey={key}"


@asynccontextmanager
async def client(url: str, key: str | None = None) -> AsyncIterator[Client]:
    """A connected client."""
    async with connect(
        address(url, key or make_key()),
        max_size=None,
        compression=None,
        proxy=None,
        ping_interval=None,
    ) as socket:
        yield Client(socket)
