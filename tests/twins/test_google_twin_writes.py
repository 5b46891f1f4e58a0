"""Writes: ids, etags, preconditions, what is refused and with which words."""

from typing import Any

import pytest

from local_stack.twins.google import Account, Calendar, GoogleTwin
from tests.twins.google_calls import EVENTS, Calls, berlin, refusal, timed

ONE = f"{EVENTS}/{{}}"


async def test_a_client_may_choose_the_id_once(calls: Calls) -> None:
    made = await calls.insert(id="0123456789abcdefghijklmnopqrstuv")
    again = await calls.http.post(EVENTS, json={"id": made["id"], **timed(25, 9)})

    assert made["id"] == "0123456789abcdefghijklmnopqrstuv"
    assert refusal(again) == (409, "duplicate", "global")


async def test_a_deleted_id_can_be_neither_inserted_nor_updated(calls: Calls) -> None:
    made = await calls.insert(id="abcde")
    url = ONE.format("abcde")
    assert (await calls.http.delete(url)).status_code == 204

    assert refusal(await calls.http.post(EVENTS, json=made))[0] == 409
    patch = {"status": "confirmed"}
    assert refusal(await calls.http.patch(url, json=patch))[:2] == (403, "forbidden")
    assert refusal(await calls.http.put(url, json=timed(24, 9)))[0] == 403
    assert refusal(await calls.http.delete(url)) == (410, "deleted", "global")
    assert (await calls.http.get(url)).json()["status"] == "cancelled"


@pytest.mark.parametrize("event_id", ["abc", "ABCDE", "abcdez", "abc-de"])
async def test_an_id_outside_base32hex_is_refused(calls: Calls, event_id: str) -> None:
    answer = await calls.http.post(EVENTS, json={"id": event_id, **timed(24, 9)})

    assert refusal(answer)[:2] == (400, "invalid")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "required"),
        ({"start": {"dateTime": "2026-11-24T09:00:00Z"}}, "required"),
        ({"start": {"date": "2026-11-24"}, "end": timed(24, 9)["end"]}, "invalid"),
        (
            {"start": timed(24, 12)["start"], "end": timed(24, 9)["end"]},
            "timeRangeEmpty",
        ),
        (
            {"start": {"date": "2026-11-24"}, "end": {"date": "2026-11-24"}},
            "timeRangeEmpty",
        ),
        (
            {
                "start": {"dateTime": "2026-11-24T09:00:00"},
                "end": {"dateTime": "2026-11-24T10:00:00"},
            },
            "required",
        ),
        (
            {
                "start": {"dateTime": "2026-11-24T09:00:00", "timeZone": "Mars/Base"},
                "end": {"dateTime": "2026-11-24T10:00:00", "timeZone": "Mars/Base"},
            },
            "invalid",
        ),
        (
            {
                "start": {"dateTime": "2026-11-24T09:00:00Z"},
                "end": {"dateTime": "2026-11-24T10:00:00Z"},
                "recurrence": ["RRULE:FREQ=DAILY"],
            },
            "required",
        ),
        ({**timed(24, 9), "recurrence": ["RRULE:FREQ=SOMETIMES"]}, "invalid"),
        ({**timed(24, 9), "recurrence": ["DTSTART:20261124T090000Z"]}, "invalid"),
        ({**timed(24, 9), "attendees": [{"displayName": "wer?"}]}, "required"),
        ({**timed(24, 9), "eventType": "fromGmail"}, "invalid"),
    ],
)
async def test_events_that_make_no_sense_are_refused(
    calls: Calls, body: dict[str, Any], reason: str
) -> None:
    answer = await calls.http.post(EVENTS, json=body)

    assert refusal(answer)[:2] == (400, reason)


async def test_an_event_may_take_no_time_at_all(calls: Calls) -> None:
    moment = timed(24, 9, hours=0)

    made = await calls.insert(**moment)

    assert made["start"] == made["end"]


