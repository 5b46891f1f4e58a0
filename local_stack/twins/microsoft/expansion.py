"""What lies in a window: events as they are, series as their occurrences."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from local_stack.twins.microsoft.state import CalendarState, EventRecord
from local_stack.twins.moments import When, instant, later
from local_stack.twins.series import Series

A_DAY = timedelta(days=1)
EARLIEST = datetime.fromisoformat("1900-01-01T00:00:00+00:00")
LATEST = datetime.fromisoformat("2200-01-01T00:00:00+00:00")


@dataclass(frozen=True)
class Window:
    """From a moment on, until before another; what overlaps lies in it."""

    start: datetime
    end: datetime

    def overlaps(self, begins: datetime, ends: datetime) -> bool:
        if begins == ends:
            return self.start <= begins < self.end
        return begins < self.end and ends > self.start


@dataclass(frozen=True)
class Placed:
    """Something in a window; an original start says which occurrence of a series."""

    record: EventRecord
    original: When | None
    begins: datetime


def originals(series: Series, record: EventRecord, window: Window) -> Iterator[When]:
    """Yield the starts that a schedule has in a window, deleted ones included."""
    after = max(window.start, EARLIEST) - record.elapsed - A_DAY
    before = min(window.end, LATEST) + A_DAY
    for original in series.starts(series.wall(before), series.wall(after)):
        begins = instant(original, record.zone)
        ends = instant(later(original, record.elapsed), record.zone)
        if window.overlaps(begins, ends):
            yield original


def members(master: EventRecord, window: Window) -> list[Placed]:
    """Return what a series has in a window, in order: occurrences and exceptions."""
    if master.series is None or master.gone:
        return []
    found = [
        Placed(master, original, instant(original, master.zone))
        for original in originals(master.series, master, window)
        if original not in master.deleted and original not in master.exceptions
    ]
    found += [
        Placed(exception, None, exception.span[0])
        for exception in master.exceptions.values()
        if window.overlaps(*exception.span)
    ]
    return sorted(found, key=lambda placed: placed.begins)


def view(calendar: CalendarState, window: Window) -> list[Placed]:
    """Return all that happens on a calendar in a window, in order."""
    found: list[Placed] = []
    for record in calendar.records.values():
        if record.gone or record.master is not None:
            continue
        if record.series is not None:
            found += members(record, window)
        elif window.overlaps(*record.span):
            found.append(Placed(record, None, record.span[0]))
    return sorted(found, key=lambda placed: placed.begins)
