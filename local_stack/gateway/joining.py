"""Joining: from a token to a channel that hears what it may, and a new token later."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from local_stack.gateway import frames
from local_stack.gateway.authorization import (
    Authorization,
    MissingPartition,
    NoDatabase,
    ReadRights,
    Visitor,
)
from local_stack.gateway.bindings import BindingRefused, NotNow, binding_id
from local_stack.gateway.channels import Channel
from local_stack.gateway.frames import ENCODING_BINARY, Incoming, UserPayload
from local_stack.gateway.joins import Join, JoinRefused, read_join
from local_stack.gateway.presence import Presence
from local_stack.gateway.rooms import PREFIX, Rooms
from local_stack.gateway.subscriptions import Subscriptions
from local_stack.gateway.tokens import (
    Claims,
    SignatureRefused,
    TokenRefused,
    Tokens,
)

if TYPE_CHECKING:
    import asyncpg

    from local_stack.gateway.sockets import Socket

TRY_AGAIN_S: Final = 5.0
NO_DATABASE: Final = "Realtime was unable to connect to the project database"


class Joining:
    """Opens channels and keeps them up to date with their tokens."""

    def __init__(
        self,
        tokens: Tokens,
        authorization: Authorization,
        rooms: Rooms,
        presence: Presence,
        subscriptions: Subscriptions,
        *,
        channels_per_socket: int,
    ):
        self._tokens = tokens
        self._authorization = authorization
        self._rooms = rooms
        self._presence = presence
        self._subscriptions = subscriptions
        self._channels_per_socket = channels_per_socket

    async def open(
        self, socket: "Socket", frame: Incoming, payload: Any
    ) -> tuple[Channel, object]:
        """Make a channel and the reply to its join; JoinRefused has the reason."""
        topic = frame.topic.removeprefix(PREFIX)
        if not topic:
            raise JoinRefused("TopicNameRequired", "You must provide a topic name")
        join = read_join(payload, topic)
        self._limit_channels(socket, frame.topic)
        channel = Channel(
            socket.send,
            socket.version,
            frame.topic,
            frame.join_ref,
            join,
            self._claims(socket, join),
        )
        if join.private:
            channel.rights = await self._rights(socket, channel)
            if not channel.rights.broadcast:
                raise JoinRefused("Unauthorized", _may_not_read(topic))
        bindings = [{**sent, "id": binding_id(sent)} for sent in join.bindings]
        return channel, {"postgres_changes": bindings}

    async def complete(self, socket: "Socket", channel: Channel) -> None:
        """Let a channel hear, after its reply: the past, the present, its rows."""
        join = channel.join
        past = await self._replay(channel) if join.replay else []
        self._rooms.enter(channel)
        for frame in past:
            channel.send(frame)
        channel.watch_expiry(lambda late: self._expire(socket, late))
        if join.wants_replication_notice:
            await self._subscriptions.stream_is_live()
            channel.system("ok", "Replication connection established")
        if join.bindings:
            await self._subscribe(channel)
        if join.presence and channel.hears_presence:
            channel.push("presence_state", self._presence.state(channel.room))

    def undo(self, channel: Channel) -> None:
        """Take a channel out of everything."""
        channel.closed = True
        channel.forget_expiry()
        if channel.trying_again is not None:
            channel.trying_again.cancel()
        self._subscriptions.remove(channel)
        self._rooms.leave(channel)
        self._presence.untrack(channel)

    async def refresh(self, socket: "Socket", channel: Channel, token: object) -> None:
        """Go on with a new token, or close the channel if it is not good enough."""
        if not isinstance(token, str) or token.startswith("sb_"):
            return
        if token == channel.claims.token:
            return
        try:
            channel.claims = self._tokens.verify(token)
            channel.may_write.clear()
            if channel.room.private:
                await self._renew_rights(socket, channel)
        except SignatureRefused as error:
            socket.close_channel(channel, error.refresh_message)
        except TokenRefused as error:
            socket.close_channel(channel, error.message)
        except JoinRefused as error:
            socket.close_channel(channel, str(error).partition(": ")[2])
        else:
            channel.watch_expiry(lambda late: self._expire(socket, late))
            if channel.join.bindings:
                await self._subscribe(channel)

    async def _renew_rights(self, socket: "Socket", channel: Channel) -> None:
        before = channel.rights
        channel.rights = await self._rights(socket, channel)
        if not channel.rights.broadcast:
            raise JoinRefused("Unauthorized", _may_not_read(channel.room.topic))
        if before and before.presence and not channel.rights.presence:
            self._presence.untrack(channel)

    def _expire(self, socket: "Socket", channel: Channel) -> None:
        socket.close_channel(channel, "Token has expired 0 seconds ago")

    def _limit_channels(self, socket: "Socket", topic: str) -> None:
        others = len(socket.channels) - (topic in socket.channels)
        if others >= self._channels_per_socket:
            raise JoinRefused("ChannelRateLimitReached", "Too many channels")

    def _claims(self, socket: "Socket", join: Join) -> Claims:
        try:
            return self._tokens.verify(join.token or socket.claims.token)
        except TokenRefused as error:
            raise JoinRefused(error.code, error.message) from error

    async def _rights(self, socket: "Socket", channel: Channel) -> ReadRights:
        visitor = Visitor(channel.claims, socket.headers)
        try:
            return await self._authorization.may_read(
                visitor, channel.room.topic, presence=channel.join.presence
            )
        except NoDatabase as error:
            raise JoinRefused("UnableToConnectToProject", NO_DATABASE) from error
        except MissingPartition as error:
            raise JoinRefused(
                "MissingPartition",
                "Realtime was unable to find the expected messages partition",
            ) from error

    async def _subscribe(self, channel: Channel) -> None:
        try:
            await self._subscriptions.add(channel)
        except BindingRefused as error:
            channel.system("error", str(error), extension="postgres_changes")
            if isinstance(error, NotNow) and not channel.closed:
                channel.trying_again = asyncio.get_running_loop().create_task(
                    self._subscribe_later(channel)
                )
        else:
            channel.system(
                "ok", "Subscribed to PostgreSQL", extension="postgres_changes"
            )

    async def _subscribe_later(self, channel: Channel) -> None:
        await asyncio.sleep(TRY_AGAIN_S)
        channel.trying_again = None
        await self._subscribe(channel)

    async def _replay(self, channel: Channel) -> list[bytes]:
        replay = channel.join.replay
        if replay is None:
            return []
        try:
            rows = await self._authorization.replay(
                channel.room.topic, since_ms=replay.since_ms, limit=replay.limit
            )
        except NoDatabase:
            return []
        channel.replayed = frozenset(row["id"] for row in rows)
        made = (_replayed(channel, row) for row in rows)
        return [frame for frame in made if frame is not None]


def _replayed(channel: Channel, row: "asyncpg.Record") -> bytes | None:
    meta = {"id": row["id"], "replayed": True}
    if row["binary_payload"] is not None:
        if channel.version == 1:
            return None
        user = UserPayload(row["event"], ENCODING_BINARY, row["binary_payload"])
        metadata = msgspec.json.encode(meta)
        return frames.user_broadcast(channel.wire_topic, user, metadata)
    payload = {
        "type": "broadcast",
        "event": row["event"],
        "payload": msgspec.Raw(row["payload"].encode()) if row["payload"] else None,
        "meta": meta,
    }
    return frames.push(
        channel.version,
        channel.wire_topic,
        "broadcast",
        payload,
        join_ref=channel.join_ref,
    )


def _may_not_read(topic: str) -> str:
    return f"You do not have permissions to read from this Channel topic: {topic}"