async def test_every_write_gives_a_new_etag_and_moves_updated(
    calls: Calls, calendar: Calendar, google: GoogleTwin
) -> None:
    event = calendar.add("eins", berlin(24, 9))
    seen = [(event.etag, event.body["updated"])]
    for title in ("zwei", "drei"):
        google.clock.advance(berlin(1, 1) - berlin(1, 0))
        calendar.rename(event, title)
        seen.append((event.etag, event.body["updated"]))

    assert len({etag for etag, _ in seen}) == 3
    assert sorted(seen, key=lambda pair: pair[1]) == seen
    assert all(etag.startswith('"') and etag.endswith('"') for etag, _ in seen)


async def test_a_stale_etag_changes_nothing(calls: Calls, calendar: Calendar) -> None:
    event = calendar.add("da", berlin(24, 9))
    url = ONE.format(event.id)
    stale = {"If-Match": event.etag}
    calendar.rename(event, "schon anders")

    for answer in (
        await calls.http.patch(url, json={"summary": "x"}, headers=stale),
        await calls.http.put(url, json=timed(24, 9), headers=stale),
        await calls.http.delete(url, headers=stale),
    ):
        assert refusal(answer) == (412, "conditionNotMet", "global")
        error = answer.json()["error"]["errors"][0]
        assert (error["locationType"], error["location"]) == ("header", "If-Match")
    assert event.title == "schon anders"

    fresh = {"If-Match": event.etag}
    assert (await calls.http.delete(url, headers=fresh)).status_code == 204


