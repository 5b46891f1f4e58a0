"""What becomes of changed occurrences when their series changes."""

from datetime import timedelta

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.names import occurrence_id
from local_stack.twins.google.occurrences import unchanged, with_differences
from local_stack.twins.google.state import CalendarState, EventRecord, Json, Store
from local_stack.twins.google.times import write_when
from local_stack.twins.moments import When
from local_stack.twins.series import Series

LIMITS = ("UNTIL=", "COUNT=")
OWN = ("created", "sequence", "status")


def carry_exceptions_over(
    store: Store,
    calendar: CalendarState,
    record: EventRecord,
    was: Series,
    behaviour: Behaviour,
) -> None:
    """Let exceptions follow their series: kept, given a new original start, or gone."""
    retimed = record.series is None or timing(was) != timing(record.series)
    for exception in list(calendar.exceptions_of(record.id).values()):
        original = exception.original(calendar.time_zone)
        if not was.has(original):
            continue  # buried by an earlier change
        if record.series is None:
            _bury(store, calendar, exception)
        elif retimed and behaviour.exceptions_on_retime == "reset":
            _reset(store, calendar, record.series, exception, original)
        elif record.series.has(original):
            _inherit(store, calendar, record, exception, original)
        else:
            _rehome(store, calendar, record, exception, original)


def timing(series: Series) -> object:
    """Return what makes a series happen when it does, whatever ends it."""
    return series.start, [
        [part for part in line.split(";") if not part.upper().startswith(LIMITS)]
        for line in series.lines
    ]


def _inherit(
    store: Store,
    calendar: CalendarState,
    record: EventRecord,
    exception: EventRecord,
    original: When,
) -> None:
    body = _body(calendar, record, exception, original)
    if body != {k: v for k, v in exception.body.items() if k != "updated"}:
        exception.body = body
        store.save(calendar, exception)


def _rehome(
    store: Store,
    calendar: CalendarState,
    record: EventRecord,
    exception: EventRecord,
    original: When,
) -> None:
    """Attach an exception to the occurrence that now stands on its day, if any does."""
    assert record.series is not None  # noqa: S101 - asked by the caller
    day = record.series.wall(original).replace(hour=0, minute=0, second=0)
    new = next(record.series.starts(day + timedelta(days=1), day), None)
    was_cancelled = exception.cancelled
    _bury(store, calendar, exception)
    if new is None:
        return
    rehomed = EventRecord(
        occurrence_id(record.id, new), {}, overrides=dict(exception.overrides)
    )
    rehomed.body = {
        **_body(calendar, record, exception, new),
        "id": rehomed.id,
        "originalStartTime": write_when(new, calendar.time_zone),
        "status": "cancelled" if was_cancelled else "confirmed",
    }
    store.save(calendar, rehomed)


def _reset(
    store: Store,
    calendar: CalendarState,
    series: Series,
    exception: EventRecord,
    original: When,
) -> None:
    if series.has(original):
        # The occurrence is a plain one again; the changed series says so.
        store.forget(exception)
    else:
        _bury(store, calendar, exception)


def _bury(store: Store, calendar: CalendarState, exception: EventRecord) -> None:
    exception.body = {**exception.body, "status": "cancelled"}
    store.save(calendar, exception)


def _body(
    calendar: CalendarState,
    record: EventRecord,
    exception: EventRecord,
    original: When,
) -> Json:
    plain = unchanged(calendar, record, original)
    body = with_differences(plain, exception.overrides)
    for key in OWN:
        if key in exception.body:
            body[key] = exception.body[key]
    return {k: v for k, v in body.items() if k != "updated"}
