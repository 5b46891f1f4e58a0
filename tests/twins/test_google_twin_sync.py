"""Incremental sync: tokens, pages, tombstones, and what may not be asked."""

from datetime import timedelta
from typing import Any

import pytest

from local_stack.twins.google import Account, Calendar, GoogleTwin
from runtime.clock import ManualClock
from tests.twins.google_calls import BERLIN, EVENTS, Calls, berlin, refusal

SERIES = "FREQ=DAILY;COUNT=5"


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for item in items]


async def test_a_delta_holds_what_changed_and_nothing_else(
    calls: Calls, calendar: Calendar
) -> None:
    calendar.add("bleibt", berlin(23, 9))
    event = calendar.add("alt", berlin(24, 9))
    token = await calls.sync_token()

    calendar.rename(event, "neu")

    assert [e["summary"] for e in await calls.items(syncToken=token)] == ["neu"]


async def test_deletions_come_with_an_id_and_nothing_else(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add("weg", berlin(24, 9), location="hier")
    token = await calls.sync_token()

    calendar.cancel(event)

    assert await calls.items(syncToken=token) == [
        {"id": event.id, "status": "cancelled"}
    ]
    assert await calls.items() == []


async def test_a_cancelled_occurrence_comes_with_three_fields_only(
    calls: Calls, calendar: Calendar
) -> None:
    series = calendar.add("Kurs", berlin(24, 9), recurrence=SERIES)
    token = await calls.sync_token()

    calendar.cancel_occurrence(series, berlin(25, 9))

    said = {
        "id": f"{series.id}_20261125T080000Z",
        "status": "cancelled",
        "recurringEventId": series.id,
        "originalStartTime": {
            "dateTime": "2026-11-25T09:00:00+01:00",
            "timeZone": "Europe/Berlin",
        },
    }
    assert await calls.items(syncToken=token) == [said]
    assert said in await calls.items()


async def test_only_the_last_page_has_a_sync_token(
    calls: Calls, calendar: Calendar
) -> None:
    for hour in range(5):
        calendar.add(f"Nr. {hour}", berlin(24, hour))

    first = await calls.page(maxResults=3)
    last = await calls.page(maxResults=3, pageToken=first["nextPageToken"])

    assert "nextSyncToken" not in first
    assert "nextPageToken" not in last
    assert len(first["items"]) + len(last["items"]) == 5
    assert await calls.items(syncToken=last["nextSyncToken"]) == []


async def test_changes_made_while_paging_are_in_the_next_delta(
    calls: Calls, calendar: Calendar
) -> None:
    events = [calendar.add(f"Nr. {hour}", berlin(24, hour)) for hour in range(4)]
    first = await calls.page(maxResults=2)

    calendar.rename(events[0], "mittendrin")
    calendar.cancel(events[3])
    last = await calls.page(maxResults=2, pageToken=first["nextPageToken"])

    delta = await calls.items(syncToken=last["nextSyncToken"])
    assert ids(delta) == [events[0].id, events[3].id]


async def test_a_delta_is_paged_with_its_sync_token_on_every_page(
    calls: Calls, calendar: Calendar
) -> None:
    token = await calls.sync_token()
    for hour in range(3):
        calendar.add(f"Nr. {hour}", berlin(24, hour))

    first = await calls.page(syncToken=token, maxResults=2)
    page = {"maxResults": 2, "pageToken": first["nextPageToken"]}

    assert refusal(await calls.http.get(EVENTS, params=page))[0] == 400
    last = await calls.page(syncToken=token, **page)
    assert len(last["items"]) == 1


async def test_an_empty_page_can_come_before_every_page(
    calls: Calls, calendar: Calendar, google: GoogleTwin
) -> None:
    calendar.add("doch da", berlin(24, 9))
    google.behaviour.empty_pages = True

    first = await calls.page()

    assert first["items"] == []
    assert "nextSyncToken" not in first
    assert len(await calls.items()) == 1


@pytest.mark.parametrize(
    "parameter",
    [
        {"iCalUID": "x"},
        {"orderBy": "updated"},
        {"privateExtendedProperty": "a=b"},
        {"q": "x"},
        {"sharedExtendedProperty": "a=b"},
        {"timeMin": "2026-11-01T00:00:00Z"},
        {"timeMax": "2026-11-01T00:00:00Z"},
        {"updatedMin": "2026-11-01T00:00:00Z"},
        {"showDeleted": "false"},
    ],
    ids=lambda parameter: next(iter(parameter)),
)
async def test_what_may_not_stand_beside_a_sync_token_is_refused(
    calls: Calls, parameter: dict[str, str]
) -> None:
    token = await calls.sync_token()

    answer = await calls.http.get(EVENTS, params={"syncToken": token, **parameter})

    assert refusal(answer)[0] == 400


async def test_a_sync_token_is_bound_to_its_parameters(calls: Calls) -> None:
    token = await calls.sync_token(singleEvents="true")

    answer = await calls.http.get(EVENTS, params={"syncToken": token})

    assert refusal(answer)[0] == 400


@pytest.mark.parametrize("parameter", ["q", "iCalUID", "privateExtendedProperty"])
async def test_a_filtered_first_round_ends_without_a_sync_token(
    calls: Calls, parameter: str
) -> None:
    assert "nextSyncToken" not in await calls.page(**{parameter: "a=b"})


async def test_a_windowed_first_round_ends_with_a_sync_token(
    calls: Calls, calendar: Calendar
) -> None:
    page = await calls.page(timeMin="2026-11-01T00:00:00Z")
    calendar.add("lange her", berlin(1, 9, month=1))

    delta = await calls.items(syncToken=page["nextSyncToken"])

    assert [event["summary"] for event in delta] == ["lange her"]


async def test_sync_tokens_end_with_age_and_with_a_change_of_access(
    calls: Calls,
    calendar: Calendar,
    google: GoogleTwin,
    clock: ManualClock,
    ada: Account,
) -> None:
    token = await calls.sync_token()
    calendar.share(google.account("ben@example.org"))
    answer = await calls.http.get(EVENTS, params={"syncToken": token})
    assert refusal(answer) == (410, "fullSyncRequired", "calendar")

    token = await calls.sync_token()
    clock.advance(timedelta(seconds=google.behaviour.sync_token_life_s + 1))
    fresh = {"Authorization": f"Bearer {ada.sign_in().access_token}"}
    answer = await calls.http.get(EVENTS, params={"syncToken": token}, headers=fresh)
    assert refusal(answer) == (410, "fullSyncRequired", "calendar")


async def test_a_made_up_sync_token_is_answered_like_an_expired_one(
    calls: Calls,
) -> None:
    answer = await calls.http.get(EVENTS, params={"syncToken": "erfunden"})

    assert refusal(answer) == (410, "fullSyncRequired", "calendar")


@pytest.mark.parametrize(
    ("deleted", "single", "expected"),
    [
        ("false", "false", {"series", "cancelled exception"}),
        ("false", "true", {"occurrences"}),
        (
            "true",
            "false",
            {"series", "cancelled exception", "single", "dead series"},
        ),
        (
            "true",
            "true",
            {"occurrences", "cancelled exception", "single", "dead occurrences"},
        ),
    ],
)
async def test_show_deleted_and_single_events_decide_which_cancelled_things_come(
    calls: Calls, calendar: Calendar, deleted: str, single: str, expected: set[str]
) -> None:
    series = calendar.add("lebt", berlin(24, 9), recurrence=SERIES)
    calendar.cancel_occurrence(series, berlin(25, 9))
    dead = calendar.add("tot", berlin(24, 11), recurrence=SERIES)
    calendar.cancel(dead)
    alone = calendar.add("allein", berlin(24, 12))
    calendar.cancel(alone)

    def kind(item: dict[str, Any]) -> str:
        named = {
            series.id: "series",
            f"{series.id}_20261125T080000Z": "cancelled exception",
            dead.id: "dead series",
            alone.id: "single",
        }
        alive = item["status"] != "cancelled"
        return named.get(item["id"], "occurrences" if alive else "dead occurrences")

    items = await calls.items(showDeleted=deleted, singleEvents=single)

    assert {kind(item) for item in items} == expected


async def test_cancelled_events_carry_details_only_for_who_asks_for_deleted_ones(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add("abgesagt", berlin(24, 9))
    calendar.cancel(event)

    [shown] = await calls.items(showDeleted="true")

    assert (shown["status"], shown["summary"]) == ("cancelled", "abgesagt")


async def test_expanded_deltas_cancel_the_occurrences_that_vanished(
    calls: Calls, calendar: Calendar
) -> None:
    series = calendar.add("Kurs", berlin(24, 9), recurrence=SERIES)
    token = await calls.sync_token(singleEvents="true")

    calendar.retime_series(series, berlin(24, 15))
    delta = await calls.items(syncToken=token, singleEvents="true")

    status = {item["id"].rpartition("T")[2]: item["status"] for item in delta}
    assert status == {"140000Z": "confirmed", "080000Z": "cancelled"}
    assert len(delta) == 10


async def test_exceptions_can_be_listed_before_their_series(
    calls: Calls, calendar: Calendar, google: GoogleTwin
) -> None:
    series = calendar.add("Kurs", berlin(24, 9), recurrence=SERIES)
    calendar.rename_occurrence(series, berlin(26, 9), "anders")
    google.behaviour.exceptions_first = True

    assert [e["summary"] for e in await calls.items()] == ["anders", "Kurs"]


async def test_the_window_excludes_what_only_touches_it(
    calls: Calls, calendar: Calendar
) -> None:
    calendar.add("endet am Anfang", berlin(24, 8), timedelta(hours=1))
    calendar.add("ragt hinein", berlin(24, 8), timedelta(hours=2))
    calendar.add("beginnt am Ende", berlin(24, 12))
    window = {
        "timeMin": berlin(24, 9).isoformat(),
        "timeMax": berlin(24, 12).isoformat(),
    }

    assert [e["summary"] for e in await calls.items(**window)] == ["ragt hinein"]


async def test_order_by_start_time_needs_single_events(
    calls: Calls, calendar: Calendar
) -> None:
    calendar.add("später", berlin(25, 9))
    calendar.add("täglich", berlin(24, 9), recurrence="FREQ=DAILY;COUNT=2")
    calendar.add("früher", berlin(23, 9))

    answer = await calls.http.get(EVENTS, params={"orderBy": "startTime"})
    assert refusal(answer)[0] == 400

    items = await calls.items(orderBy="startTime", singleEvents="true")
    assert [item["summary"] for item in items] == [
        "früher",
        "täglich",
        "später",
        "täglich",
    ]


async def test_times_are_shown_in_the_zone_of_the_calendar_or_of_the_call(
    calls: Calls, calendar: Calendar
) -> None:
    start = berlin(24, 9).astimezone(tz=None).astimezone(BERLIN)
    event = calendar.add("Anruf", start)
    calendar.change(
        event, start={"dateTime": "2026-11-24T03:00:00", "timeZone": "America/New_York"}
    )

    [plain] = await calls.items()
    [asked] = await calls.items(timeZone="Asia/Tokyo")

    assert plain["start"] == {
        "dateTime": "2026-11-24T09:00:00+01:00",
        "timeZone": "America/New_York",
    }
    assert asked["start"]["dateTime"] == "2026-11-24T17:00:00+09:00"


async def test_old_tombstones_are_forgotten_but_their_ids_stay_used(
    calls: Calls,
    calendar: Calendar,
    clock: ManualClock,
    google: GoogleTwin,
    ada: Account,
) -> None:
    event = calendar.add("weg", berlin(24, 9), id="abcde12345")
    calendar.cancel(event)
    clock.advance(timedelta(seconds=google.behaviour.tombstone_life_s + 1))
    calls.http.headers["Authorization"] = f"Bearer {ada.sign_in().access_token}"

    assert await calls.items(showDeleted="true") == []
    gone = await calls.http.get(f"{EVENTS}/{event.id}")
    assert refusal(gone) == (404, "notFound", "global")
    again = await calls.http.post(EVENTS, json={**event.body, "status": "confirmed"})
    assert refusal(again) == (409, "duplicate", "global")