async def test_a_known_etag_is_answered_not_modified(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add("da", berlin(24, 9))

    answer = await calls.http.get(
        ONE.format(event.id), headers={"If-None-Match": event.etag}
    )

    assert (answer.status_code, answer.content) == (304, b"")


async def test_an_etag_may_change_once_more_after_a_write(
    calls: Calls, calendar: Calendar, google: GoogleTwin
) -> None:
    event = calendar.add("da", berlin(24, 9))
    before, updated = event.etag, event.body["updated"]

    calendar.touch(event)
    late = await calls.http.patch(
        ONE.format(event.id), json={"summary": "x"}, headers={"If-Match": before}
    )

    assert refusal(late)[0] == 412
    assert event.body["updated"] == updated


async def test_patch_merges_objects_replaces_arrays_and_removes_nulls(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add(
        "da",
        berlin(24, 9),
        location="hier",
        description="so",
        attendees=["a@x.example", "b@x.example"],
        extendedProperties={"private": {"a": "1", "b": "2"}},
    )
    patch = {
        "location": None,
        "attendees": [{"email": "c@x.example"}],
        "extendedProperties": {"private": {"a": None, "c": "3"}},
    }

    answer = (await calls.http.patch(ONE.format(event.id), json=patch)).json()

    assert "location" not in answer
    assert answer["description"] == "so"
    assert [a["email"] for a in answer["attendees"]] == ["c@x.example"]
    assert answer["extendedProperties"] == {"private": {"b": "2", "c": "3"}}


async def test_patching_an_all_day_event_to_a_time_must_null_the_date(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add("Tag", berlin(24, 9).date())
    url = ONE.format(event.id)

    assert refusal(await calls.http.patch(url, json=timed(24, 9)))[1] == "invalid"
    times = {key: {**value, "date": None} for key, value in timed(24, 9).items()}
    assert (await calls.http.patch(url, json=times)).status_code == 200


async def test_put_clears_what_it_does_not_name(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add(
        "da", berlin(24, 9), location="hier", attendees=["a@x.example"]
    )
    was = event.body

    answer = await calls.http.put(ONE.format(event.id), json=timed(25, 9))

    left = answer.json()
    assert not {"summary", "location", "attendees"} & left.keys()
    for key in ("id", "iCalUID", "created", "organizer"):
        assert left[key] == was[key]


async def test_a_lower_sequence_is_refused_and_a_new_time_raises_it(
    calls: Calls, calendar: Calendar
) -> None:
    event = calendar.add("da", berlin(24, 9))
    calendar.move(event, berlin(25, 9))
    assert event.body["sequence"] == 1

    calendar.rename(event, "dort")
    assert event.body["sequence"] == 1
    low = {**event.body, "sequence": 0}
    assert refusal(await calls.http.put(ONE.format(event.id), json=low))[0] == 400


async def test_long_keys_vanish_and_long_values_are_cut_without_a_word(
    calls: Calls,
) -> None:
    private = {"k" * 45: "weg", "k" * 44: "v" * 2000}

    made = await calls.insert(extendedProperties={"private": private})

    assert made["extendedProperties"]["private"] == {"k" * 44: "v" * 1024}


async def test_a_moved_event_keeps_its_id_and_leaves_a_stub(
    calls: Calls, calendar: Calendar, ada: Account
) -> None:
    team = ada.add_calendar("Team", time_zone="America/New_York")
    event = calendar.add("Planung", berlin(24, 9))
    token = await calls.sync_token()

    moved = calendar.hand_over(event, team)
    back = await calls.items(syncToken=token)

    assert (moved.id, moved.body["iCalUID"]) == (event.id, f"{event.id}@google.com")
    assert back == [{"id": event.id, "status": "cancelled"}]
    assert moved.body["start"]["dateTime"] == "2026-11-24T03:00:00-05:00"
    team.hand_over(moved, calendar)
    assert not event.cancelled


async def test_readers_may_not_write_and_strangers_see_nothing(
    google: GoogleTwin, calendar: Calendar
) -> None:
    ben, eva = google.account("ben@example.org"), google.account("eva@example.org")
    calendar.share(ben, "reader")
    event = calendar.add("geheim", berlin(24, 9), visibility="private")
    url = f"/calendars/{calendar.id}/events"

    async with Calls(google, ben.sign_in().access_token) as bens:
        assert refusal(await bens.http.post(url, json=timed(24, 9)))[:2] == (
            403,
            "requiredAccessLevel",
        )
        [seen] = await bens.items(url)
        assert (seen["id"], seen["visibility"]) == (event.id, "private")
        assert "summary" not in seen
    async with Calls(google, eva.sign_in().access_token) as evas:
        assert refusal(await evas.http.get(url)) == (404, "notFound", "global")


async def test_a_shared_calendar_shows_the_same_ids_to_both(
    google: GoogleTwin, calendar: Calendar, calls: Calls
) -> None:
    ben = google.account("ben@example.org")
    calendar.share(ben, "writer")
    event = calendar.add("gemeinsam", berlin(24, 9))

    async with Calls(google, ben.sign_in().access_token) as bens:
        assert await bens.items(f"/calendars/{calendar.id}/events") == (
            await calls.items()
        )
        listed = await bens.page("/users/me/calendarList")
    roles = {entry["id"]: entry["accessRole"] for entry in listed["items"]}
    assert roles == {"ben@example.org": "owner", calendar.id: "writer"}
    assert event.body["organizer"]["self"]


async def test_malformed_events_can_be_put_in_and_are_listed_as_they_are(
    calls: Calls, calendar: Calendar
) -> None:
    calendar.inject({"id": "nostart", "summary": "ohne Anfang"})
    calendar.inject({"id": "mars", "start": {"dateTime": "?"}, "end": None})
    calendar.add("gut", berlin(24, 9))

    assert len(await calls.items()) == 3
    assert len(await calls.items(singleEvents="true", orderBy="startTime")) == 3


async def test_a_meet_link_is_made_and_cleared_by_clients_that_know_of_them(
    calls: Calls,
) -> None:
    request = {"requestId": "r1", "conferenceSolutionKey": {"type": "hangoutsMeet"}}
    body = {**timed(24, 9), "conferenceData": {"createRequest": request}}
    knows = {"conferenceDataVersion": 1}

    ignored = (await calls.http.post(EVENTS, json=body)).json()
    made = (await calls.http.post(EVENTS, json=body, params=knows)).json()
    url = ONE.format(made["id"])
    kept = (await calls.http.put(url, json=timed(25, 9))).json()
    cleared = (await calls.http.put(url, json=timed(25, 9), params=knows)).json()

    assert "conferenceData" not in ignored
    [entry] = made["conferenceData"]["entryPoints"]
    assert entry["uri"] == made["hangoutLink"] == kept["hangoutLink"]
    assert not {"hangoutLink", "conferenceData"} & cleared.keys()
