"""Series: names of occurrences, and what an edit of one does to the others."""

from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from local_stack.twins.google import Calendar, Event, GoogleTwin
from tests.twins.google_calls import BERLIN, EVENTS, Calls, berlin, refusal

FIVE = "FREQ=DAILY;COUNT=5"


@pytest.fixture
def series(calendar: Calendar) -> Event:
    """A course at nine, from 23 to 27 November."""
    return calendar.add("Kurs", berlin(23, 9), recurrence=FIVE)


def days(events: list[Event]) -> dict[int, tuple[str, int]]:
    """Return title and hour by day."""
    found = {}
    for event in events:
        assert isinstance(event.start, datetime)
        local = event.start.astimezone(BERLIN)
        found[local.day] = (event.title, local.hour)
    return found


async def test_occurrences_are_named_after_their_original_start_in_utc(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    all_day = calendar.add(
        "Woche", date(2026, 11, 23), recurrence="FREQ=WEEKLY;COUNT=2"
    )
    calendar.move_occurrence(series, berlin(24, 9), berlin(28, 15))

    def named(event: Event) -> list[str]:
        found = calendar.occurrences(event)
        return [occurrence.id.removeprefix(event.id) for occurrence in found]

    assert named(series) == [
        "_20261123T080000Z",
        "_20261125T080000Z",
        "_20261126T080000Z",
        "_20261127T080000Z",
        "_20261124T080000Z",
    ]
    assert named(all_day) == ["_20261123", "_20261130"]


async def test_a_series_keeps_its_time_of_day_over_a_clock_change(
    calls: Calls, calendar: Calendar
) -> None:
    start = datetime(2026, 10, 24, 9, tzinfo=BERLIN)
    series = calendar.add("Früh", start, recurrence="FREQ=DAILY;COUNT=2")

    items = await calls.items(f"{EVENTS}/{series.id}/instances")

    assert [item["start"]["dateTime"] for item in items] == [
        "2026-10-24T09:00:00+02:00",
        "2026-10-25T09:00:00+01:00",
    ]
    assert [item["id"][-17:] for item in items] == [
        "_20261024T070000Z",
        "_20261025T080000Z",
    ]


async def test_an_occurrence_in_the_hour_that_is_skipped_comes_after_it(
    calendar: Calendar,
) -> None:
    night = datetime(2026, 3, 28, 2, 30, tzinfo=BERLIN)
    series = calendar.add("Nacht", night, recurrence="FREQ=DAILY;COUNT=3")

    starts = [o.body["start"]["dateTime"] for o in calendar.occurrences(series)]

    assert starts == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:30:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


async def test_one_occurrence_can_be_moved_renamed_and_cancelled(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    calendar.rename_occurrence(series, berlin(25, 9), "anders")
    calendar.cancel_occurrence(series, berlin(26, 9))

    assert days(calendar.events(berlin(1, 0), berlin(30, 0))) == {
        23: ("Kurs", 9),
        24: ("Kurs", 15),
        25: ("anders", 9),
        27: ("Kurs", 9),
    }
    moved = calendar.occurrence(series, berlin(24, 9)).body
    assert moved["originalStartTime"]["dateTime"] == "2026-11-24T09:00:00+01:00"
    assert moved["iCalUID"] == series.body["iCalUID"]
    assert "recurrence" not in moved


async def test_a_cancelled_occurrence_can_be_brought_back(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    calendar.cancel_occurrence(series, berlin(24, 9))
    occurrence = calendar.occurrence(series, berlin(24, 9))

    url = f"{EVENTS}/{occurrence.id}"
    assert refusal(await calls.http.delete(url))[:2] == (410, "deleted")
    calendar.change(occurrence, status="confirmed")

    assert len(calendar.occurrences(series)) == 5


async def test_what_a_series_changes_reaches_occurrences_that_did_not_set_it(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    calendar.rename_occurrence(series, berlin(25, 9), "eigen")
    token = await calls.sync_token()

    calendar.rename(series, "Seminar")

    delta = await calls.items(syncToken=token)
    assert [item["summary"] for item in delta] == ["Seminar", "Seminar"]
    assert days(calendar.events(berlin(24, 0), berlin(26, 0))) == {
        24: ("Seminar", 15),
        25: ("eigen", 9),
    }


async def test_a_retimed_series_has_new_ids_and_keeps_its_exceptions(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    calendar.cancel_occurrence(series, berlin(25, 9))
    token = await calls.sync_token()

    calendar.retime_series(series, time(11))

    assert days(calendar.events(berlin(1, 0), berlin(30, 0))) == {
        23: ("Kurs", 11),
        24: ("Kurs", 15),
        26: ("Kurs", 11),
        27: ("Kurs", 11),
    }
    delta = {e["id"]: e["status"] for e in await calls.items(syncToken=token)}
    assert delta == {
        series.id: "confirmed",
        f"{series.id}_20261124T080000Z": "cancelled",
        f"{series.id}_20261125T080000Z": "cancelled",
        f"{series.id}_20261124T100000Z": "confirmed",
        f"{series.id}_20261125T100000Z": "cancelled",
    }


async def test_a_retimed_series_may_lose_its_exceptions(
    calls: Calls, calendar: Calendar, google: GoogleTwin, series: Event
) -> None:
    google.behaviour.exceptions_on_retime = "reset"
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    calendar.cancel_occurrence(series, berlin(25, 9))

    calendar.retime_series(series, time(11))

    assert days(calendar.events(berlin(1, 0), berlin(30, 0))) == dict.fromkeys(
        range(23, 28), ("Kurs", 11)
    )


async def test_this_and_following_is_a_trimmed_series_and_a_new_one(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    calendar.rename_occurrence(series, berlin(26, 9), "verloren")
    calendar.rename_occurrence(series, berlin(24, 9), "bleibt")
    token = await calls.sync_token()

    new = calendar.trim_and_follow(series, berlin(25, 9), to=berlin(25, 14))

    assert days(calendar.events(berlin(1, 0), berlin(30, 0))) == {
        23: ("Kurs", 9),
        24: ("bleibt", 9),
        25: ("Kurs", 14),
        26: ("Kurs", 14),
        27: ("Kurs", 14),
    }
    assert series.body["recurrence"] == ["RRULE:FREQ=DAILY;UNTIL=20261125T075959Z"]
    assert new.body["recurrence"] == ["RRULE:FREQ=DAILY;COUNT=3"]
    assert new.id == f"{series.id}_R20261125T080000"
    assert new.body["iCalUID"] != series.body["iCalUID"]
    delta = {e["id"]: e["status"] for e in await calls.items(syncToken=token)}
    assert delta == {
        series.id: "confirmed",
        new.id: "confirmed",
        f"{series.id}_20261126T080000Z": "cancelled",
    }


async def test_a_series_that_follows_another_can_be_trimmed_again(
    calendar: Calendar, series: Event
) -> None:
    second = calendar.trim_and_follow(series, berlin(24, 9), summary="zwei")
    calendar.trim_and_follow(second, berlin(26, 9), summary="drei")

    titles = days(calendar.events(berlin(1, 0), berlin(30, 0)))
    assert [title for title, _ in titles.values()] == [
        "Kurs",
        "zwei",
        "zwei",
        "drei",
        "drei",
    ]


async def test_an_all_day_series_is_trimmed_by_a_date(calendar: Calendar) -> None:
    series = calendar.add("Tage", date(2026, 11, 23), recurrence="FREQ=DAILY;COUNT=5")

    new = calendar.trim_and_follow(series, date(2026, 11, 25))

    assert series.body["recurrence"] == ["RRULE:FREQ=DAILY;UNTIL=20261124"]
    assert [o.start for o in calendar.occurrences(new)] == [
        date(2026, 11, day) for day in (25, 26, 27)
    ]


async def test_deleting_a_series_takes_its_exceptions_along(
    calls: Calls, calendar: Calendar, series: Event
) -> None:
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    token = await calls.sync_token()

    calendar.cancel(series)

    assert await calls.items() == []
    assert await calls.items(syncToken=token) == [
        {"id": f"{series.id}_20261124T080000Z", "status": "cancelled"},
        {"id": series.id, "status": "cancelled"},
    ]


async def test_a_date_that_is_no_occurrence_is_not_found(
    calls: Calls, series: Event
) -> None:
    for suffix in ("_20261123T090000Z", "_20261128T080000Z", "_20261123", "_2026"):
        answer = await calls.http.get(f"{EVENTS}/{series.id}{suffix}")
        assert refusal(answer)[0] == 404


async def test_instances_come_in_pages_and_windows(
    calls: Calls, calendar: Calendar
) -> None:
    series = calendar.add("immer", berlin(23, 9), recurrence="FREQ=DAILY")
    url = f"{EVENTS}/{series.id}/instances"
    window = {
        "timeMin": berlin(25, 0).isoformat(),
        "timeMax": berlin(30, 0).isoformat(),
    }

    first = await calls.page(url, maxResults=2, **window)

    assert len(first["items"]) == 2
    assert len(await calls.items(url, maxResults=2, **window)) == 5
    assert len(await calls.items(url)) > 700


async def test_a_rule_in_another_zone_follows_that_zones_clock(
    calendar: Calendar,
) -> None:
    new_york = ZoneInfo("America/New_York")
    start = datetime(2026, 10, 23, 9, tzinfo=new_york)
    series = calendar.add("Call", start, recurrence="FREQ=WEEKLY;COUNT=3")

    starts = [o.start for o in calendar.occurrences(series)]

    assert [s.astimezone(new_york).hour for s in starts if isinstance(s, datetime)] == [
        9,
        9,
        9,
    ]
    gaps = [b - a for a, b in pairwise(starts)]
    assert gaps == [timedelta(days=7), timedelta(days=7)]
    berlins = [o.body["start"]["dateTime"][11:16] for o in calendar.occurrences(series)]
    assert berlins == ["15:00", "14:00", "15:00"]
