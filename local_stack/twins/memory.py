"""What every twin promises to whoever keeps it over a restart."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Protocol, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

from local_stack.twins.moments import When, known_zone, zone_of


class Unreadable(ValueError):
    """The document was written by a twin of another form, or by none."""


class Memory(msgspec.Struct):
    """What a twin knows, in a form that has a number."""

    form: int


Kept = TypeVar("Kept", bound=msgspec.Struct)
Numbered = TypeVar("Numbered", bound=Memory)


class Twin(Protocol):
    """An ASGI app that can be carried over a restart, and tells when it changed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""

    def load(self, document: bytes) -> None:
        """Take over what another twin knew.

        Raises:
            Unreadable: nothing was taken over.
        """

    def forget_receivers(self) -> None:
        """End every channel: who was pushed to is no longer there."""

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change; it may come from any thread."""


def decoded(document: bytes, kind: type[Kept]) -> Kept:
    """Read what a twin kept.

    Raises:
        Unreadable: it is something else.
    """
    try:
        return msgspec.json.decode(document, type=kind)
    except msgspec.MsgspecError as problem:
        raise Unreadable(f"this is no twin's memory: {problem}") from problem


def remembered(document: bytes, kind: type[Numbered], *, form: int) -> Numbered:
    """Read what a twin kept in this form.

    Raises:
        Unreadable: it is something else, or of another form.
    """
    memory = decoded(document, kind)
    if memory.form != form:
        raise Unreadable(f"a twin's memory of form {memory.form}, not {form}")
    return memory


def written(when: When) -> str:
    """Write a moment down so that its zone lives on: 2026-11-21T09:00:00[Asia/Tokyo].

    The offset is that of the moment; a date is only a date.
    """
    if not isinstance(when, datetime):
        return when.isoformat()
    return f"{when.isoformat()}[{zone_of(when)}]"


def read(text: str) -> When:
    """Read what `written` wrote."""
    if "T" not in text:
        return date.fromisoformat(text)
    moment, _, zone = text.rstrip("]").partition("[")
    return datetime.fromisoformat(moment).astimezone(known_zone(zone))
