"""A channel: one socket's membership of one room, and what it may do there."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from local_stack.gateway import frames
from local_stack.gateway.authorization import ReadRights
from local_stack.gateway.frames import Version
from local_stack.gateway.joins import Join
from local_stack.gateway.rooms import RoomName
from local_stack.gateway.tokens import Claims

CONFIRM_AT_LEAST_EVERY_S: Final = 3600.0


class Channel:
    """Sends to one socket under one topic."""

    def __init__(
        self,
        send: Callable[[bytes], None],
        version: Version,
        wire_topic: str,
        join_ref: str | None,
        join: Join,
        claims: Claims,
    ):
        self.send = send
        self.version = version
        self.wire_topic = wire_topic
        self.join_ref = join_ref
        self.join = join
        self.claims = claims
        self.room = RoomName(wire_topic.partition(":")[2], join.private)
        self.presence_key = join.presence_key
        self.rights: ReadRights | None = None
        self.may_write: dict[str, bool] = {}
        self.replayed: frozenset[str | None] = frozenset()
        self.closed = False
        self.trying_again: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def hears_presence(self) -> bool:
        return not self.room.private or bool(self.rights and self.rights.presence)

    def push(self, event: str, payload: object) -> None:
        """Send what belongs to this join, and carries its join_ref."""
        self.send(
            frames.push(
                self.version, self.wire_topic, event, payload, join_ref=self.join_ref
            )
        )

    def reply(
        self, ref: str | None, status: Literal["ok", "error"], response: object
    ) -> None:
        self.send(
            frames.reply(
                self.version,
                self.wire_topic,
                status,
                response,
                join_ref=self.join_ref,
                ref=ref,
            )
        )

    def system(
        self,
        status: Literal["ok", "error"],
        message: str,
        *,
        extension: Literal["system", "postgres_changes"] = "system",
    ) -> None:
        self.push(
            "system",
            {
                "message": message,
                "status": status,
                "extension": extension,
                "channel": self.room.topic,
            },
        )

    def say_closed(self) -> None:
        self.send(frames.end(self.version, self.wire_topic, self.join_ref))

    def say_failed(self) -> None:
        self.send(frames.end(self.version, self.wire_topic, self.join_ref, "phx_error"))

    def watch_expiry(self, expired: Callable[["Channel"], Any]) -> None:
        """Call `expired` when the token is no longer good."""
        self.forget_expiry()
        left_s = max(0.0, self.claims.expires_at_s - time.time())
        self._expiry = asyncio.get_running_loop().call_later(
            min(left_s, CONFIRM_AT_LEAST_EVERY_S), self._check_expiry, expired
        )

    def _check_expiry(self, expired: Callable[["Channel"], Any]) -> None:
        if self.claims.expires_at_s <= time.time():
            expired(self)
        else:
            self.watch_expiry(expired)

    def forget_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
