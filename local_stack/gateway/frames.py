"""Frames on the wire: vsn 1.0.0 objects, vsn 2.0.0 arrays, and the two binary kinds.

Frames to clients are built as finished WebSocket frames, so that one broadcast is
encoded once for each version and the same bytes go to every socket.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from websockets.frames import Frame, Opcode

Version = Literal[1, 2]
USER_BROADCAST_PUSH: Final = 3  # client -> server
USER_BROADCAST: Final = 4  # server -> client
ENCODING_BINARY: Final = 0
ENCODING_JSON: Final = 1
_SHORT: Final = 255  # lengths inside a binary frame are one byte

_encode = msgspec.json.Encoder().encode


class MalformedFrame(ValueError):
    """Not a frame of this version: the server ignores it."""


@dataclass(frozen=True, slots=True)
class UserPayload:
    """What a kind 3 frame carries; the event is the user's own."""

    event: str
    encoding: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """A frame from a client; `payload` is raw JSON, or a user broadcast."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: msgspec.Raw | UserPayload


class _VersionOne(msgspec.Struct):
    topic: str
    event: str
    payload: msgspec.Raw
    ref: Any
    join_ref: Any = None


_read_one = msgspec.json.Decoder(_VersionOne).decode
_read_two = msgspec.json.Decoder(tuple[Any, Any, str, str, msgspec.Raw]).decode


def read_text(version: Version, data: bytes) -> Incoming:
    """Read a text frame; MalformedFrame where it is none."""
    try:
        if version == 1:
            one = _read_one(data)
            return Incoming(
                one.join_ref, one.ref, one.topic, one.event, _own(one.payload)
            )
        join_ref, ref, topic, event, payload = _read_two(data)
        return Incoming(join_ref, ref, topic, event, _own(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedFrame(str(error)) from error


def _own(raw: msgspec.Raw) -> msgspec.Raw:
    """Copy the slice, so that a kept payload does not keep its whole frame alive."""
    return raw.copy()


def read_binary(version: Version, data: bytes) -> Incoming:
    """Read a kind 3 frame: seven bytes of lengths, five strings, the payload."""
    if version == 1 or len(data) < 7 or data[0] != USER_BROADCAST_PUSH:
        raise MalformedFrame("not a user broadcast")
    encoding, position, strings = data[6], 7, []
    for length in data[1:6]:
        strings.append(data[position : position + length])
        position += length
    if position > len(data) or encoding not in {ENCODING_BINARY, ENCODING_JSON}:
        raise MalformedFrame("a user broadcast cut short")
    try:
        join_ref, ref, topic, event, _metadata = [part.decode() for part in strings]
    except UnicodeDecodeError as error:
        raise MalformedFrame(str(error)) from error
    payload = UserPayload(event, encoding, _checked(encoding, data[position:]))
    return Incoming(join_ref or None, ref or None, topic, "broadcast", payload)


def _checked(encoding: int, data: bytes) -> bytes:
    """A payload that says it is JSON is put into text frames: it has to be JSON."""
    if encoding == ENCODING_JSON:
        try:
            msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedFrame(str(error)) from error
    return data


def text_frame(data: bytes) -> bytes:
    """Wrap JSON into a finished WebSocket frame."""
    return Frame(Opcode.TEXT, data).serialize(mask=False)


def push(
    version: Version,
    topic: str,
    event: str,
    payload: object,
    *,
    join_ref: object = None,
) -> bytes:
    """Build a frame that answers nothing; vsn 1.0.0 does not carry the join_ref."""
    if version == 1:
        body: object = {"ref": None, "event": event, "topic": topic, "payload": payload}
    else:
        body = [join_ref, None, topic, event, payload]
    return text_frame(_encode(body))


def reply(
    version: Version,
    topic: str,
    status: Literal["ok", "error"],
    response: object,
    *,
    join_ref: object,
    ref: object,
) -> bytes:
    """Build the answer to a frame of the client."""
    payload = {"status": status, "response": response}
    if version == 1:
        body: object = {
            "ref": ref,
            "event": "phx_reply",
            "topic": topic,
            "payload": payload,
        }
    else:
        body = [join_ref, ref, topic, "phx_reply", payload]
    return text_frame(_encode(body))


def end(
    version: Version,
    topic: str,
    join_ref: object,
    event: Literal["phx_close", "phx_error"] = "phx_close",
) -> bytes:
    """Build the frame that ends a channel; after an error, clients join again."""
    if version == 1:
        body: object = {
            "ref": join_ref,
            "event": event,
            "topic": topic,
            "payload": {},
        }
    else:
        body = [join_ref, join_ref, topic, event, {}]
    return text_frame(_encode(body))


def user_broadcast(topic: str, user: UserPayload, metadata: bytes = b"") -> bytes:
    """Build a kind 4 frame; MalformedFrame if a name exceeds its length byte."""
    names = [topic.encode(), user.event.encode(), metadata]
    if any(len(name) > _SHORT for name in names):
        raise MalformedFrame("topic, event and metadata have 255 bytes at most")
    head = struct.pack("!5B", USER_BROADCAST, *map(len, names), user.encoding)
    data = head + b"".join(names) + user.data
    return Frame(Opcode.BINARY, data).serialize(mask=False)
