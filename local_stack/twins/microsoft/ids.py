"""Names that Exchange gives: long, opaque, case-sensitive, and of two kinds.

The default id of an item changes when the item is moved; the immutable one does not.
An occurrence's ids are made from its series', and anew whenever the series is re-timed.
"""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from local_stack.twins.moments import When


@dataclass(frozen=True)
class Ids:
    """Both names of one item."""

    mutable: str
    immutable: str


def new_key() -> str:
    """Return what an item is known by inside the twin, whatever becomes of it."""
    return secrets.token_hex(12)


def ids_of(key: str, moves: int) -> Ids:
    """Name an item that was moved so many times."""
    return Ids(_name("AAMkAD", key, "m", moves), _name("AAkALg", key, "i"))


def occurrence_ids(key: str, moves: int, generation: int, original: When) -> Ids:
    """Name an occurrence."""
    at = _written(original)
    return Ids(
        _name("AAMkADocc", key, "m", moves, generation, at),
        _name("AAkALgocc", key, "i", generation, at),
    )


def ical_uid(key: str, original: When | None = None) -> str:
    """Name an event for everybody invited; each occurrence has another name."""
    day = b"\0" * 4 if original is None else _written(original)[:8].encode()
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    head = bytes.fromhex("040000008200E00074C5B7101A82E008")
    return (head + day + digest).hex().upper()


def change_key(number: int) -> str:
    """Name one state of an item."""
    return base64.b64encode(b"\x0f\0\0\0\x16\0\0\0" + number.to_bytes(8)).decode()


def etag(number: int) -> str:
    """Return a change key in the form of an etag."""
    return f'W/"{change_key(number)}"'


def _name(head: str, *parts: object) -> str:
    text = "\n".join(map(str, parts)).encode()
    tail = base64.b64encode(hashlib.blake2b(text, digest_size=30).digest()).decode()
    # Exchange's ids are base64 that is safe in a path, with a closing equals sign.
    return f"{head}{tail.replace('+', '_').replace('/', '-')}="


def _written(when: When) -> str:
    if isinstance(when, datetime):
        return f"{when.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{when:%Y%m%d}"
