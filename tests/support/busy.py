"""Somebody who does anything at all in a calendar, as chance tells them to.

A deed is a public method that three numbers complete, here or in the class of one
provider; what there is nothing to do it to is not done.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from typing import ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar

from local_stack.twins.moments import When
from local_stack.twins.personal_calendars import PersonalEvent
from tests.support.events import ZONE

RULES = (
    "FREQ=WEEKLY",
    "FREQ=DAILY;COUNT=9",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;COUNT=6",
    "FREQ=MONTHLY;BYMONTHDAY=31",
    "FREQ=DAILY;INTERVAL=3",
)
TITLES = ("Visit", "Choir", "Räumung", "", "Check-up 🦷")
# By these words in its name a deed is known for one that needs, or makes, a series.
OF_SERIES = ("series", "retime", "rule", "trim", "occurrence", "recur")

Numbers: TypeAlias = tuple[int, int, int]
Response: TypeAlias = Literal["accepted", "declined", "tentative"]
RESPONSES: tuple[Response, ...] = ("accepted", "declined", "tentative")


class AnyEvent(PersonalEvent, Protocol):
    """An event, a series or an occurrence, whoever provides the calendar."""

    @property
    def original_start(self) -> When: ...


Event = TypeVar("Event", bound=AnyEvent)
Thing = TypeVar("Thing")


class AnyCalendar(Protocol[Event]):
    """What everybody can do in their calendar, whoever provides it."""

    def add(
        self,
        title: str,
        start: When,
        end: When | timedelta | None = None,
        *,
        recurrence: str | None = None,
        attendees: Iterable[str] = (),
    ) -> Event: ...

    def rename(self, event: Event, title: str) -> Event: ...

    def move(self, event: Event, to: When) -> Event: ...

    def cancel(self, event: Event) -> None: ...

    def touch(self, event: Event) -> None: ...

    def answer(self, event: Event, response: Response) -> object: ...

    def occurrences(self, series: Event, *, count: int) -> list[Event]: ...

    def retime_series(
        self,
        series: Event,
        to: time | When | None = None,
        *,
        recurrence: str | None = None,
    ) -> Event: ...

    def end_series(self, series: Event, before: When) -> Event: ...

    def trim_and_follow(self, series: Event, first: When, *, to: When) -> Event: ...


class AnyAccount(Protocol[Event]):
    """Somebody else with a calendar."""

    @property
    def primary(self) -> AnyCalendar[Event]: ...


class Busy(ABC, Generic[Event]):
    """One person with one calendar, and a friend who invites them.

    `deeds` names what they can do, `series_deeds` that part of it which is of series.
    """

    deeds: ClassVar[tuple[str, ...]]
    series_deeds: ClassVar[tuple[str, ...]]

    calendar: AnyCalendar[Event]
    friend: AnyAccount[Event]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        named = [name for name, _ in inspect.getmembers(cls, inspect.isfunction)]
        cls.deeds = tuple(n for n in named if not n.startswith("_") and n != "do")
        cls.series_deeds = tuple(
            deed for deed in cls.deeds if any(word in deed for word in OF_SERIES)
        )

    def do(self, deed: str, numbers: Numbers) -> str:
        """Do one of the deeds; returns its name, in parentheses where it was refused.

        That is for who reads a failure.
        """
        return deed if self._is_let(deed, numbers) else f"({deed})"

    # Singles.

    def add(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_time(a, b), timedelta(minutes=30 * (1 + c % 5)))

    def add_all_day(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_day(a), a_day(a) + timedelta(days=1 + b % 3))

    def rename(self, a: int, b: int, _: int) -> None:
        if event := one_of(self._singles(), a):
            self.calendar.rename(event, a_title(b))

    def move(self, a: int, b: int, c: int) -> None:
        if event := one_of(self._singles(), a):
            self.calendar.move(event, like(event.start, b, c))

    def cancel(self, a: int, _: int, __: int) -> None:
        if event := one_of(self._singles(), a):
            self.calendar.cancel(event)

    def make_it_recur(self, a: int, b: int, _: int) -> None:
        if event := one_of(self._singles(), a):
            self.calendar.retime_series(event, recurrence=a_rule(b))

    def touch(self, a: int, _: int, __: int) -> None:
        if event := one_of([*self._singles(), *self._series()], a):
            self.calendar.touch(event)

    # Series.

    def add_series(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_time(a, b), recurrence=a_rule(c))

    def add_all_day_series(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_day(a), recurrence=a_rule(b))

    def rename_series(self, a: int, b: int, _: int) -> None:
        if series := one_of(self._series(), a):
            self.calendar.rename(series, a_title(b))

    def retime_to_an_hour(self, a: int, b: int, _: int) -> None:
        timed = [one for one in self._series() if isinstance(one.start, datetime)]
        if series := one_of(timed, a):
            self.calendar.retime_series(series, time(7 + b % 12, 15 * (b % 4)))

    def retime_to_a_day(self, a: int, b: int, _: int) -> None:
        if series := one_of(self._series(), a):
            to = series.start + timedelta(days=b % 11 - 5)
            self.calendar.retime_series(series, to)

    def change_rule(self, a: int, b: int, _: int) -> None:
        if series := one_of(self._series(), a):
            self.calendar.retime_series(series, recurrence=a_rule(b))

    def cancel_series(self, a: int, b: int, _: int) -> None:
        if b % 3 == 0 and (series := one_of(self._series(), a)):
            self.calendar.cancel(series)

    def end_series(self, a: int, b: int, _: int) -> None:
        if found := self._occurrence(a, 1 + b):
            self.calendar.end_series(found[0], found[1].original_start)

    def trim_and_follow(self, a: int, b: int, c: int) -> None:
        if found := self._occurrence(a, 1 + b):
            series, first = found[0], found[1].original_start
            to = _later(first, days=c % 3, hours=c % 2)
            self.calendar.trim_and_follow(series, first, to=to)

    def move_occurrence(self, a: int, b: int, c: int) -> None:
        if found := self._occurrence(a, b):
            was = found[1].original_start
            to = _later(was, days=c % 15 - 7, hours=c % 5)
            self.calendar.move(found[1], to)

    def rename_occurrence(self, a: int, b: int, c: int) -> None:
        if found := self._occurrence(a, b):
            self.calendar.rename(found[1], a_title(c))

    def cancel_occurrence(self, a: int, b: int, _: int) -> None:
        if found := self._occurrence(a, b):
            self.calendar.cancel(found[1])

    # With a friend.

    def is_invited(self, a: int, b: int, c: int) -> None:
        rule = a_rule(c) if c % 2 else None
        self.friend.primary.add(
            a_title(c), a_time(a, b), recurrence=rule, attendees=[self._address()]
        )

    def answer(self, a: int, b: int, _: int) -> None:
        if event := one_of(self._invitations(), a):
            self.calendar.answer(event, RESPONSES[b % len(RESPONSES)])

    # What each provider has in its own way.

    def _is_let(self, deed: str, numbers: Numbers) -> bool:
        """Do it, and tell whether the provider let them."""
        getattr(self, deed)(*numbers)
        return True

    @abstractmethod
    def _address(self) -> str:
        """Return where an invitation to this calendar goes."""

    @abstractmethod
    def _singles(self) -> list[Event]:
        """Return the events they organize that do not recur."""

    @abstractmethod
    def _series(self) -> list[Event]:
        """Return the series they organize."""

    @abstractmethod
    def _invitations(self) -> list[Event]:
        """Return what the friend organizes."""

    def _occurrence(self, a: int, b: int) -> tuple[Event, Event] | None:
        """Return a series and one of its occurrences."""
        if series := one_of(self._series(), a):
            occurrence = one_of(self.calendar.occurrences(series, count=12), b)
            return None if occurrence is None else (series, occurrence)
        return None


def one_of(things: Sequence[Thing], number: int) -> Thing | None:
    return things[number % len(things)] if things else None


def a_day(number: int) -> date:
    today = datetime.now(ZONE).date()
    return today + timedelta(days=number % 70 - 10)


def a_time(day: int, hour: int) -> datetime:
    on = a_day(day)
    return datetime(on.year, on.month, on.day, 7 + hour % 12, 30, tzinfo=ZONE)


def like(when: When, day: int, hour: int) -> When:
    """Return a time for what had one, a day for what took days."""
    return a_time(day, hour) if isinstance(when, datetime) else a_day(day)


def a_rule(number: int) -> str:
    return RULES[number % len(RULES)]


def a_title(number: int) -> str:
    return TITLES[number % len(TITLES)]


def _later(when: When, *, days: int, hours: int) -> When:
    """Move a time by days and hours, a day by days only."""
    if not isinstance(when, datetime):
        hours = 0
    return when + timedelta(days=days, hours=hours)
