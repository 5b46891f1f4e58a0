"""From an id to an event: a record, or an occurrence that has none of its own yet."""

from dataclasses import dataclass

import msgspec

from local_stack.twins.google.errors import not_found
from local_stack.twins.google.names import occurrence_id, split_occurrence_id
from local_stack.twins.google.state import (
    CalendarState,
    EventRecord,
    Json,
    occurrence_bytes,
)
from local_stack.twins.moments import When

OWN_TO_OCCURRENCE = frozenset(
    {
        "kind",
        "etag",
        "id",
        "created",
        "updated",
        "sequence",
        "recurringEventId",
        "originalStartTime",
    }
)
"""What an occurrence never takes from its series, nor holds against it."""


@dataclass(frozen=True)
class Found:
    """An event under its id. `series` is set for occurrences, changed or not."""

    id: str
    record: EventRecord | None
    series: EventRecord | None = None
    original: When | None = None


def find(calendar: CalendarState, event_id: str) -> Found:
    """Find an event, deleted ones included.

    Raises:
        ApiError: 404.
    """
    record = calendar.events.get(event_id)
    if record is not None:
        if record.series_id is None:
            return Found(event_id, record)
        original = record.original(calendar.time_zone)
        return Found(event_id, record, calendar.events.get(record.series_id), original)
    split = split_occurrence_id(event_id)
    series = calendar.events.get(split[0]) if split else None
    if split is None or series is None or series.series is None:
        raise not_found()
    start = series.series.find(split[1])
    if start is None:
        raise not_found()
    return Found(event_id, None, series, start)


def unchanged(calendar: CalendarState, series: EventRecord, original: When) -> Json:
    """Return the body an occurrence has when nobody changed it."""
    event_id = occurrence_id(series.id, original)
    encoded = occurrence_bytes(series, event_id, original, calendar.time_zone)
    body: Json = msgspec.json.decode(encoded)
    del body["kind"], body["etag"]
    return body


def effective(calendar: CalendarState, found: Found) -> Json:
    """Return the body of what was found, as it stands."""
    if found.record is not None:
        return dict(found.record.body)
    assert found.series is not None and found.original is not None  # noqa: S101, PT018
    return unchanged(calendar, found.series, found.original)


def differences(plain: Json, body: Json) -> Json:
    """Return what an occurrence sets against its series; None for what it removes."""
    keys = (plain.keys() | body.keys()) - OWN_TO_OCCURRENCE
    return {k: body.get(k) for k in keys if plain.get(k) != body.get(k)}


def with_differences(plain: Json, overrides: Json) -> Json:
    """Return an unchanged occurrence's body with an exception's own fields laid on."""
    body = {**plain, **overrides}
    return {key: value for key, value in body.items() if value is not None}


def encoded(calendar: CalendarState, found: Found) -> bytes:
    """Return the JSON of what was found."""
    if found.record is not None:
        return found.record.encoded
    assert found.series is not None and found.original is not None  # noqa: S101, PT018
    return occurrence_bytes(found.series, found.id, found.original, calendar.time_zone)


def etag_of(found: Found) -> str:
    """Return the etag; an unchanged occurrence has that of its series."""
    holder = found.record or found.series
    return holder.etag if holder else ""
