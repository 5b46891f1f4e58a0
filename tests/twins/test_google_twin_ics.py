"""Importing .ics files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local_stack.twins.google import Account, Calendar, Event
from local_stack.twins.moments import is_all_day
from tests.twins.google_calls import BERLIN, Calls

CALENDARS = Path(__file__).parent.parent / "data" / "calendars"


@pytest.fixture
def choir(calendar: Calendar) -> dict[str, Event]:
    events = calendar.import_ics(CALENDARS / "choir.ics")
    return {event.body["iCalUID"].split("@")[0]: event for event in events[:6]}


async def test_titles_and_html_survive_as_they_are(choir: dict[str, Event]) -> None:
    body = choir["konzert"].body

    assert body["summary"] == "Adventskonzert „Machet die Tore weit“"
    assert body["description"].startswith("<html><body>Einlass <b>16:30</b><br>")
    assert 'href="https://karten.example/advent?x=1&amp;y=2"' in body["description"]
    assert choir["probe-dienstag"].body["location"] == "Gemeindesaal, Grünstraße 4"


async def test_series_exceptions_and_left_out_dates_are_taken_in(
    calls: Calls, calendar: Calendar, choir: dict[str, Event]
) -> None:
    series = choir["probe-dienstag"]
    moved = calendar.occurrence(series, datetime(2024, 9, 24, 19, 30, tzinfo=BERLIN))

    assert moved.title == "Chorprobe (ausnahmsweise Mittwoch)"
    assert moved.start == datetime(2024, 9, 25, 19, 0, tzinfo=BERLIN)
    assert moved.body["recurringEventId"] == series.id
    assert moved.body["iCalUID"] == series.body["iCalUID"]
    window = datetime(2024, 12, 20, tzinfo=UTC), datetime(2025, 1, 8, tzinfo=UTC)
    assert [e.title for e in calendar.events(*window) if not is_all_day(e.start)] == [
        "Chorprobe"
    ]
    assert len(await calls.items(maxResults=3)) == 8


async def test_all_day_and_zero_length_events_stay_what_they_are(
    calendar: Calendar, choir: dict[str, Event]
) -> None:
    weekend = choir["probenwochenende"].body
    assert (weekend["start"], weekend["end"]) == (
        {"date": "2024-10-18"},
        {"date": "2024-10-21"},
    )
    window = datetime(2024, 10, 1, tzinfo=UTC), datetime(2024, 10, 2, tzinfo=UTC)
    deadline = [e for e in calendar.events(*window) if e.title == "Anmeldeschluss"]
    assert deadline[0].start == deadline[0].end


async def test_a_file_imported_again_replaces_what_it_brought(
    calls: Calls, calendar: Calendar
) -> None:
    first = calendar.import_ics(CALENDARS / "practice.ics")
    again = calendar.import_ics(CALENDARS / "practice.ics")

    assert [event.id for event in first] == [event.id for event in again]
    assert len({event.id for event in first}) == len(first)


async def test_a_foreign_organizer_stays_the_organizer(calendar: Calendar) -> None:
    events = calendar.import_ics(CALENDARS / "practice.ics")
    talk = next(e for e in events if e.title.startswith("Erstgespräch")).body

    assert talk["organizer"] == {"email": "praxis@praxis.example"}
    assert [a["responseStatus"] for a in talk["attendees"]] == [
        "accepted",
        "needsAction",
    ]


async def test_moved_into_the_present_exceptions_still_hit_their_series(
    ada: Account,
) -> None:
    for path in sorted(CALENDARS.glob("*.ics")):
        calendar = ada.add_calendar(path.stem)
        events = calendar.import_ics(path, into_present=True)
        by_id = {event.id: event for event in events}
        for event in events:
            series = by_id.get(event.body.get("recurringEventId", ""))
            if series is None:
                continue
            record = calendar.state.record(series.id)
            assert record.series is not None
            assert record.series.has(event.original_start)


async def test_left_out_dates_move_with_their_series(calendar: Calendar) -> None:
    events = calendar.import_ics(CALENDARS / "practice.ics", into_present=True)
    series = next(e for e in events if e.title == "Sprechstunde")
    start = series.start
    assert isinstance(start, datetime)

    listed = calendar.events(start, start + timedelta(days=365))
    hours = [e for e in listed if e.title.startswith("Sprechstunde")]

    # Two a week for 52 weeks and a day, two left out, one cancelled.
    assert len(hours) == 105 - 3
