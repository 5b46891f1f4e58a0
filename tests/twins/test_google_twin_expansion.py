"""Series are expanded as an independent reader of the same files expands them."""

import os
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import icalendar
import pytest
import recurring_ical_events

from local_stack.twins.google import Account, Event
from local_stack.twins.moments import When

OWN = Path(__file__).parent.parent / "data" / "calendars"
SHARED = Path(os.environ.get("SUPACAL_SHARED", "../shared")) / "data" / "calendars"
FILES = sorted([*OWN.glob("*.ics"), *SHARED.glob("*.ics")])


def comparable(when: When) -> str:
    if isinstance(when, datetime):
        return when.astimezone(UTC).isoformat()
    return when.isoformat()


def by_the_judge(path: Path, start: date, end: date) -> Counter[tuple[str, ...]]:
    parsed = icalendar.Calendar.from_ical(path.read_bytes())
    found: Counter[tuple[str, ...]] = Counter()
    for event in recurring_ical_events.of(parsed).between(start, end):
        if str(event.get("STATUS", "")) == "CANCELLED":
            continue
        begins = event["DTSTART"].dt
        ends = event["DTEND"].dt if "DTEND" in event else begins
        if ends == begins and not isinstance(begins, datetime):
            ends += timedelta(days=1)  # RFC 5545 3.6.1; the judge leaves it open
        found[str(event.get("SUMMARY", "")), comparable(begins), comparable(ends)] += 1
    return found


def by_the_twin(events: list[Event]) -> Counter[tuple[str, ...]]:
    return Counter(
        (event.title, comparable(event.start), comparable(event.end))
        for event in events
    )


def zone_of(path: Path) -> str:
    parsed = icalendar.Calendar.from_ical(path.read_bytes())
    return str(parsed.get("X-WR-TIMEZONE", "UTC"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_series_expand_as_an_independent_reader_expands_them(
    path: Path, ada: Account
) -> None:
    calendar = ada.add_calendar(path.stem, time_zone=zone_of(path))
    calendar.import_ics(path)
    start, end = datetime(2015, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)

    twins = by_the_twin(calendar.events(start, end))
    judges = by_the_judge(path, start, end)

    assert sum(twins.values()) > 0
    assert twins == judges


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_calendar_moved_into_the_present_keeps_weekdays_and_times_of_day(
    path: Path, ada: Account
) -> None:
    then = ada.add_calendar("then", time_zone=zone_of(path))
    now = ada.add_calendar("now", time_zone=zone_of(path))
    before = {e.body["iCalUID"]: e for e in then.import_ics(path)}
    after = {
        e.body["iCalUID"]: e
        for e in now.import_ics(path, into_present=True)
        if "recurrence" not in e.body
    }

    for uid, moved in after.items():
        was, is_ = before[uid].start, moved.start
        assert was.weekday() == is_.weekday()
        if isinstance(was, datetime) and isinstance(is_, datetime):
            assert was.time() == is_.time()
    around = datetime(2026, 11, 21, tzinfo=UTC)
    year = timedelta(days=366)
    assert now.events(around - year, around + year)
