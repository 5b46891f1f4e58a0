"""calendarView/delta: rounds, links, windows, and what they leave unsaid."""

from datetime import date, timedelta

import pytest

from local_stack.twins.microsoft import Account, Calendar, MicrosoftTwin
from runtime.clock import ManualClock
from tests.twins.graph_calls import (
    BERLIN,
    DELTA,
    IMMUTABLE,
    NOVEMBER,
    Graph,
    berlin,
    ids,
    refusal,
)


async def test_the_first_round_shows_the_window_and_ends_in_a_delta_link(
    graph: Graph, agenda: Calendar
) -> None:
    inside = agenda.add("Budget review", berlin(24, 14))
    agenda.add("Long ago", berlin(24, 14, month=3))

    items, link = await graph.delta()

    [item] = items
    assert item["id"] == inside.id
    assert item["@odata.type"] == "#microsoft.graph.event"
    assert item["@odata.etag"] == f'W/"{item["changeKey"]}"'
    assert item["type"] == "singleInstance"
    assert item["start"] == {
        "dateTime": "2026-11-24T13:00:00.0000000",
        "timeZone": "UTC",
    }
    assert item["originalStartTimeZone"] == "W. Europe Standard Time"
    assert "$deltatoken=" in link


async def test_a_delta_link_brings_what_changed_since_and_nothing_else(
    graph: Graph, agenda: Calendar
) -> None:
    agenda.add("Lunch", berlin(24, 12))
    moved = agenda.add("Review", berlin(24, 14))
    gone = agenda.add("Dentist", berlin(24, 16))
    _, link = await graph.delta()
    agenda.move(moved, berlin(25, 14))
    agenda.cancel(gone)

    items, later = await graph.delta(link)

    assert ids(items) == [moved.id]
    assert [item for item in items if "@removed" in item] == [
        {
            "@odata.type": "#microsoft.graph.event",
            "id": gone.id,
            "@removed": {"reason": "deleted"},
        }
    ]
    assert (await graph.delta(later))[0] == []


async def test_the_window_is_frozen_into_the_link(
    graph: Graph, agenda: Calendar
) -> None:
    inside = agenda.add("Review", berlin(24, 14))
    _, link = await graph.delta()
    outside = agenda.add("Far off", berlin(24, 14, month=12))
    agenda.move(inside, berlin(24, 14, month=12))

    wider = f"{link}&startDateTime=2026-01-01T00:00:00Z&endDateTime=2027-01-01"
    for url in (link, wider):
        items, _ = await graph.delta(url)
        assert ids(items) == []
        # Moved out, and made outside: both look as if they had been deleted.
        assert set(ids(items, removed=True)) == {inside.id, outside.id}


