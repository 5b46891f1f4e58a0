"""What every twin promises to whoever keeps it over a restart."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Protocol

from starlette.types import Receive, Scope, Send

from local_stack.twins.moments import When, known_zone, zone_of


class Unreadable(ValueError):
    """The document was written by a twin of another form, or by none."""


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
