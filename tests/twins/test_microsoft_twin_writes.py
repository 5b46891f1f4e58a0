"""Events written through the API, and what Exchange makes of them."""

from datetime import date, timedelta
from typing import Any

import pytest

from local_stack.twins.microsoft import Calendar, MicrosoftTwin
from tests.twins.graph_calls import NOVEMBER, Graph, berlin, ids, refusal, timed

WEEKLY = {
    "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["tuesday", "thursday"]},
    "range": {"type": "numbered", "startDate": "2026-11-23", "numberOfOccurrences": 3},
}


async def test_an_event_is_made_read_changed_and_deleted(graph: Graph) -> None:
    made = await graph.create(subject="Review", location={"displayName": "Room 4"})
    assert made["start"] == {
        "dateTime": "2026-11-24T09:00:00.0000000",
        "timeZone": "UTC",
    }
    path = f"/me/events/{made['id']}"
    answer = await graph.http.patch(path, json={"subject": "Budget review"})
    changed = answer.json()
    assert (changed["subject"], changed["location"]["displayName"]) == (
        "Budget review",
        "Room 4",
    )
    assert changed["changeKey"] != made["changeKey"]
    assert (await graph.http.delete(path)).status_code == 204
    assert refusal(await graph.http.delete(path)) == (404, "ErrorItemNotFound")
    assert refusal(await graph.http.get(path)) == (404, "ErrorItemNotFound")


async def test_plain_text_becomes_html(graph: Graph) -> None:
    made = await graph.create(body={"contentType": "text", "content": "Bring tea"})
    assert made["body"]["contentType"] == "html"
    assert "<div>Bring tea</div>" in made["body"]["content"]
    assert made["bodyPreview"] == "Bring tea"


async def test_a_pattern_moves_the_start_to_its_first_day(graph: Graph) -> None:
    # Asked for on a Monday, by a rule of Tuesdays and Thursdays.
    made = await graph.create(**timed(23, 10), recurrence=WEEKLY)
    assert made["type"] == "seriesMaster"
    assert made["start"]["dateTime"] == "2026-11-24T09:00:00.0000000"
    found = await graph.all(f"/me/events/{made['id']}/instances", NOVEMBER)
    assert [one["start"]["dateTime"][:10] for one in found] == [
        "2026-11-24",
        "2026-11-26",
    ]


@pytest.mark.parametrize(
    ("pattern", "days"),
    [
        ({"type": "daily", "interval": 2}, ["11-24", "11-26", "11-28"]),
        ({"type": "absoluteMonthly", "dayOfMonth": 31}, ["11-30", "12-31", "01-31"]),
        (
            {"type": "relativeMonthly", "daysOfWeek": ["friday"], "index": "last"},
            ["11-27", "12-25", "01-29"],
        ),
        ({"type": "absoluteYearly", "dayOfMonth": 24, "month": 12}, ["12-24"]),
        (
            {
                "type": "relativeYearly",
                "daysOfWeek": ["monday"],
                "index": "second",
                "month": 1,
            },
            ["01-11"],
        ),
    ],
)
async def test_patterns_mean_what_outlook_means(
    graph: Graph, pattern: dict[str, Any], days: list[str]
) -> None:
    span = {"type": "endDate", "startDate": "2026-11-24", "endDate": "2027-01-31"}
    made = await graph.create(recurrence={"pattern": pattern, "range": span})
    window = {"startDateTime": "2026-11-01", "endDateTime": "2027-03-01"}
    found = await graph.all(f"/me/events/{made['id']}/instances", window)
    starts = [one["start"]["dateTime"][5:10] for one in found]
    assert starts[: len(days)] == days


