"""What becomes of a series, and of its changed occurrences, when its times change."""

from datetime import datetime

from local_stack.twins.microsoft.bodies import Times
from local_stack.twins.microsoft.state import EventRecord
from local_stack.twins.moments import When
from local_stack.twins.series import Series

LIMITS = ("UNTIL=", "COUNT=")


def reschedule(
    record: EventRecord, times: Times, lines: list[str], version: int, *, keep: bool
) -> None:
    """Give a series other times or another rule.

    With another time of day or rule all its occurrences are new ones, under new ids;
    a later or earlier end leaves those that stay as they are.
    """
    was = record.series
    record.start, record.end, record.zone = times.start, times.end, times.zone
    record.lines = lines
    record.series = Series(times.start, lines) if lines else None
    if was is None:
        return
    record.former.append((version, record.generation, was))
    if record.series is None:
        _end(record, [*record.exceptions])
        record.deleted.clear()
        return
    if _timing(was) == _timing(record.series):
        _end(record, [one for one in record.exceptions if not record.series.has(one)])
        return
    record.generation += 1
    exceptions, record.exceptions = record.exceptions, {}
    deleted, record.deleted = record.deleted, {}
    for original, exception in exceptions.items():
        new = _same_day(record.series, original) if keep else None
        if new is None:
            exception.gone = True
            continue
        if exception.start == original:  # only its text was changed: it moves along
            exception.start, exception.end = new, _later(new, exception)
        exception.original = new
        record.exceptions[new] = exception
    for original in deleted:
        new = _same_day(record.series, original) if keep else None
        if new is not None:
            record.deleted[new] = version


def _end(record: EventRecord, originals: list[When]) -> None:
    for original in originals:
        record.exceptions.pop(original).gone = True


def _later(start: When, exception: EventRecord) -> When:
    assert exception.master is not None  # noqa: S101 - an exception has a series
    elapsed = exception.master.elapsed
    if isinstance(start, datetime):
        return start + elapsed
    return start + elapsed


def _same_day(series: Series, original: When) -> When | None:
    day = series.wall(original).replace(hour=0, minute=0, second=0)
    end = day.replace(hour=23, minute=59, second=59)
    return next(series.starts(end, day), None)


def _timing(series: Series) -> object:
    return series.start, [
        [part for part in line.split(";") if not part.upper().startswith(LIMITS)]
        for line in series.lines
    ]
