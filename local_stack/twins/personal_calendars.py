"""What a person does in a calendar, whoever provides it.

Tests and demos do it through these objects; each provider says what its writes are.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

from local_stack.twins.moments import When, known_zone, later, length
from runtime.clock import Clock

Json: TypeAlias = dict[str, Any]

AN_HOUR = timedelta(hours=1)
A_DAY = timedelta(days=1)


class CalendarStore(Protocol):
    """Where calendars are kept."""

    clock: Clock

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep others out while several things change together."""


class PersonalEvent(Protocol):
    """An event on a calendar; it shows what is there now."""

    @property
    def start(self) -> When: ...

    @property
    def end(self) -> When: ...


Event = TypeVar("Event", bound=PersonalEvent)


class PersonalCalendar(ABC, Generic[Event]):
    """A calendar in the hands of its owner."""

    title_field: ClassVar[str]

    @property
    @abstractmethod
    def store(self) -> CalendarStore: ...

    @property
    @abstractmethod
    def time_zone(self) -> str: ...

    @abstractmethod
    def occurrence(self, series: Event, original: When) -> Event:
        """Return the occurrence that has, or had, this start."""

    @abstractmethod
    def change(self, event: Event, **fields: Any) -> Event:
        """Change any fields, in the API's own names."""

    @abstractmethod
    def cancel(self, event: Event) -> None:
        """Delete an event, a series or an occurrence."""

    @abstractmethod
    def _imported(self, raw: bytes | str, around: datetime | None) -> list[Event]:
        """Import an .ics file."""

    @abstractmethod
    def _written(self, start: When, end: When, *, replacing: bool) -> Json:
        """Write times for the API; replacing clears what the other kind would leave."""

    def import_ics(
        self, source: Path | bytes | str, *, into_present: bool = False
    ) -> list[Event]:
        """Import an .ics file: a path, or its content as bytes or text.

        With into_present everything moves by whole weeks, so that it lies around now.
        """
        raw = source.read_bytes() if isinstance(source, Path) else source
        now = self.store.clock.now() if into_present else None
        with self.store.exclusive():
            return self._imported(raw, now)

    def rename(self, event: Event, title: str) -> Event:
        """Give an event, a series or an occurrence another title."""
        return self.change(event, **{self.title_field: title})

    def move(
        self, event: Event, to: When, *, end: When | timedelta | None = None
    ) -> Event:
        """Drag an event elsewhere; it stays as long as it was."""
        if end is None:
            end = length(event.start, event.end)
        return self.change(event, **self._times(to, end, replacing=True))

    def move_occurrence(self, series: Event, original: When, to: When) -> Event:
        """Drag one occurrence elsewhere."""
        return self.move(self.occurrence(series, original), to)

    def rename_occurrence(self, series: Event, original: When, title: str) -> Event:
        """Give one occurrence another title."""
        return self.rename(self.occurrence(series, original), title)

    def cancel_occurrence(self, series: Event, original: When) -> None:
        """Delete one occurrence."""
        self.cancel(self.occurrence(series, original))

    def _times(
        self, start: When, end: When | timedelta | None, *, replacing: bool = False
    ) -> Json:
        """Write a start and an end, an hour or a day later where none is given."""
        start = self._zoned(start)
        if end is None:
            end = AN_HOUR if isinstance(start, datetime) else A_DAY
        end = later(start, end) if isinstance(end, timedelta) else self._zoned(end)
        return self._written(start, end, replacing=replacing)

    def _zoned(self, when: When) -> When:
        """Give a time that has only an offset the calendar's named zone."""
        if isinstance(when, datetime) and not hasattr(when.tzinfo, "key"):
            return when.astimezone(known_zone(self.time_zone))
        return when