async def test_a_changed_occurrence_keeps_its_id_and_tells_its_original_start(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    second = agenda.occurrences(series)[1]
    path = f"/me/events/{second.id}"
    answer = await graph.http.patch(path, json=timed(24, 15))
    changed = answer.json()
    assert (changed["id"], changed["type"]) == (second.id, "exception")
    assert changed["originalStart"] == "2026-11-24T08:00:00.0000000Z"
    assert changed["start"]["dateTime"] == "2026-11-24T14:00:00.0000000"
    assert len(await graph.all("/me/calendarView", NOVEMBER)) == 3


async def test_an_occurrence_may_not_cross_its_neighbour(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=3")
    first = agenda.occurrences(series)[0]
    answer = await graph.http.patch(f"/me/events/{first.id}", json=timed(25, 15))
    assert refusal(answer) == (400, "ErrorOccurrenceCrossingBoundary")
    assert first.body["type"] == "occurrence"


async def test_retiming_a_series_resets_exceptions_or_keeps_them_as_switched(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=4")
    agenda.rename_occurrence(series, berlin(24, 9), "Anders")
    agenda.cancel_occurrence(series, berlin(25, 9))
    outlook.behaviour.exceptions_on_retime = "keep"
    agenda.retime_series(series, berlin(23, 11))
    found = await graph.all("/me/calendarView", NOVEMBER)
    assert [(one["subject"], one["start"]["dateTime"][8:13]) for one in found] == [
        ("Kurs", "23T10"),
        ("Anders", "24T10"),
        ("Kurs", "26T10"),
    ]
    outlook.behaviour.exceptions_on_retime = "reset"
    agenda.retime_series(series, berlin(23, 12))
    found = await graph.all("/me/calendarView", NOVEMBER)
    assert [one["subject"] for one in found] == ["Kurs"] * 4


async def test_this_and_following_is_a_trimmed_series_and_a_new_one(
    graph: Graph, agenda: Calendar
) -> None:
    series = agenda.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=4")
    kept = [one.id for one in agenda.occurrences(series)[:2]]
    new = agenda.trim_and_follow(series, berlin(25, 9), to=berlin(25, 11))
    found = await graph.all("/me/calendarView", NOVEMBER)
    assert ids(found)[:2] == kept
    assert [one["seriesMasterId"] for one in found[2:]] == [new.id, new.id]
    assert [one["start"]["dateTime"][11:13] for one in found] == [
        "08", "08", "10", "10",
    ]  # fmt: skip


async def test_a_transaction_id_makes_an_event_once(
    graph: Graph, outlook: MicrosoftTwin
) -> None:
    first = await graph.create(subject="Review", transactionId="acme-1")
    again = await graph.create(subject="Review", transactionId="acme-1")
    assert (again["id"], again["transactionId"]) == (first["id"], "acme-1")
    assert len(await graph.all("/me/events")) == 1
    outlook.behaviour.repeated_transaction = "409"
    body = {**timed(24, 10), "transactionId": "acme-1"}
    answer = await graph.http.post("/me/events", json=body)
    assert refusal(answer) == (409, "ErrorDuplicateTransactionId")


@pytest.mark.parametrize(("mode", "status"), [("412", 412), ("409", 409)])
async def test_a_stale_change_key_is_refused_as_switched(
    graph: Graph, outlook: MicrosoftTwin, mode: Any, status: int
) -> None:
    outlook.behaviour.if_match = mode
    made = await graph.create(subject="Review")
    path, etag = f"/me/events/{made['id']}", made["@odata.etag"]
    new = {"subject": "Mine"}
    first = await graph.http.patch(path, json=new, headers={"If-Match": etag})
    assert first.status_code == 200
    stale = await graph.http.patch(path, json=new, headers={"If-Match": etag})
    assert refusal(stale) == (status, "ErrorIrresolvableConflict")
    outlook.behaviour.if_match = "ignore"
    ignored = await graph.http.patch(path, json=new, headers={"If-Match": etag})
    assert ignored.status_code == 200


async def test_exchange_may_bump_a_change_key_by_itself(
    agenda: Calendar, graph: Graph
) -> None:
    event = agenda.add("Review", berlin(24, 9))
    _, link = await graph.delta()
    before = event.body
    agenda.touch(event)
    [item], _ = await graph.delta(link)
    assert item["changeKey"] != before["changeKey"]
    assert item["subject"] == before["subject"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": {"dateTime": "2026-11-24T12:00:00", "timeZone": "UTC"}},
        {"start": {"dateTime": "soon", "timeZone": "UTC"}},
        {"isAllDay": True},
        {"recurrence": {"pattern": {"type": "hourly"}, "range": {"type": "noEnd"}}},
        {"attendees": [{"emailAddress": {"name": "Nobody"}}]},
        {"attendees": [{"emailAddress": {"address": f"{n}@x"}} for n in range(501)]},
    ],
    ids=["ends first", "no time", "no midnight", "hourly", "no address", "too many"],
)
async def test_what_makes_no_sense_is_refused(
    graph: Graph, wrong: dict[str, Any]
) -> None:
    answer = await graph.http.post("/me/events", json={**timed(24, 10), **wrong})
    assert answer.status_code == 400
    assert await graph.all("/me/events") == []


async def test_an_online_meeting_has_a_link_to_join(graph: Graph) -> None:
    made = await graph.create(isOnlineMeeting=True)
    assert made["onlineMeetingProvider"] == "teamsForBusiness"
    assert made["onlineMeeting"]["joinUrl"].startswith("https://teams.microsoft.com/")


async def test_an_extended_property_is_shown_on_request_only(graph: Graph) -> None:
    known = [{"id": "String {0-0} Name supacal", "value": "7201"}]
    made = await graph.create(singleValueExtendedProperties=known)
    assert "singleValueExtendedProperties" not in made
    wish = {"$expand": "singleValueExtendedProperties($filter=id eq 'x')"}
    shown = await graph.page(f"/me/events/{made['id']}", wish)
    assert shown["singleValueExtendedProperties"] == known


async def test_a_guest_has_a_copy_with_ids_of_its_own_and_answers(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    ben = outlook.account("ben@example.org").primary
    event = agenda.add("Review", berlin(24, 9), attendees=["ben@example.org"])
    [copy] = ben.events(berlin(1, 0), berlin(30, 0))
    assert copy.id != event.id
    assert copy.body["iCalUId"] == event.body["iCalUId"]
    assert copy.body["isOrganizer"] is False
    assert copy.body["responseStatus"]["response"] == "notResponded"

    ben.answer(copy, "accepted")
    shown = await graph.page(f"/me/events/{event.id}")
    assert shown["attendees"][0]["status"]["response"] == "accepted"

    agenda.move(event, berlin(25, 9))
    assert copy.start == berlin(25, 9)
    agenda.cancel(event)
    assert copy.body["isCancelled"] is True
    assert copy.title == "Canceled: Review"


async def test_a_guest_who_deletes_or_declines_takes_nothing_from_the_organizer(
    outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    ben = outlook.account("ben@example.org").primary
    event = agenda.add("Review", berlin(24, 9), attendees=["ben@example.org"])
    [copy] = ben.events(berlin(1, 0), berlin(30, 0))
    ben.answer(copy, "declined")
    assert copy.cancelled
    assert not event.cancelled
    status = event.body["attendees"][0]["status"]
    assert status["response"] == "declined"


async def test_a_guest_sees_series_exceptions_and_deleted_occurrences(
    outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    ben = outlook.account("ben@example.org").primary
    series = agenda.add(
        "Kurs",
        berlin(23, 9),
        recurrence="FREQ=DAILY;COUNT=4",
        attendees=["ben@example.org"],
    )
    agenda.rename_occurrence(series, berlin(24, 9), "Anders")
    agenda.cancel_occurrence(series, berlin(25, 9))
    seen = ben.events(berlin(1, 0), berlin(30, 0))
    assert [one.title for one in seen] == ["Kurs", "Anders", "Kurs"]
    agenda.retime_series(series, berlin(23, 11))
    seen = ben.events(berlin(1, 0), berlin(30, 0))
    assert [one.start for one in seen] == [berlin(23 + n, 11) for n in range(4)]


async def test_whole_days_are_written_as_midnights(
    graph: Graph, agenda: Calendar
) -> None:
    zone = "W. Europe Standard Time"
    made = await graph.create(
        isAllDay=True,
        start={"dateTime": "2026-11-24T00:00:00", "timeZone": zone},
        end={"dateTime": "2026-11-26T00:00:00", "timeZone": zone},
    )
    event = agenda.event(made["id"])
    assert (event.start, event.end) == (date(2026, 11, 24), date(2026, 11, 26))
    agenda.move(event, date(2026, 11, 27))
    assert event.end - event.start == timedelta(days=2)
