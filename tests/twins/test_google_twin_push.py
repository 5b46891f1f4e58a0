"""Watch channels and the pushes they bring."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from local_stack.twins.google import Account, Calendar, GoogleTwin
from local_stack.twins.switchboard import Fault, FaultKind
from runtime.clock import ManualClock
from tests.support.eventually import eventually
from tests.twins.google_calls import Calls, Inbox, berlin, refusal


async def test_a_channel_says_hello_with_number_one_and_every_header(
    google: GoogleTwin, calls: Calls, inbox: Inbox
) -> None:
    answer = await calls.watch(token="v1.secret", params={"ttl": "3600"})
    channel = answer.json()
    await google.pushes.drain()

    assert channel == {
        "kind": "api#channel",
        "id": channel["id"],
        "resourceId": channel["resourceId"],
        "resourceUri": "https://www.googleapis.com/calendar/v3/calendars/primary/events?alt=json",
        "token": "v1.secret",
        "expiration": "1795266000000",
    }
    [headers] = inbox.received
    goog = {k: v for k, v in headers.items() if k.startswith("x-goog-")}
    assert goog == {
        "x-goog-channel-id": channel["id"],
        "x-goog-channel-token": "v1.secret",
        "x-goog-channel-expiration": "Sat, 21 Nov 2026 13:00:00 GMT",
        "x-goog-message-number": "1",
        "x-goog-resource-id": channel["resourceId"],
        "x-goog-resource-state": "sync",
        "x-goog-resource-uri": channel["resourceUri"],
    }
    assert headers["content-length"] == "0"
    assert headers["content-type"] == "application/json; utf-8"
    assert headers["user-agent"].startswith("APIs-Google")
    assert inbox.bodies == [b""]


async def test_the_hello_may_come_before_the_watch_call_has_returned(
    google: GoogleTwin, calls: Calls, inbox: Inbox
) -> None:
    google.behaviour.hello_before_answer = True
    seen_at_answer: list[int] = []

    async def watch() -> None:
        await calls.watch()
        seen_at_answer.append(len(inbox.received))

    await watch()

    assert seen_at_answer == [1]


async def test_every_live_channel_hears_of_a_change_with_growing_numbers(
    google: GoogleTwin, calls: Calls, inbox: Inbox, calendar: Calendar
) -> None:
    first = (await calls.watch()).json()
    second = (await calls.watch()).json()
    assert first["resourceId"] == second["resourceId"]

    event = calendar.add("neu", berlin(24, 9))
    calendar.rename(event, "anders")
    calendar.cancel(event)
    await google.pushes.drain()

    for channel in (first, second):
        assert inbox.states(channel["id"]) == ["sync", "exists", "exists", "exists"]
    mine = [
        int(h["x-goog-message-number"])
        for h in inbox.received
        if h["x-goog-channel-id"] == first["id"]
    ]
    assert mine == sorted(set(mine))
    assert mine[0] == 1


async def test_one_action_is_one_push_however_many_records_it_writes(
    google: GoogleTwin, calls: Calls, inbox: Inbox, calendar: Calendar
) -> None:
    series = calendar.add("Kurs", berlin(24, 9), recurrence="FREQ=DAILY;COUNT=9")
    for day in (25, 26, 27):
        calendar.rename_occurrence(series, berlin(day, 9), "anders")
    await calls.watch()

    calendar.cancel(series)
    await google.pushes.drain()

    assert inbox.states() == ["sync", "exists"]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_is_retried_with_the_same_number(
    google: GoogleTwin, calls: Calls, inbox: Inbox, status: int
) -> None:
    inbox.answers = [status, status]

    await calls.watch()
    await google.pushes.drain()

    assert inbox.numbers() == [1, 1, 1]
    log = google.pushes.log
    assert [(r.attempt, r.status, r.outcome) for r in log] == [
        (1, status, "retrying"),
        (2, status, "retrying"),
        (3, 200, "delivered"),
    ]
    assert all(r.answered_at and r.answered_at >= r.sent_at for r in log)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 429, 501])
async def test_any_other_answer_is_a_failure_and_is_not_retried(
    google: GoogleTwin, calls: Calls, inbox: Inbox, status: int
) -> None:
    inbox.answers = [status]

    await calls.watch()
    await google.pushes.drain()

    assert inbox.numbers() == [1]
    assert google.pushes.log[0].outcome == "refused"


async def test_a_retry_is_given_up_after_its_limit(
    google: GoogleTwin, calls: Calls, inbox: Inbox
) -> None:
    google.behaviour.retry_limit = 2
    inbox.answers = [503] * 9

    await calls.watch()
    await google.pushes.drain()

    assert [r.outcome for r in google.pushes.log] == ["retrying", "retrying", "refused"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"id": ""}, "required"),
        ({"id": "ada@example.org"}, "invalid"),
        ({"id": "a.b"}, "invalid"),
        ({"id": "x" * 65}, "invalid"),
        ({"type": "email"}, "push.channelTypeNotSupported"),
        ({"address": "http://hooks.test/g"}, "push.webhookUrlNotHttps"),
        ({"address": ""}, "required"),
        ({"token": "x" * 257}, "invalid"),
        ({"params": {"ttl": "soon"}}, "invalid"),
        ({"params": {"ttl": "-5"}}, "invalid"),
        ({"expiration": "1700000000000"}, "invalid"),
    ],
)
async def test_a_channel_google_would_not_open_is_refused(
    calls: Calls, body: dict[str, Any], reason: str
) -> None:
    assert refusal(await calls.watch(**body))[:2] == (400, reason)


async def test_loopback_addresses_are_taken_over_http_unless_told_otherwise(
    google: GoogleTwin, calls: Calls
) -> None:
    local = "http://127.0.0.1:9/g"
    assert (await calls.watch(address=local)).status_code == 200

    google.behaviour.loopback_http = False
    assert refusal(await calls.watch(address=local))[1] == "push.webhookUrlNotHttps"


async def test_a_channel_id_is_never_used_twice_even_after_its_stop(
    calls: Calls, inbox: Inbox
) -> None:
    channel = (await calls.watch()).json()
    stop = {"id": channel["id"], "resourceId": channel["resourceId"]}
    assert (await calls.http.post("/channels/stop", json=stop)).status_code == 204

    again = await calls.watch(id=channel["id"])

    assert refusal(again)[:2] == (400, "channelIdNotUnique")


async def test_generated_calendars_cannot_be_watched_and_unknown_ones_not_found(
    calls: Calls, ada: Account
) -> None:
    holidays = ada.add_calendar("Feiertage", generated=True)

    refused = await calls.watch(f"/calendars/{holidays.id}/events")
    unknown = await calls.watch("/calendars/nobody@example.org/events")

    assert refusal(refused) == (
        400,
        "pushNotSupportedForRequestedResource",
        "calendar",
    )
    assert refusal(unknown)[0] == 404


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({}, 604_800),
        ({"params": {"ttl": "3600"}}, 3600),
        ({"params": {"ttl": "99999999"}}, 604_800),
        ({"params": {"ttl": "7200"}, "expiration": 1795266000000}, 3600),
    ],
)
async def test_the_stricter_of_wish_and_limit_decides_how_long_a_channel_lives(
    calls: Calls, clock: ManualClock, body: dict[str, Any], seconds: int
) -> None:
    channel = (await calls.watch(**body)).json()

    granted = int(channel["expiration"]) / 1000 - clock.now().timestamp()
    assert granted == seconds


async def test_an_expired_channel_falls_silent(
    google: GoogleTwin,
    calls: Calls,
    inbox: Inbox,
    calendar: Calendar,
    clock: ManualClock,
) -> None:
    await calls.watch(params={"ttl": "3600"})
    clock.advance(timedelta(seconds=3600))

    calendar.add("ungehört", berlin(24, 9))
    await google.pushes.drain()

    assert inbox.states() == ["sync"]


async def test_a_stopped_channel_goes_on_sending_for_a_moment(
    google: GoogleTwin,
    calls: Calls,
    inbox: Inbox,
    calendar: Calendar,
    clock: ManualClock,
) -> None:
    google.behaviour.linger_after_stop_s = 2
    channel = (await calls.watch()).json()
    stop = {"id": channel["id"], "resourceId": channel["resourceId"]}

    async def stopped() -> int:
        return (await calls.http.post("/channels/stop", json=stop)).status_code

    assert (await stopped(), await stopped()) == (204, 204)
    calendar.add("noch gehört", berlin(24, 9))
    clock.advance(timedelta(seconds=2))
    calendar.add("nicht mehr", berlin(24, 9))
    await google.pushes.drain()

    assert inbox.states() == ["sync", "exists"]
    assert await stopped() == 404


async def test_only_who_opened_a_channel_may_stop_it(
    google: GoogleTwin, calls: Calls, calendar: Calendar
) -> None:
    ben = google.account("ben@example.org")
    calendar.share(ben)
    channel = (await calls.watch()).json()
    stop = {"id": channel["id"], "resourceId": channel["resourceId"]}

    async with Calls(google, ben.sign_in().access_token) as bens:
        refused = await bens.http.post("/channels/stop", json=stop)
    wrong = await calls.http.post("/channels/stop", json={**stop, "resourceId": "x"})

    assert refused.status_code == 403
    assert wrong.status_code == 404


async def test_pushes_can_be_lost_doubled_and_reordered(
    google: GoogleTwin, calls: Calls, inbox: Inbox, calendar: Calendar
) -> None:
    await calls.watch()
    await google.pushes.drain()

    google.switchboard.drop_pushes()
    calendar.add("verloren", berlin(24, 9))
    await google.pushes.drain()
    assert (inbox.states(), google.pushes.log[-1].outcome) == (["sync"], "dropped")

    google.switchboard.duplicate_pushes()
    calendar.add("doppelt", berlin(24, 9))
    await google.pushes.drain()
    assert inbox.numbers()[1] == inbox.numbers()[2]

    google.switchboard.reorder_pushes()
    calendar.add("überholt", berlin(24, 9))
    calendar.add("überholend", berlin(24, 9))
    await google.pushes.drain()
    assert inbox.numbers()[3] > inbox.numbers()[4]


async def test_a_delayed_push_comes_late(
    google: GoogleTwin, calls: Calls, inbox: Inbox, calendar: Calendar
) -> None:
    await calls.watch()
    await google.pushes.drain()
    google.switchboard.delay_pushes(0.05)

    calendar.add("später", berlin(24, 9))
    calendar.add("gleich", berlin(24, 9))
    await google.pushes.drain()

    assert inbox.numbers()[1] > inbox.numbers()[2]


async def test_a_late_etag_is_announced_like_any_change(
    google: GoogleTwin, calls: Calls, inbox: Inbox, calendar: Calendar
) -> None:
    await calls.watch()
    google.behaviour.late_etag_s = 0.01
    event = calendar.add("neu", berlin(24, 9))
    etag = event.etag

    await eventually(lambda: inbox.states() == ["sync", "exists", "exists"])

    assert event.etag != etag


async def test_a_channel_whose_answer_was_lost_still_says_hello(
    google: GoogleTwin, calls: Calls, inbox: Inbox
) -> None:
    google.switchboard.add(Fault(kind=FaultKind.CUT_AFTER, operation="events.watch"))
    channel_id = str(uuid4())

    with pytest.raises(Exception, match="cut the connection"):
        await calls.watch(id=channel_id)
    await google.pushes.drain()

    assert inbox.states(channel_id) == ["sync"]


async def test_a_receiver_that_hangs_is_given_up(
    google: GoogleTwin, calls: Calls
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    google.behaviour.push_timeout_s = 0.05

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await calls.watch(address=f"http://127.0.0.1:{port}/g")
        await google.pushes.drain()
        await google.pushes.aclose()

    assert google.pushes.log[0].outcome == "lost"