async def test_a_series_comes_as_its_master_with_stubs_of_its_occurrences(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add(
        "Stand-up",
        berlin(2, 9, month=3),
        timedelta(minutes=15),
        recurrence="FREQ=WEEKLY",
    )
    changed = agenda.rename_occurrence(series, berlin(9, 9), "Review")

    items, _ = await graph.delta()

    master, *members = items
    assert (master["id"], master["type"]) == (series.id, "seriesMaster")
    # Its own times are those of its first occurrence, long before the window.
    assert master["start"]["dateTime"] == "2026-03-02T08:00:00.0000000"
    assert [one["type"] for one in members] == [
        "occurrence", "exception", "occurrence", "occurrence", "occurrence",
    ]  # fmt: skip
    assert {one["seriesMasterId"] for one in members} == {series.id}
    assert set(members[0]) == {
        "@odata.type", "@odata.etag", "id", "seriesMasterId", "type", "start", "end",
    }  # fmt: skip
    assert (members[1]["id"], members[1]["subject"]) == (changed.id, "Review")
    assert members[1]["originalStart"] == "2026-11-09T08:00:00.0000000Z"


async def test_a_deleted_occurrence_is_only_missing_when_its_series_comes_again(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    first, second, third = agenda.occurrences(series)
    _, link = await graph.delta()

    agenda.cancel_occurrence(series, berlin(24, 9))

    items, _ = await graph.delta(link)
    assert ids(items) == [series.id, first.id, third.id]
    assert ids(items, removed=True) == []
    assert second.id not in str(items)


async def test_with_the_switch_a_deleted_occurrence_leaves_a_tombstone(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    outlook.behaviour.occurrence_tombstones = True
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    second = agenda.occurrences(series)[1]
    _, link = await graph.delta()
    agenda.cancel(second)
    items, link = await graph.delta(link)
    assert ids(items, removed=True) == [second.id]

    old = [one.id for one in agenda.occurrences(series)]
    agenda.retime_series(series, berlin(23, 11))
    items, _ = await graph.delta(link)
    assert set(old) <= set(ids(items, removed=True))


async def test_a_retimed_series_comes_with_new_occurrence_ids(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    before = {one.id for one in agenda.occurrences(series)}
    _, link = await graph.delta()

    agenda.retime_series(series, berlin(23, 11))

    items, _ = await graph.delta(link)
    assert ids(items)[0] == series.id
    assert len(ids(items)) == 4
    assert not before & set(ids(items))
    assert ids(items, removed=True) == []


async def test_a_series_that_becomes_single_shows_nothing_of_its_occurrences(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    _, link = await graph.delta()
    agenda.rename_occurrence(series, berlin(24, 9), "Review")
    agenda.change(series, recurrence=None)

    items, _ = await graph.delta(link)
    assert [(one["id"], one["type"]) for one in items] == [
        (series.id, "singleInstance")
    ]


async def test_a_series_that_goes_is_one_tombstone(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    _, link = await graph.delta()
    agenda.cancel(series)
    items, _ = await graph.delta(link)
    assert ids(items, removed=True) == [series.id]


async def test_a_series_is_not_split_over_pages(graph: Graph, agenda: Calendar) -> None:
    agenda.add("Before", berlin(3, 9))
    agenda.add("Kurs", berlin(4, 9), recurrence="FREQ=DAILY;COUNT=20")
    agenda.add("After", berlin(25, 9))
    page = await graph.page(DELTA, NOVEMBER, prefer=f"{IMMUTABLE}, odata.maxpagesize=5")
    sizes = [len(page["value"])]
    while "@odata.nextLink" in page:
        page = await graph.page(page["@odata.nextLink"])
        sizes.append(len(page["value"]))
    assert sizes == [1, 21, 1]


async def test_a_page_may_be_empty_and_an_item_may_come_twice(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    outlook.behaviour.empty_pages = outlook.behaviour.repeat_items = True
    event = agenda.add("Review", berlin(24, 14))
    first = await graph.page(DELTA, NOVEMBER)
    assert first["value"] == []
    items = await graph.all(first["@odata.nextLink"])
    assert ids(items) == [event.id, event.id]


async def test_what_was_written_may_show_in_a_later_delta_only(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, clock: ManualClock
) -> None:
    outlook.behaviour.delta_lag_s = 30
    _, link = await graph.delta()
    clock.advance(timedelta(minutes=5))
    event = agenda.add("Review", berlin(24, 14))

    items, link = await graph.delta(link)
    assert items == []
    assert (await graph.page(f"/me/events/{event.id}"))["subject"] == "Review"
    clock.advance(timedelta(seconds=31))
    items, _ = await graph.delta(link)
    assert ids(items) == [event.id]


@pytest.mark.parametrize(
    ("way", "answer"),
    [("410", (410, "SyncStateNotFound")), ("400", (400, "syncStateNotFound"))],
)
async def test_a_lost_state_is_told_by_its_code(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar, way: str, answer: object
) -> None:
    outlook.behaviour.lost_state = way  # type: ignore[assignment]
    _, link = await graph.delta()
    agenda.expire_delta_tokens()
    assert refusal(await graph.http.get(link)) == answer


async def test_an_old_token_has_lost_its_state_and_a_broken_one_never_had_any(
    graph: Graph, mira: Account, clock: ManualClock
) -> None:
    _, link = await graph.delta()
    assert refusal(await graph.http.get(link[:-8])) == (400, "InvalidDeltaToken")
    clock.advance(timedelta(days=31))
    token = mira.sign_in().access_token
    graph.http.headers["Authorization"] = f"Bearer {token}"
    assert refusal(await graph.http.get(link)) == (410, "SyncStateNotFound")


async def test_a_window_is_required_and_select_is_refused(graph: Graph) -> None:
    answer = await graph.http.get(DELTA)
    assert refusal(answer) == (400, "ErrorInvalidRequest")
    answer = await graph.http.get(DELTA, params=NOVEMBER | {"$select": "subject"})
    assert refusal(answer) == (400, "ErrorInvalidRequest")


async def test_each_calendar_is_tracked_on_its_own(
    graph: Graph, mira: Account, agenda: Calendar
) -> None:
    other = mira.add_calendar("Praxis")
    mine = agenda.add("Privat", berlin(24, 9))
    theirs = other.add("Praxis", berlin(24, 9))
    url = f"/me/calendars/{other.id}/calendarView/delta"
    items, link = await graph.delta(url)
    assert ids(items) == [theirs.id]
    _, own = await graph.delta()

    agenda.hand_over(mine, other)
    items, _ = await graph.delta(link)
    assert ids(items) == [mine.id]
    items, _ = await graph.delta(own)
    assert ids(items, removed=True) == [mine.id]


async def test_default_ids_change_with_a_move_and_immutable_ones_do_not(
    graph: Graph, mira: Account, agenda: Calendar
) -> None:
    other = mira.add_calendar("Praxis")
    event = agenda.add("Review", berlin(24, 9))
    before = event.ids
    moved = agenda.hand_over(event, other)
    after = moved.ids

    assert before.immutable == after.immutable
    assert before.mutable != after.mutable
    answer = await graph.http.get(f"/me/events/{before.mutable}")
    assert refusal(answer) == (404, "ErrorItemNotFound")
    for known in (after.mutable, after.immutable):
        assert (await graph.page(f"/me/events/{known}"))["id"] == after.immutable
    plain = await graph.page(f"/me/events/{after.immutable}", prefer="x=1")
    assert plain["id"] == after.mutable


async def test_the_kind_of_id_is_a_matter_of_each_request(
    graph: Graph, agenda: Calendar
) -> None:
    event = agenda.add("Review", berlin(24, 9))
    agenda.add("Next", berlin(25, 9))
    first = await graph.page(DELTA, NOVEMBER, prefer="odata.maxpagesize=1")
    assert first["value"][0]["id"] == event.ids.mutable
    second = await graph.page(first["@odata.nextLink"])
    assert second["value"][0]["id"].startswith("AAkALg")


async def test_translating_ids_answers_the_other_kind(
    graph: Graph, agenda: Calendar
) -> None:
    event = agenda.add("Review", berlin(24, 9))
    series = agenda.add("Kurs", berlin(25, 9), recurrence="FREQ=DAILY;COUNT=3")
    first = agenda.occurrences(series)[0]
    sources = [event.ids.mutable, first.ids.mutable]
    wish = {
        "inputIds": sources,
        "sourceIdType": "restId",
        "targetIdType": "restImmutableEntryId",
    }
    answer = await graph.http.post("/me/translateExchangeIds", json=wish)
    assert answer.json()["value"] == [
        {"sourceId": sources[0], "targetId": event.id},
        {"sourceId": sources[1], "targetId": first.id},
    ]


async def test_each_occurrence_has_an_ical_uid_of_its_own(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    occurrences = await graph.all("/me/calendarView", NOVEMBER)
    uids = {one["iCalUId"] for one in occurrences} | {series.body["iCalUId"]}
    assert len(uids) == 4


async def test_instances_come_ten_at_a_time(graph: Graph, agenda: Calendar) -> None:
    series = agenda.add("Kurs", berlin(2, 9), recurrence="FREQ=DAILY;COUNT=25")
    url = f"/me/events/{series.id}/instances"
    prefer = f"{IMMUTABLE}, odata.maxpagesize=200"
    first = await graph.page(url, NOVEMBER, prefer=prefer)
    assert len(first["value"]) == 10
    assert {one["type"] for one in first["value"]} == {"occurrence"}
    assert {one["subject"] for one in first["value"]} == {"Kurs"}
    assert len(await graph.all(url, NOVEMBER)) == 25


async def test_whole_days_are_midnights_whatever_zone_is_asked_for(
    graph: Graph, agenda: Calendar
) -> None:
    agenda.add("Urlaub", date(2026, 11, 24), date(2026, 11, 26))
    for zone in ("UTC", "Pacific Standard Time", "Asia/Tokyo"):
        prefer = f'{IMMUTABLE}, outlook.timezone="{zone}"'
        answer = await graph.http.get(
            "/me/calendarView", params=NOVEMBER, headers={"Prefer": prefer}
        )
        assert answer.headers["preference-applied"] == prefer
        [item] = answer.json()["value"]
        assert item["isAllDay"] is True
        assert item["start"] == {
            "dateTime": "2026-11-24T00:00:00.0000000",
            "timeZone": zone,
        }
        assert item["end"]["dateTime"] == "2026-11-26T00:00:00.0000000"


async def test_but_windows_use_the_real_moments_of_whole_days(
    graph: Graph, agenda: Calendar
) -> None:
    agenda.add("Feiertag", date(2026, 11, 24))
    # In Berlin the day ends at 23:00 UTC, and begins an hour before it in UTC.
    late = {"startDateTime": "2026-11-24T23:00:00Z", "endDateTime": "2026-11-25"}
    assert await graph.all("/me/calendarView", late) == []
    early = {
        "startDateTime": "2026-11-23T22:00:00Z",
        "endDateTime": "2026-11-23T23:30:00Z",
    }
    assert len(await graph.all("/me/calendarView", early)) == 1


async def test_times_are_shown_in_the_zone_that_is_asked_for(
    graph: Graph, agenda: Calendar
) -> None:
    agenda.add("Review", berlin(24, 14))
    prefer = f'outlook.timezone="Eastern Standard Time", {IMMUTABLE}'
    [item] = await graph.all("/me/calendarView", NOVEMBER, prefer=prefer)
    assert item["start"] == {
        "dateTime": "2026-11-24T08:00:00.0000000",
        "timeZone": "Eastern Standard Time",
    }
    answer = await graph.http.get(
        "/me/calendarView",
        params=NOVEMBER,
        headers={"Prefer": 'outlook.timezone="Middle Earth"'},
    )
    assert refusal(answer) == (400, "TimeZoneNotSupportedException")


async def test_a_series_keeps_its_time_of_day_over_a_clock_change(
    graph: Graph, agenda: Calendar
) -> None:
    agenda.add("Kurs", berlin(20, 9, month=10), recurrence="FREQ=WEEKLY;COUNT=2")
    window = {"startDateTime": "2026-10-01", "endDateTime": "2026-11-30"}
    found = await graph.all("/me/calendarView", window)
    assert [one["start"]["dateTime"][:16] for one in found] == [
        "2026-10-20T07:00",
        "2026-10-27T08:00",
    ]
    assert agenda.occurrences(agenda.event(found[0]["seriesMasterId"]))[1].start == (
        berlin(27, 9, month=10).astimezone(BERLIN)
    )
