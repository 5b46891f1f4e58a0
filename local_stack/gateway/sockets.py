"""A socket: its frames, read in order, and the channels it has joined."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import structlog

from local_stack.gateway import frames
from local_stack.gateway.channels import Channel
from local_stack.gateway.frames import Incoming, MalformedFrame, UserPayload, Version
from local_stack.gateway.joining import Joining
from local_stack.gateway.joins import JoinRefused
from local_stack.gateway.pace import Pace
from local_stack.gateway.rooms import PREFIX
from local_stack.gateway.tokens import Claims
from local_stack.gateway.wire import Connection

if TYPE_CHECKING:
    from local_stack.gateway.talking import Talking

INBOX_FRAMES: Final = 64  # past it, the socket is not read until some are done
GOING_AWAY: Final = 1001

log = structlog.get_logger()


class Socket:
    """One client. A frame is done before the next is looked at."""

    def __init__(
        self,
        connection: Connection,
        version: Version,
        claims: Claims,
        headers: Mapping[str, str],
        joining: Joining,
        talking: "Talking",
        pace: Pace,
        sockets: "set[Socket]",
    ):
        self.connection = connection
        self.version = version
        self.claims = claims
        self.headers = headers
        self.channels: dict[str, Channel] = {}
        self.heard_at_s = asyncio.get_running_loop().time()
        self._joining = joining
        self._talking = talking
        self._pace = pace
        self._inbox: deque[Incoming] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._gone = False
        self._sockets = sockets
        sockets.add(self)

    # -- frames in

    def received(self, data: bytes, *, binary: bool) -> None:
        self.heard_at_s = asyncio.get_running_loop().time()
        try:
            read = frames.read_binary if binary else frames.read_text
            self._inbox.append(read(self.version, data))
        except MalformedFrame:
            return  # the real server logs it and goes on
        if len(self._inbox) >= INBOX_FRAMES:
            self.connection.transport.pause_reading()
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._inbox and not self._gone:
                await self._handle(self._inbox.popleft())
                if self._pace.is_due:
                    await self._pace.breathe()
                if len(self._inbox) == INBOX_FRAMES // 2:
                    self.connection.transport.resume_reading()
        finally:
            self._worker = None
            if not self.connection.transport.is_closing():
                self.connection.transport.resume_reading()

    async def _handle(self, frame: Incoming) -> None:
        try:
            await self._route(frame)
        except Exception:
            log.exception("gateway.frame_failed", kind=frame.event)
            channel = self.channels.get(frame.topic)
            if channel is not None:
                self._forget(channel)
                channel.say_failed()

    async def _route(self, frame: Incoming) -> None:
        channel = self.channels.get(frame.topic)
        if frame.event == "phx_join" and frame.topic.startswith(PREFIX):
            await self._join(frame, channel)
        elif frame.topic == "phoenix" and frame.event == "heartbeat":
            self._answer(frame, "ok", {}, join_ref=frame.join_ref)
        elif frame.event == "phx_leave":
            self._leave(frame, channel)
        elif channel is None:
            self._answer(frame, "error", {"reason": "unmatched topic"}, join_ref=None)
        elif frame.event == "broadcast":
            await self._talking.broadcast(self, channel, frame)
        elif isinstance(frame.payload, UserPayload):
            pass
        elif frame.event == "presence":
            await self._talking.presence(self, channel, frame.ref, _decoded(frame))
        elif frame.event == "access_token":
            payload = _decoded(frame)
            if isinstance(payload, dict):
                await self._joining.refresh(self, channel, payload.get("access_token"))

    # -- joining and leaving

    async def _join(self, frame: Incoming, before: Channel | None) -> None:
        try:
            channel, response = await self._joining.open(self, frame, _decoded(frame))
        except JoinRefused as error:
            reason = {"reason": str(error)}
            self._answer(frame, "error", reason, join_ref=frame.join_ref)
            return
        if self._gone:
            return
        if before is not None:
            self._forget(before)
        self.channels[frame.topic] = channel
        channel.reply(frame.ref, "ok", response)
        if before is not None:
            before.say_closed()
        await self._joining.complete(self, channel)

    def _leave(self, frame: Incoming, channel: Channel | None) -> None:
        if channel is None:
            self._answer(frame, "ok", {}, join_ref=frame.join_ref)
        elif frame.join_ref in {None, channel.join_ref}:
            channel.reply(frame.ref, "ok", {})
            channel.say_closed()
            self._forget(channel)
        # else: a late leave of an earlier join of this topic

    def close_channel(self, channel: Channel, message: str) -> None:
        """End a channel from our side, and say why."""
        if self.channels.get(channel.wire_topic) is channel:
            self._forget(channel)
            channel.system("error", message)
            channel.say_closed()

    def _forget(self, channel: Channel) -> None:
        if self.channels.get(channel.wire_topic) is channel:
            del self.channels[channel.wire_topic]
        self._joining.undo(channel)

    def lost(self) -> None:
        self._gone = True
        self._sockets.discard(self)
        self._inbox.clear()
        for channel in list(self.channels.values()):
            self._forget(channel)
        if self.connection.dropped_as_slow:
            log.warning("gateway.slow_client_closed")

    # -- frames out

    def send(self, frame: bytes) -> None:
        self.connection.send(frame)

    def _answer(
        self,
        frame: Incoming,
        status: Literal["ok", "error"],
        response: object,
        *,
        join_ref: str | None,
    ) -> None:
        self.send(
            frames.reply(
                self.version,
                frame.topic,
                status,
                response,
                join_ref=join_ref,
                ref=frame.ref,
            )
        )


def _decoded(frame: Incoming) -> Any:
    if isinstance(frame.payload, UserPayload):
        return None
    return msgspec.json.decode(frame.payload)
