"""The twin of Cal.com does what one version or another of the real one does."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from local_stack.twins.calcom import Booked, CalcomTwin
from local_stack.twins.calcom.webhooks import signature
from local_stack.twins.serve import serving
from runtime.clock import ManualClock
from tests.twins.booking_calls import BookingInbox

NOW = datetime(2026, 5, 20, 8, tzinfo=UTC)
MONDAY = datetime(2026, 5, 25, 9, 30, tzinfo=UTC)
MIRA = {"email": "mira@example.com", "name": "Mira Ostrow"}
IVO = {"email": "ivo@example.com", "name": "Ivo Brandt"}
VERSION = {"cal-api-version": "2024-08-13"}
DAY = timedelta(days=1)


class Calcom:
    """The twin, a host on it, and a receiver of her webhook."""

    def __init__(self, twin: CalcomTwin, http: httpx2.AsyncClient) -> None:
        self.twin = twin
        self.http = http
        self.host = twin.host("ana@example.org", name="Ana Host")
        self.kind = self.host.event_type("30 min")
        self.key = self.host.api_key()
        self.inbox = BookingInbox()
        twin.deliver_to("https://hooks.test", httpx2.ASGITransport(self.inbox))
        self.webhook = self.host.add_webhook("https://hooks.test/c", secret="s1")

    async def call(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.key}", **VERSION}
        url = f"https://twin.test/v2{path}"
        return await self.http.request(method, url, headers=headers, **more)

    def book(self, *, days: int = 0, **more: Any) -> Booked:
        return self.host.book(self.kind, MONDAY + days * DAY, **(MIRA | more))

    async def posted(self) -> list[dict[str, Any]]:
        await self.twin.outbox.drain()
        return [json.loads(body) for body in self.inbox.bodies]

    async def told(self) -> list[tuple[str, str]]:
        return [
            (one["triggerEvent"], one.get("payload", one).get("status"))
            for one in await self.posted()
        ]


@pytest.fixture
async def calcom() -> AsyncIterator[Calcom]:
    async with (
        CalcomTwin(ManualClock(NOW)) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        yield Calcom(twin, http)


async def test_a_webhook_is_signed_over_its_bytes(calcom: Calcom) -> None:
    calcom.book()
    await calcom.posted()
    (headers,), (body,) = calcom.inbox.headers, calcom.inbox.bodies
    assert headers["x-cal-signature-256"] == signature("s1", body)
    assert headers["x-cal-webhook-version"] == "2021-10-20"
    assert body.startswith(b'{"triggerEvent":"BOOKING_CREATED","createdAt":"2026-')


def test_the_published_example_is_signed_as_published() -> None:
    body = (
        '{"triggerEvent":"PING","createdAt":"2026-03-02T09:15:00.000Z",'
        '"payload":{"title":"Zoë"}}'
    ).encode()
    published = "756a3293d65892caa62a3dd8d417da17a4797b3a9821c086d5f071c97b9b35a7"
    assert signature("cal-secret-demo", body) == published


async def test_without_a_secret_the_header_says_so(calcom: Calcom) -> None:
    calcom.webhook.secret = None
    calcom.twin.behaviour.version_header = False
    calcom.book()
    await calcom.posted()
    assert calcom.inbox.headers[0]["x-cal-signature-256"] == "no-secret-provided"
    assert "x-cal-webhook-version" not in calcom.inbox.headers[0]


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_delivery_is_never_sent_again(calcom: Calcom, status: int) -> None:
    calcom.inbox.always = status
    calcom.book()
    await calcom.posted()
    assert len(calcom.inbox.bodies) == 1
    assert [record.outcome for record in calcom.twin.pushes.log] == ["given_up"]


async def test_one_url_at_two_levels_is_told_twice_with_each_secret(
    calcom: Calcom,
) -> None:
    calcom.host.add_webhook("https://hooks.test/c", secret="s2")
    calcom.book()
    await calcom.posted()
    assert {h["x-cal-signature-256"] for h in calcom.inbox.headers} == {
        signature(secret, calcom.inbox.bodies[n])
        for n, secret in enumerate(["s1", "s2"])
    }


async def test_a_move_has_a_new_uid_and_nobody_is_told_of_the_old(
    calcom: Calcom,
) -> None:
    first = calcom.book()
    second = first.reschedule(MONDAY + DAY)
    third = second.reschedule(MONDAY + 2 * DAY)
    assert [t for t, _ in await calcom.told()] == [
        "BOOKING_CREATED",
        "BOOKING_RESCHEDULED",
        "BOOKING_RESCHEDULED",
    ]
    _, one, two = [body["payload"] for body in await calcom.posted()]
    assert (one["uid"], one["rescheduleUid"]) == (second.uid, first.uid)
    assert (two["uid"], two["rescheduleUid"]) == (third.uid, second.uid)
    assert one["iCalUID"] == two["iCalUID"] == f"{first.uid}@Cal.com"
    assert (one["iCalSequence"], two["iCalSequence"]) == (1, 2)
    assert first.row.status == "CANCELLED"


async def test_a_request_is_approved_or_declined_under_the_same_uid(
    calcom: Calcom,
) -> None:
    calcom.kind = calcom.host.event_type("Ask me", needs_approval=True)
    approved, declined = calcom.book(), calcom.book(days=1)
    approved.approve()
    declined.decline()
    assert await calcom.told() == [
        ("BOOKING_REQUESTED", "PENDING"),
        ("BOOKING_REQUESTED", "PENDING"),
        ("BOOKING_CREATED", "ACCEPTED"),
        ("BOOKING_REJECTED", "REJECTED"),
    ]
    bodies = [body["payload"] for body in await calcom.posted()]
    assert bodies[2]["uid"] == bodies[0]["uid"] == approved.uid


async def test_a_move_that_needs_approval_cancels_the_old_one_in_silence(
    calcom: Calcom,
) -> None:
    calcom.kind = calcom.host.event_type("Ask me", needs_approval=True)
    old = calcom.book()
    old.approve()
    new = old.reschedule(MONDAY + DAY)
    assert (old.row.status, new.row.status) == ("CANCELLED", "PENDING")
    last = (await calcom.posted())[-1]
    assert last["triggerEvent"] == "BOOKING_REQUESTED"
    assert last["payload"]["rescheduleUid"] == old.uid
    new.approve()
    approved = (await calcom.posted())[-1]["payload"]
    assert approved["uid"] == new.uid
    assert "rescheduleUid" not in approved


async def test_a_payment_due_says_accepted_and_its_end_has_other_metadata(
    calcom: Calcom,
) -> None:
    calcom.kind = calcom.host.event_type("Paid", needs_payment=True)
    booked = calcom.book(metadata={"barkbookPetId": "p1"})
    assert booked.row.status == "PENDING"
    booked.pay()
    assert await calcom.told() == [
        ("BOOKING_PAYMENT_INITIATED", "ACCEPTED"),
        ("BOOKING_CREATED", "ACCEPTED"),
        ("BOOKING_PAID", "ACCEPTED"),
    ]
    assert "barkbookPetId" not in (await calcom.posted())[-1]["payload"]["metadata"]


async def test_a_cancellation_is_told_before_the_row_shows_it(calcom: Calcom) -> None:
    booked = calcom.book()
    calcom.twin.clock.advance(timedelta(minutes=1))
    booked.cancel(by="ana@example.org", reason="ill")
    assert (await calcom.told())[-1] == ("BOOKING_CANCELLED", "CANCELLED")
    path = f"/bookings/{booked.uid}"
    assert (await calcom.call("GET", path)).json()["data"]["status"] == "accepted"
    listed = (await calcom.call("GET", "/bookings")).json()["data"]
    assert [one["status"] for one in listed] == ["accepted"]
    calcom.twin.clock.advance(timedelta(seconds=5))
    assert (await calcom.call("GET", path)).json()["data"]["status"] == "cancelled"


async def test_a_booking_is_told_before_its_row_knows_where_it_is(
    calcom: Calcom,
) -> None:
    booked = calcom.book(metadata={"barkbookPetId": "p1"})
    path = f"/bookings/{booked.uid}"
    early = (await calcom.call("GET", path)).json()["data"]
    assert (early["location"], early["metadata"]) == ("", {})
    calcom.twin.clock.advance(timedelta(seconds=5))
    late = (await calcom.call("GET", path)).json()["data"]
    assert late["metadata"] == {"barkbookPetId": "p1"}
    assert late["updatedAt"] > early["updatedAt"]


async def test_seats_share_a_uid_and_one_of_them_can_be_cancelled(
    calcom: Calcom,
) -> None:
    calcom.kind = calcom.host.event_type("Class", seats=3)
    mira, ivo = calcom.book(), calcom.book(**IVO)
    assert mira.uid == ivo.uid
    mira.cancel()
    last = (await calcom.posted())[-1]["payload"]
    assert (last["status"], last["attendeeSeatId"]) == ("CANCELLED", mira.seat_id)
    assert [one["email"] for one in last["attendees"]] == ["mira@example.com"]
    assert "cancelledBy" not in last
    assert (mira.is_live, ivo.is_live) == (False, True)


async def test_a_seat_moves_alone_and_keeps_its_id(calcom: Calcom) -> None:
    calcom.kind = calcom.host.event_type("Class", seats=3)
    mira, ivo = calcom.book(), calcom.book(**IVO)
    moved = mira.reschedule(MONDAY + DAY)
    assert moved.uid != ivo.uid
    last = (await calcom.posted())[-1]["payload"]
    assert (last["attendeeSeatId"], last["rescheduleUid"]) == (mira.seat_id, ivo.uid)
    assert ivo.is_live


async def test_a_series_is_told_one_by_one_and_its_end_by_one(calcom: Calcom) -> None:
    starts = [MONDAY + week * timedelta(weeks=1) for week in range(4)]
    series = calcom.host.book_series(calcom.kind, starts, **MIRA)
    assert len({one.uid for one in series}) == 4
    assert len(await calcom.posted()) == 4
    series[1].cancel_series(reason="moved away")
    assert len(await calcom.posted()) == 5
    assert not any(one.is_live for one in series)
    calcom.twin.clock.advance(timedelta(minutes=1))
    path = f"/bookings/{series[0].row.series_uid}"
    shown = (await calcom.call("GET", path)).json()["data"]
    assert [one["status"] for one in shown] == ["cancelled"] * 4


@pytest.mark.parametrize("flat", [True, False])
async def test_meetings_are_told_flat_or_nested(calcom: Calcom, flat: bool) -> None:
    calcom.twin.behaviour.flat_meetings = flat
    booked = calcom.book()
    booked.take_place()
    _, started, ended = await calcom.posted()
    assert (started["triggerEvent"], ended["triggerEvent"]) == (
        "MEETING_STARTED",
        "MEETING_ENDED",
    )
    assert ("payload" in started) is not flat
    assert (started if flat else started["payload"])["uid"] == booked.uid


async def test_later_payloads_may_be_partial_with_the_same_uid(calcom: Calcom) -> None:
    calcom.twin.behaviour.partial = True
    calcom.twin.behaviour.reschedule_keeps_uid = True
    booked = calcom.book()
    moved = booked.reschedule(MONDAY + DAY)
    assert moved.uid == booked.uid
    whole, part = [body["payload"] for body in await calcom.posted()]
    assert whole["uid"] == part["uid"]
    assert "title" in whole
    assert "title" not in part
    assert part["startTime"] == "2026-05-26T09:30:00Z"


async def test_times_have_the_forms_of_their_triggers(calcom: Calcom) -> None:
    booked = calcom.book()
    booked.cancel()
    created, cancelled = [body["payload"] for body in await calcom.posted()]
    assert created["startTime"] == "2026-05-25T09:30:00Z"
    assert cancelled["startTime"] == "2026-05-25T09:30:00+00:00"


@pytest.mark.parametrize(
    ("template", "content_type", "body"),
    [
        ('{"what":"{{title}}"}', "application/json", b'{"what":"30 min"}'),
        ('{"who":"{{organizer.name}}"}', "application/json", b"false"),
        ("what={{title}}", "application/x-www-form-urlencoded", b"what=30 min"),
    ],
)
async def test_a_template_changes_the_body_with_its_traps(
    calcom: Calcom, template: str, content_type: str, body: bytes
) -> None:
    calcom.host.user.name = 'Ana "Host"'
    calcom.webhook.template = template
    calcom.book()
    await calcom.twin.outbox.drain()
    assert calcom.inbox.bodies == [body]
    assert calcom.inbox.headers[0]["content-type"] == content_type
    assert calcom.inbox.headers[0]["x-cal-signature-256"] == signature("s1", body)


async def test_a_ping_is_of_no_booking(calcom: Calcom) -> None:
    calcom.host.ping(calcom.webhook)
    (ping,) = await calcom.posted()
    assert ping["triggerEvent"] == "PING"
    assert "uid" not in ping["payload"]


async def test_what_was_dropped_is_found_by_what_was_updated_since(
    calcom: Calcom,
) -> None:
    calcom.twin.switchboard.drop_pushes()
    calcom.book()
    assert await calcom.posted() == []
    calcom.twin.clock.advance(timedelta(minutes=15))
    query = {"afterUpdatedAt": NOW.isoformat(), "sortUpdatedAt": "asc"}
    found = (await calcom.call("GET", "/bookings", params=query)).json()
    assert found["pagination"]["totalItems"] == 1
    query["afterUpdatedAt"] = (NOW + timedelta(minutes=10)).isoformat()
    found = (await calcom.call("GET", "/bookings", params=query)).json()
    assert found["data"] == []


@pytest.mark.parametrize(("ids", "kind"), [("number", int), ("text", str)])
async def test_webhooks_have_ids_of_either_kind(
    calcom: Calcom, ids: Any, kind: type
) -> None:
    calcom.twin.behaviour.webhook_ids = ids
    body = {"subscriberUrl": "https://hooks.test/x", "triggers": ["BOOKING_CREATED"]}
    made = (await calcom.call("POST", "/webhooks", json=body)).json()["data"]
    assert isinstance(made["id"], kind)
    path = f"/webhooks/{made['id']}"
    changed = await calcom.call("PATCH", path, json={"secret": "s9"})
    assert changed.json()["data"]["secret"] == "s9"
    assert (await calcom.call("POST", "/webhooks", json=body)).status_code == 409
    assert (await calcom.call("DELETE", path)).status_code == 200
    gone = (await calcom.call("GET", path)).json()
    assert (gone["status"], gone["error"]["code"]) == ("error", "NotFoundException")


async def test_a_host_must_say_why_and_nothing_ends_twice(calcom: Calcom) -> None:
    booked = calcom.book()
    path = f"/bookings/{booked.uid}/cancel"
    assert (await calcom.call("POST", path, json={})).status_code == 400
    why = {"cancellationReason": "ill"}
    assert (await calcom.call("POST", path, json=why)).status_code == 200
    again = await calcom.call("POST", path, json=why)
    assert "already been cancelled" in again.json()["error"]["message"]


async def test_over_quota_is_429_with_suffixed_headers(calcom: Calcom) -> None:
    calcom.twin.behaviour.requests_per_minute = 1
    await calcom.call("GET", "/me")
    over = await calcom.call("GET", "/me")
    assert over.status_code == 429
    assert over.headers["x-ratelimit-limit-default"] == "1"
    resets_at = int(over.headers["x-ratelimit-reset-default"])
    assert 0 < resets_at - NOW.timestamp() <= 60


async def test_bookings_can_be_made_moved_and_marked_by_api(calcom: Calcom) -> None:
    body = {
        "eventTypeId": calcom.kind.id,
        "start": "2026-05-25T09:30:00Z",
        "attendee": {**MIRA, "timeZone": "UTC"},
        "metadata": {"supacal": "m1"},
    }
    made = (await calcom.call("POST", "/bookings", json=body)).json()["data"]
    one = f"/bookings/{made['uid']}"
    to = {"start": "2026-05-26T09:30:00Z"}
    moved = (await calcom.call("POST", f"{one}/reschedule", json=to)).json()["data"]
    assert moved["rescheduledFromUid"] == made["uid"]
    absent = {"attendees": [{"email": MIRA["email"], "absent": True}]}
    one = f"/bookings/{moved['uid']}"
    await calcom.call("POST", f"{one}/mark-absent", json=absent)
    assert [trigger for trigger, _ in await calcom.told()] == [
        "BOOKING_CREATED",
        "BOOKING_RESCHEDULED",
        "BOOKING_NO_SHOW_UPDATED",
    ]
    references = (await calcom.call("GET", f"{one}/references")).json()["data"]
    assert {one["type"] for one in references} == {"google_calendar", "daily_video"}


@pytest.mark.parametrize("app", ["google_calendar", "office365_calendar", None])
async def test_a_booking_names_its_event_in_the_hosts_calendar_after_a_while(
    calcom: Calcom, app: str | None
) -> None:
    calcom.host.user.calendar = app
    booked = calcom.book()
    one = f"/bookings/{booked.uid}/references"

    async def named() -> dict[str, str]:
        told = (await calcom.call("GET", one)).json()["data"]
        return {
            reference["type"]: reference["eventUid"]
            for reference in told
            if reference["type"] != "daily_video"
        }

    assert await named() == {}  # the webhook leaves before it is there
    calcom.twin.clock.advance(timedelta(seconds=6))
    assert set(await named()) == ({app} if app else set())
    if app:
        booked.put_into_calendar("AAMk-1")
        assert await named() == {app: "AAMk-1"}


async def test_what_a_twin_knows_can_be_carried_over_a_restart(calcom: Calcom) -> None:
    booked = calcom.book()
    booked.cancel()
    other = CalcomTwin(ManualClock(NOW))
    other.load(calcom.twin.dump())
    assert other.host("ana@example.org").bookings[0].uid == booked.uid
    assert other.dump() == calcom.twin.dump()


async def test_people_act_over_http_too() -> None:
    twin = CalcomTwin(ManualClock(NOW))
    async with serving(twin) as url, httpx2.AsyncClient(base_url=url) as http:
        await http.post("/_twin/hosts", json={"email": "ana@example.org"})
        one = "/_twin/hosts/ana@example.org"
        kind = (await http.post(f"{one}/event_types", json={"title": "Call"})).json()
        body = {"event_type": kind["id"], "start": MONDAY.isoformat(), **MIRA}
        made = (await http.post(f"{one}/bookings", json=body)).json()
        path = f"/_twin/bookings/{made['uid']}/actions"
        later = (MONDAY + DAY).isoformat()
        moved = await http.post(path, json={"action": "reschedule", "start": later})
        assert moved.json()["from_uid"] == made["uid"]
        again = await http.post(path, json={"action": "cancel"})
        assert (again.status_code, again.json()["error"]["code"]) == (
            400,
            "BadRequestException",
        )
        assert (await http.post(path, json={"action": "dance"})).status_code == 404


async def test_a_twin_runs_alone() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "local_stack.twins.calcom",
        "--host",
        "ana@example.org",
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        async with httpx2.AsyncClient() as http:
            state = await http.get(f"{ready['url']}/_twin/state")
        assert state.json()["hosts"] == ["ana@example.org"]
    finally:
        process.terminate()
        assert await process.wait() == 0
