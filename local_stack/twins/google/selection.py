"""Which events a list call finds: the whole calendar, a window, or what changed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from local_stack.twins.google.matching import (
    has_property,
    mentions,
    original_of,
    stands_for,
)
from local_stack.twins.google.names import occurrence_id
from local_stack.twins.google.queries import Query
from local_stack.twins.google.state import (
    CalendarState,
    EventRecord,
    Json,
    occurrence_bytes,
)
from local_stack.twins.moments import When, instant, later
from local_stack.twins.series import Series

HORIZON = timedelta(days=730)
"""How far an endless series is expanded for whoever names no end."""

CANCELLED_AHEAD = timedelta(days=183)
"""How far ahead a deleted series is reported by cancelled occurrences."""

DAY = timedelta(days=1)
DISTANT_PAST = datetime.min.replace(tzinfo=UTC) + 2 * DAY
DISTANT_FUTURE = datetime.max.replace(tzinfo=UTC) - 2 * DAY


@dataclass(slots=True)
class Entry:
    """One line of an answer, with what sorting and filtering look at."""

    id: str
    encoded: bytes
    record: EventRecord
    span: tuple[datetime, datetime] | None


@dataclass(frozen=True)
class Selector:
    """Finds entries of one calendar for one call."""

    calendar: CalendarState
    query: Query
    now: datetime
    tombstone_life: timedelta
    exceptions_first: bool = False
    full_tombstones: bool = False

    def everything(self) -> list[bytes]:
        """Return what a plain full round finds: most calls ask for nothing else."""
        query = self.query
        if query.filters or query.single_events or query.show_deleted:
            return [entry.encoded for entry in self.whole()]
        if query.order_by or self.exceptions_first:
            return [entry.encoded for entry in self.whole()]
        records = self.calendar.events.values()
        alive = [r.encoded for r in records if r.body["status"] != "cancelled"]
        left_out = [
            record.tombstone(of_live_series=True)
            for changed in self.calendar.exceptions.values()
            for record in changed.values()
            if record.cancelled and self._stands_against_its_series(record)
        ]
        return alive + left_out

    def whole(self) -> list[Entry]:
        """Return what a call without a sync token finds."""
        calendar, life = self.calendar, self.tombstone_life
        records = [
            record
            for record in calendar.events.values()
            if not has_faded(calendar, record, self.now, life)
        ]
        if self.exceptions_first:
            records.sort(key=lambda record: record.series_id is None)
        found = [entry for record in records for entry in self._listed(record)]
        found = [entry for entry in found if self._matches(entry)]
        if self.query.order_by == "startTime":
            found.sort(key=_start)
        elif self.query.order_by == "updated":
            found.sort(key=lambda entry: entry.record.version)
        return found

    def changes(
        self, version: int, time_min: datetime | None, time_max: datetime | None
    ) -> list[Entry]:
        """Return what changed after a version, deletions always included."""
        records = self.calendar.changed_since(version)
        if self.exceptions_first:
            records.sort(key=lambda record: record.series_id is None)
        found: list[Entry] = []
        for record in records:
            if self._wrong_type(record):
                continue
            if self.query.single_events and record.series is not None:
                found += self._series_changes(record, version, time_min, time_max)
            elif record.cancelled:
                found.append(self._tombstone(record))
            else:
                found.append(_own(record))
        return found

    def occurrences(self, record: EventRecord) -> list[Entry]:
        """Return what events.instances finds in one series."""
        found = list(self._expanded(record, self.query.time_min, self.query.time_max))
        found += [
            _own(exception)
            for exception in self.calendar.exceptions_of(record.id).values()
            if not exception.cancelled or self.query.show_deleted
        ]
        wanted = self.query.first("originalStart")
        found = [
            e for e in found if self._in_window(e) and stands_for(e.encoded, wanted)
        ]
        return sorted(found, key=_start)

    def _listed(self, record: EventRecord) -> Iterator[Entry]:
        """Apply Google's table of showDeleted and singleEvents to one record."""
        single, deleted = self.query.single_events, self.query.show_deleted
        deleted = deleted or self.query.updated_min is not None
        if record.series is not None and single:
            if not record.cancelled or deleted:
                yield from self._expanded(
                    record, self.query.time_min, self.query.time_max
                )
        elif not record.cancelled:
            yield _own(record)
        elif deleted or (not single and self._stands_against_its_series(record)):
            yield self._tombstone(record)

    def _stands_against_its_series(self, record: EventRecord) -> bool:
        series = self.calendar.events.get(record.series_id or "")
        if series is None or series.cancelled or series.series is None:
            return False
        return series.series.has(record.original(self.calendar.time_zone))

    def _tombstone(self, record: EventRecord) -> Entry:
        live = self.calendar.is_live_exception(record)
        wanted = self.query.show_deleted or self.full_tombstones
        encoded = (
            record.encoded
            if wanted and "start" in record.body
            else record.tombstone(of_live_series=live)
        )
        return Entry(record.id, encoded, record, record.span)

    def _expanded(
        self,
        record: EventRecord,
        time_min: datetime | None,
        time_max: datetime | None,
    ) -> Iterator[Entry]:
        """Yield the occurrences that have no record of their own."""
        assert record.series is not None  # noqa: S101 - asked only of series
        zone_name = self.calendar.time_zone
        changed = self.calendar.exceptions_of(record.id)
        for original in self._originals(record, record.series, time_min, time_max):
            event_id = occurrence_id(record.id, original)
            if event_id in changed:
                continue
            begins = instant(original, zone_name)
            ends = instant(later(original, record.elapsed), zone_name)
            if _overlaps((begins, ends), time_min, time_max):
                encoded = occurrence_bytes(record, event_id, original, zone_name)
                yield Entry(event_id, encoded, record, (begins, ends))

    def _originals(
        self,
        record: EventRecord,
        series: Series,
        time_min: datetime | None,
        time_max: datetime | None,
    ) -> Iterator[When]:
        start = instant(series.start, self.calendar.time_zone)
        bound = time_max or max(self.now, start) + HORIZON
        before = series.wall(min(bound, DISTANT_FUTURE)) + DAY
        if time_min is None:
            return series.starts(before)
        after = max(time_min - record.elapsed, DISTANT_PAST)
        return series.starts(before, series.wall(after) - DAY)

    def _series_changes(
        self,
        record: EventRecord,
        version: int,
        time_min: datetime | None,
        time_max: datetime | None,
    ) -> Iterator[Entry]:
        """Yield a changed series as its occurrences, vanished ones as cancelled."""
        present = set()
        if not record.cancelled:
            for entry in self._expanded(record, time_min, time_max):
                present.add(entry.id)
                yield entry
        schedules = [series for until, series in record.former if until >= version]
        if record.cancelled and record.series is not None:
            schedules.append(record.series)
        own = self.calendar.exceptions_of(record.id)
        soon = self.now + CANCELLED_AHEAD
        for series in schedules:
            for original in self._originals(record, series, self.now, soon):
                event_id = occurrence_id(record.id, original)
                if event_id not in present and event_id not in own:
                    present.add(event_id)
                    yield self._vanished(record, event_id, original)

    def _vanished(self, record: EventRecord, event_id: str, original: When) -> Entry:
        body: Json = {"recurringEventId": record.id, "status": "cancelled"}
        start = occurrence_bytes(record, event_id, original, self.calendar.time_zone)
        body["originalStartTime"] = original_of(start)
        gone = EventRecord(event_id, body)
        return Entry(event_id, gone.tombstone(of_live_series=True), record, None)

    def _wrong_type(self, record: EventRecord) -> bool:
        types = self.query.event_types
        return bool(types) and record.body.get("eventType", "default") not in types

    def _matches(self, entry: Entry) -> bool:
        query = self.query
        if self._wrong_type(entry.record) or not self._in_window(entry):
            return False
        if query.updated_min and entry.record.changed_at < query.updated_min:
            return False
        uid = query.first("iCalUID")
        if uid is not None and entry.record.body.get("iCalUID") != uid:
            return False
        text = query.first("q")
        if text is not None and not mentions(entry.record.body, text):
            return False
        return all(
            has_property(entry.record.body, kind, wanted)
            for kind in ("private", "shared")
            for wanted in query.params.get(f"{kind}ExtendedProperty", ())
        )

    def _in_window(self, entry: Entry) -> bool:
        time_min, time_max = self.query.time_min, self.query.time_max
        if (time_min is None and time_max is None) or entry.span is None:
            return True
        record = entry.record
        if record.series is not None and entry.id == record.id:
            return any(True for _ in self._expanded(record, time_min, time_max))
        return _overlaps(entry.span, time_min, time_max)


def _own(record: EventRecord) -> Entry:
    return Entry(record.id, record.encoded, record, record.span)


def has_faded(
    calendar: CalendarState, record: EventRecord, now: datetime, life: timedelta
) -> bool:
    """Tell whether a deletion is so old that lists no longer show it."""
    return (
        record.cancelled
        and now - record.changed_at > life
        and not calendar.is_live_exception(record)
    )


def _overlaps(
    span: tuple[datetime, datetime],
    time_min: datetime | None,
    time_max: datetime | None,
) -> bool:
    begins, ends = span
    return (time_min is None or ends > time_min) and (
        time_max is None or begins < time_max
    )


def _start(entry: Entry) -> datetime:
    return entry.span[0] if entry.span else DISTANT_PAST
