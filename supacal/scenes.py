"""What a person does in Google Calendar and in Outlook during the tour."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from local_stack.twins import microsoft
from local_stack.twins.google import Calendar, Event
from supacal.stages import Stage

AHEAD = timedelta(days=120)
FEWEST_OCCURRENCES = 3
WEEKLY = "RRULE:FREQ=WEEKLY;COUNT=20"
NEW_TITLE = "Renamed in Google Calendar"

Row = Mapping[str, Any]
StageOf = Callable[[str], Stage]


@dataclass(frozen=True)
class Scene:
    """A change, which meetings it is about, and how they must look afterwards."""

    title: str
    stage: Stage
    act: Callable[[], object]
    concerns: Callable[[Row], bool]
    check: Callable[[Row], bool]
    makes_meetings: bool = False
    # The calendar whose events the meetings are found by, if not that of the stage.
    known_by: UUID | None = None

    @property
    def calendar_id(self) -> UUID:
        """The calendar whose events the meetings are found by."""
        return self.known_by or self.stage.calendar_id


@dataclass(frozen=True)
class Cast:
    """The single event and the series that the scenes are played with."""

    single: Event
    series: Event

    @classmethod
    def choose(cls, calendars: Sequence[Calendar], now: datetime) -> "Cast":
        """Find them in the calendars; what there is none of is added."""
        upcoming = [
            event
            for calendar in calendars
            for event in calendar.events(now + timedelta(hours=1), now + AHEAD)
            if isinstance(event.start, datetime)
        ]
        singles = (one for one in upcoming if "recurringEventId" not in one.body)
        return cls(
            next(singles, None) or _added(calendars[-1], now),
            _fullest(upcoming) or _added(calendars[-1], now, recurrence=WEEKLY),
        )

    def scenes(self, stage_of: StageOf) -> Iterator[Scene]:
        """Yield the scenes in order; each begins where the one before has led."""
        yield from self._with_the_single(stage_of(self.single.calendar.id))
        yield from self._with_the_series(stage_of(self.series.calendar.id))

    def _with_the_single(self, stage: Stage) -> Iterator[Scene]:
        calendar, event = self.single.calendar, self.single
        moved_to = _start(event) + timedelta(hours=3)

        def concerns(row: Row) -> bool:
            return bool(row["provider_event_id"] == event.id)

        yield Scene(
            "An event is moved by three hours in Google Calendar",
            stage,
            lambda: calendar.move(event, moved_to),
            concerns,
            lambda meeting: meeting["starts_at"] == moved_to,
        )
        yield Scene(
            "It is renamed",
            stage,
            lambda: calendar.rename(event, NEW_TITLE),
            concerns,
            lambda meeting: meeting["title"] == NEW_TITLE,
        )
        yield Scene(
            "It is cancelled",
            stage,
            lambda: calendar.cancel(event),
            concerns,
            lambda meeting: meeting["status"] == "cancelled",
        )

    def _with_the_series(self, stage: Stage) -> Iterator[Scene]:
        calendar, series = self.series.calendar, self.series
        zone = ZoneInfo(calendar.series_zone(series))
        later = (_start(series) + timedelta(hours=1)).astimezone(zone).time()

        def is_later(meeting: Row) -> bool:
            return bool(meeting["starts_at"].astimezone(zone).time() == later)

        yield Scene(
            f"A whole series is re-timed to {later:%H:%M}",
            stage,
            lambda: calendar.retime_series(series, later),
            lambda row: row["series_provider_id"] == series.id,
            is_later,
        )
        occurrence = self._next_occurrence()
        original = occurrence.original_start
        moved_to = _start(occurrence) + timedelta(days=1, hours=2)
        yield Scene(
            "One occurrence of it is moved to the next day",
            stage,
            lambda: calendar.move_occurrence(series, original, moved_to),
            lambda row: row["provider_event_id"] == occurrence.id,
            lambda meeting: meeting["starts_at"] == moved_to,
        )

    def _next_occurrence(self) -> Event:
        calendar = self.series.calendar
        now = datetime.now(UTC)
        return next(
            event
            for event in calendar.events(now + timedelta(hours=1), now + AHEAD)
            if event.body.get("recurringEventId") == self.series.id
        )


def in_outlook(
    calendar: microsoft.Calendar, stage: Stage, now: datetime
) -> Iterator[Scene]:
    """Yield what is done in Outlook: an event is made there, and moved."""
    start = (now + timedelta(days=3)).replace(minute=0, second=0, microsecond=0)
    moved_to = start + timedelta(hours=4)
    made: list[microsoft.Event] = []

    def concerns(row: Row) -> bool:
        return bool(made and row["provider_event_id"] == made[0].id)

    yield Scene(
        "An event is made in Outlook",
        stage,
        lambda: made.append(calendar.add("Planning", start)),
        concerns,
        lambda meeting: meeting["starts_at"] == start,
        makes_meetings=True,
    )
    yield Scene(
        "It is moved by four hours",
        stage,
        lambda: calendar.move(made[0], moved_to),
        concerns,
        lambda meeting: meeting["starts_at"] == moved_to,
    )


def _fullest(upcoming: Sequence[Event]) -> Event | None:
    """The series with the most occurrences ahead, of those that nobody has changed."""
    counts: Counter[tuple[str, str]] = Counter()
    calendars: dict[str, Calendar] = {}
    changed: set[tuple[str, str]] = set()
    for event in upcoming:
        series_id = event.body.get("recurringEventId")
        if series_id is None:
            continue
        calendars[event.calendar.id] = event.calendar
        counts[event.calendar.id, series_id] += 1
        if event.original_start != event.start:
            changed.add((event.calendar.id, series_id))
    for (calendar_id, series_id), count in counts.most_common():
        series = calendars[calendar_id].event(series_id)
        # A day taken out of the rule comes back when the whole series moves.
        has_gaps = any(line.startswith("EXDATE") for line in series.body["recurrence"])
        whole = not has_gaps and (calendar_id, series_id) not in changed
        if whole and count >= FEWEST_OCCURRENCES:
            return series
    return None


def _added(
    calendar: Calendar, now: datetime, *, recurrence: str | None = None
) -> Event:
    start = (now + timedelta(days=2)).replace(minute=0, second=0, microsecond=0)
    title = "Weekly practice" if recurrence else "Trial lesson"
    return calendar.add(title, start, recurrence=recurrence)


def _start(event: Event) -> datetime:
    start = event.start
    if not isinstance(start, datetime):
        raise TypeError("an all-day event has no time to move")
    return start
