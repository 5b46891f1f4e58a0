"""One request as the operations see it, and what goes back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from local_stack.twins.guarded import Answer
from local_stack.twins.microsoft.oauth import Grant
from local_stack.twins.microsoft.presentation import Preferences
from local_stack.twins.microsoft.state import Json


@dataclass(frozen=True)
class Call:
    """One request, read and authenticated."""

    grant: Grant
    root: str  # of the twin, as this client calls it
    url: str  # without the query
    path: dict[str, str]
    query: dict[str, str]
    wishes: Preferences
    if_match: str | None
    body: Json

    @property
    def email(self) -> str:
        return self.grant.email

    @property
    def calendar_id(self) -> str | None:
        return self.path.get("calendar_id")


Run: TypeAlias = Callable[[Call], Answer | Awaitable[Answer]]


@dataclass(frozen=True)
class Operation:
    """One method of the API: where it is, what it is called, what it needs."""

    name: str
    method: str
    path: str
    scopes: tuple[str, ...]
    run: Run


def told(value: Any, *, status: int = 200) -> Answer:
    """Answer JSON."""
    return Answer(msgspec.json.encode(value), status)
