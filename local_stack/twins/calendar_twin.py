"""What the twins of calendar providers share: accounts, and their calendars."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from local_stack.twins.app import TwinApp
from runtime.clock import Clock

Behaviour = TypeVar("Behaviour", bound=msgspec.Struct)
Account_co = TypeVar("Account_co", covariant=True)
Calendar_co = TypeVar("Calendar_co", covariant=True)


class CalendarStore(Protocol):
    """What a twin knows, each thing by its name."""

    @property
    def accounts(self) -> Mapping[str, Any]: ...

    @property
    def calendars(self) -> Mapping[str, Any]: ...


class People(Protocol[Account_co, Calendar_co]):
    """Everybody who has an account at a twin."""

    def account(self, email: str, *, name: str | None, time_zone: str) -> Account_co:
        """Return an account; a new address makes one."""

    def calendar(self, calendar_id: str) -> Calendar_co:
        """Return a calendar, as its owner sees it."""


class CalendarTwin(TwinApp[Behaviour], Generic[Behaviour, Account_co, Calendar_co]):
    """A twin whose accounts have calendars."""

    store: CalendarStore
    people: People[Account_co, Calendar_co]

    def __init__(self, clock: Clock | None, behaviour: Behaviour) -> None:
        super().__init__(clock, behaviour)
        self._on_change: Callable[[], None] = lambda: None

    def account(
        self, email: str, *, name: str | None = None, time_zone: str = "Europe/Berlin"
    ) -> Account_co:
        """Return an account with its first calendar; a new address makes one."""
        return self.people.account(email, name=name, time_zone=time_zone)

    def calendar(self, calendar_id: str) -> Calendar_co:
        """Return a calendar, as its owner sees it."""
        return self.people.calendar(calendar_id)

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change of a calendar; it may come from any thread."""
        self._on_change = on_change
