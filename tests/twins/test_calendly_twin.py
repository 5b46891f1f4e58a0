"""The twin of Calendly does what the real one does, and what it may do."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from local_stack.twins.calendly import Behaviour, Booking, CalendlyTwin, EventType, Host
from local_stack.twins.calendly.webhooks import signature
from local_stack.twins.serve import serving
from runtime.clock import ManualClock
from tests.support.eventually import eventually
from tests.twins.booking_calls import BookingInbox

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
MONDAY = datetime(2026, 3, 9, 14, tzinfo=UTC)
MIRA = {"email": "mira@example.com", "name": "Mira Ostrow"}
IVO = {"email": "ivo@example.com", "name": "Ivo Brandt"}
ALL = [
    "invitee.created",
    "invitee.canceled",
    "invitee_no_show.created",
    "invitee_no_show.deleted",
]


class Calendly:
    """The twin, a host on it, and a receiver of her webhooks."""

    def __init__(self, twin: CalendlyTwin, http: httpx2.AsyncClient) -> None:
        self.twin = twin
        self.http = http
        self.host: Host = twin.host("ana@example.org", name="Ana Host")
        self.kind: EventType = self.host.event_type("Planning call")
        self.token = self.host.personal_token()
        self.inbox = BookingInbox()
        twin.deliver_to("https://hooks.test", httpx2.ASGITransport(self.inbox))

    async def call(
        self, method: str, path: str, *, token: str | None = None, **more: Any
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        url = path if path.startswith("http") else f"https://twin.test{path}"
        return await self.http.request(method, url, headers=headers, **more)

    async def subscribe(self, **more: Any) -> httpx2.Response:
        body = {
            "url": "https://hooks.test/a",
            "events": ALL,
            "organization": self.host.user.organization,
            "user": self.host.uri,
            "scope": "user",
            "signing_key": "k1",
            **more,
        }
        token = body.pop("token", None)
        return await self.call("POST", "/webhook_subscriptions", token=token, json=body)

    def book(self, *, days: int = 0, **more: Any) -> Booking:
        start = MONDAY + timedelta(days=days)
        return self.host.book(self.kind, start, **(MIRA | more))

    async def posted(self) -> list[dict[str, Any]]:
        await self.twin.outbox.drain()
        return [json.loads(body) for body in self.inbox.bodies]

    async def events(self) -> list[str]:
        return [one["event"] for one in await self.posted()]


@pytest.fixture
async def calendly() -> AsyncIterator[Calendly]:
    behaviour = Behaviour(retry_first_s=0.01, retry_most_s=0.02)
    async with (
        CalendlyTwin(ManualClock(NOW), behaviour) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        yield Calendly(twin, http)


async def test_a_webhook_is_signed_over_its_time_and_its_bytes(
    calendly: Calendly,
) -> None:
    assert (await calendly.subscribe()).status_code == 201
    calendly.book()
    await calendly.posted()
    (headers,), (body,) = calendly.inbox.headers, calendly.inbox.bodies
    at = int(NOW.timestamp())
    assert headers["calendly-webhook-signature"] == signature("k1", at, body)


def test_the_published_example_is_signed_as_published() -> None:
    body = b'{"event":"invitee.created","created_at":"2026-03-02T09:15:00.000000Z"}'
    v1 = "205d637306eeb18fc05e0bb16c5fd2aac8e1a740c7998346eb3c1394cbc56d9d"
    assert signature("calendly-key-demo", 1772442900, body) == f"t=1772442900,v1={v1}"


async def test_an_app_has_one_key_whatever_a_subscription_asks_for(
    calendly: Calendly,
) -> None:
    access, _ = calendly.host.sign_in()
    await calendly.subscribe(token=access)
    calendly.book()
    await calendly.posted()
    at = int(NOW.timestamp())
    body = calendly.inbox.bodies[0]
    signed = signature(calendly.twin.webhooks.app_key, at, body)
    assert calendly.inbox.headers[0]["calendly-webhook-signature"] == signed


async def test_without_a_key_a_personal_subscription_is_not_signed(
    calendly: Calendly,
) -> None:
    await calendly.subscribe(signing_key=None)
    calendly.book()
    await calendly.posted()
    assert "calendly-webhook-signature" not in calendly.inbox.headers[0]


@pytest.mark.parametrize("order", ["canceled_first", "created_first"])
async def test_a_move_is_two_deliveries_that_name_each_other(
    calendly: Calendly, order: Any
) -> None:
    await calendly.subscribe()
    calendly.twin.behaviour.reschedule_order = order
    old = calendly.book()
    new = old.reschedule(MONDAY + timedelta(days=1))
    _, *halves = await calendly.posted()
    by_event = {half["event"]: half["payload"] for half in halves}
    first = "invitee.canceled" if order == "canceled_first" else "invitee.created"
    assert halves[0]["event"] == first
    gone, made = by_event["invitee.canceled"], by_event["invitee.created"]
    assert (gone["uri"], gone["new_invitee"], gone["rescheduled"]) == (
        old.uri,
        new.uri,
        True,
    )
    assert (made["uri"], made["old_invitee"], made["rescheduled"]) == (
        new.uri,
        old.uri,
        False,
    )
    assert made["scheduled_event"]["uri"] != gone["scheduled_event"]["uri"]


async def test_the_halves_of_a_move_may_be_apart(calendly: Calendly) -> None:
    await calendly.subscribe()
    calendly.twin.behaviour.reschedule_gap_s = 0.05
    calendly.book().reschedule(MONDAY + timedelta(days=1))
    await eventually(lambda: len(calendly.inbox.bodies) == 2)
    assert await calendly.events() == [
        "invitee.created",
        "invitee.canceled",
        "invitee.created",
    ]


async def test_a_group_event_lives_on_when_one_of_two_cancels(
    calendly: Calendly,
) -> None:
    await calendly.subscribe()
    calendly.kind = calendly.host.event_type("Class", seats=5)
    mira, ivo = calendly.book(), calendly.book(**IVO)
    assert mira.event.uri == ivo.event.uri
    mira.cancel()
    canceled = (await calendly.posted())[-1]["payload"]
    assert (canceled["status"], canceled["scheduled_event"]["status"]) == (
        "canceled",
        "active",
    )
    assert canceled["scheduled_event"]["invitees_counter"] == {
        "total": 2,
        "active": 1,
        "limit": 5,
    }
    assert ivo.is_live


async def test_no_shows_are_marked_and_taken_back(calendly: Calendly) -> None:
    await calendly.subscribe()
    booking = calendly.book()
    booking.did_not_come()
    booking.came_after_all()
    _, marked, unmarked = await calendly.posted()
    assert marked["payload"]["no_show"]["uri"]
    assert (unmarked["event"], unmarked["payload"]["no_show"]) == (
        "invitee_no_show.deleted",
        None,
    )


async def test_a_failure_is_retried_with_the_time_of_the_first_attempt(
    calendly: Calendly,
) -> None:
    await calendly.subscribe()
    calendly.inbox.answers = [500, 404, 302]
    calendly.book()
    await calendly.posted()
    assert len(calendly.inbox.bodies) == 4
    assert len({h["calendly-webhook-signature"] for h in calendly.inbox.headers}) == 1
    assert [r.outcome for r in calendly.twin.pushes.log] == [
        "retrying",
        "retrying",
        "retrying",
        "delivered",
    ]


async def test_a_retry_may_also_be_signed_anew(calendly: Calendly) -> None:
    await calendly.subscribe()
    calendly.twin.behaviour.repeat_signature_time = False
    calendly.inbox.answers = [500]
    calendly.twin.pushes.listeners.append(
        lambda _: calendly.twin.clock.advance(timedelta(minutes=1))
    )
    calendly.book()
    await calendly.posted()
    assert len({h["calendly-webhook-signature"] for h in calendly.inbox.headers}) == 2


async def test_a_retry_may_also_be_dated_anew(calendly: Calendly) -> None:
    await calendly.subscribe()
    calendly.twin.behaviour.dates_each_attempt = True
    calendly.inbox.answers = [500, 500]
    calendly.twin.pushes.listeners.append(
        lambda _: calendly.twin.clock.advance(timedelta(minutes=1))
    )
    calendly.book()
    await calendly.posted()
    told = [json.loads(body) for body in calendly.inbox.bodies]
    assert len({one["created_at"] for one in told}) == 3
    assert told[0]["payload"] == told[-1]["payload"]
    assert len({h["calendly-webhook-signature"] for h in calendly.inbox.headers}) == 3


async def test_a_day_of_failures_disables_a_subscription_for_good(
    calendly: Calendly,
) -> None:
    uri = (await calendly.subscribe()).json()["resource"]["uri"]
    path = uri.removeprefix("https://api.calendly.com")
    calendly.inbox.always = 503
    calendly.book()
    await eventually(lambda: len(calendly.inbox.bodies) >= 2)
    retrying = (await calendly.call("GET", path)).json()["resource"]
    assert (retrying["state"], bool(retrying["retry_started_at"])) == ("active", True)
    calendly.twin.clock.advance(timedelta(days=1))
    await calendly.posted()
    assert (await calendly.call("GET", path)).json()["resource"]["state"] == "disabled"
    calendly.inbox.always = 200
    before = len(calendly.inbox.bodies)
    calendly.book(days=2)
    await calendly.posted()
    assert len(calendly.inbox.bodies) == before


async def test_a_success_within_the_day_keeps_a_subscription(
    calendly: Calendly,
) -> None:
    await calendly.subscribe()
    calendly.inbox.answers = [503]
    calendly.book()
    await calendly.posted()
    (subscription,) = calendly.twin.store.known.subscriptions.values()
    assert (subscription.is_active, subscription.retry_started_at) == (True, None)


async def test_the_same_url_is_refused_for_the_same_owner(calendly: Calendly) -> None:
    await calendly.subscribe()
    again = await calendly.subscribe()
    assert again.status_code == 409
    assert again.json()["message"] == "Hook with this url already exists"
    other = calendly.twin.host("bo@example.org")
    mine = {
        "token": other.personal_token(),
        "organization": other.user.organization,
        "user": other.uri,
    }
    calendly.twin.behaviour.unique_urls = "anywhere"
    assert (await calendly.subscribe(**mine)).status_code == 409
    calendly.twin.behaviour.unique_urls = "per_owner"
    assert (await calendly.subscribe(**mine)).status_code == 201


async def test_a_free_plan_has_no_webhooks(calendly: Calendly) -> None:
    calendly.host.user.has_webhooks = False
    refused = await calendly.subscribe()
    assert (refused.status_code, refused.json()["title"]) == (403, "Permission Denied")


async def test_events_with_other_scopes_go_into_other_subscriptions(
    calendly: Calendly,
) -> None:
    refused = await calendly.subscribe(events=["routing_form_submission.created"])
    assert refused.status_code == 400


async def test_lists_are_paged_by_token(calendly: Calendly) -> None:
    for day in range(5):
        calendly.book(days=day)
    seen: list[str] = []
    query: dict[str, str] = {"user": calendly.host.uri, "count": "2"}
    while True:
        answer = await calendly.call("GET", "/scheduled_events", params=query)
        page = answer.json()
        seen += [event["uri"] for event in page["collection"]]
        token = page["pagination"]["next_page_token"]
        if token is None:
            break
        query["page_token"] = token
    assert len(set(seen)) == 5


async def test_an_event_that_is_over_or_canceled_cannot_be_canceled(
    calendly: Calendly,
) -> None:
    booking = calendly.book()
    path = f"/scheduled_events/{booking.event.id}/cancellation"
    assert (await calendly.call("POST", path, json={})).status_code == 201
    refused = await calendly.call("POST", path, json={})
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "Event is already canceled",
    )
    late = calendly.book()
    calendly.twin.clock.advance(timedelta(days=30))
    path = f"/scheduled_events/{late.event.id}/cancellation"
    assert (await calendly.call("POST", path, json={})).json()["message"] == (
        "Event in the past"
    )


async def test_a_refresh_token_works_once_even_if_its_answer_is_lost(
    calendly: Calendly,
) -> None:
    _, refresh = calendly.host.sign_in(client_id="app")
    form = {
        "grant_type": "refresh_token",
        "client_id": "app",
        "refresh_token": refresh,
    }
    calendly.twin.switchboard.cut("token")
    with pytest.raises(httpx2.RemoteProtocolError):
        await calendly.http.post("https://twin.test/oauth/token", data=form)
    again = await calendly.http.post("https://twin.test/oauth/token", data=form)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


async def test_an_access_token_ends_after_two_hours(calendly: Calendly) -> None:
    access, _ = calendly.host.sign_in()
    assert (await calendly.call("GET", "/users/me", token=access)).status_code == 200
    calendly.twin.clock.advance(timedelta(hours=2))
    assert (await calendly.call("GET", "/users/me", token=access)).status_code == 401
    assert (await calendly.call("GET", "/users/me")).status_code == 200


async def test_over_quota_is_429_with_the_three_headers(calendly: Calendly) -> None:
    calendly.twin.behaviour.requests_per_minute = 2
    for _ in range(2):
        good = await calendly.call("GET", "/users/me")
    assert good.headers["x-ratelimit-remaining"] == "0"
    over = await calendly.call("GET", "/users/me")
    assert over.status_code == 429
    assert over.headers["x-ratelimit-limit"] == "2"
    assert int(over.headers["x-ratelimit-reset"]) <= 60


async def test_a_link_may_come_later_than_the_webhook(calendly: Calendly) -> None:
    await calendly.subscribe()
    calendly.twin.behaviour.links_come_later = True
    booking = calendly.book()
    told = (await calendly.posted())[0]["payload"]["scheduled_event"]["location"]
    assert (told["status"], told["join_url"]) == ("initiated", None)
    path = f"/scheduled_events/{booking.event.id}"
    read = (await calendly.call("GET", path)).json()["resource"]
    assert read["location"]["join_url"]
    assert read["calendar_event"]["external_id"]


async def test_faults_strike_calls_and_webhooks(calendly: Calendly) -> None:
    await calendly.subscribe()
    calendly.twin.switchboard.answer("users.me", 500)
    assert (await calendly.call("GET", "/users/me")).status_code == 500
    calendly.twin.switchboard.drop_pushes()
    calendly.book()
    calendly.twin.switchboard.duplicate_pushes()
    calendly.book(days=1)
    assert await calendly.events() == ["invitee.created"] * 2


async def test_what_a_twin_knows_can_be_carried_over_a_restart(
    calendly: Calendly,
) -> None:
    await calendly.subscribe()
    booking = calendly.book()
    other = CalendlyTwin(ManualClock(NOW))
    other.load(calendly.twin.dump())
    assert other.host("ana@example.org").bookings[0].uri == booking.uri
    assert other.dump() == calendly.twin.dump()


async def test_people_act_over_http_too() -> None:
    twin = CalendlyTwin(ManualClock(NOW))
    async with serving(twin) as url, httpx2.AsyncClient(base_url=url) as http:
        await http.post("/_twin/hosts", json={"email": "ana@example.org"})
        one = "/_twin/hosts/ana@example.org"
        kind = (await http.post(f"{one}/event_types", json={"name": "Call"})).json()
        body = {"event_type": kind["id"], "start": MONDAY.isoformat(), **MIRA}
        made = (await http.post(f"{one}/bookings", json=body)).json()
        later = (MONDAY + timedelta(days=1)).isoformat()
        path = f"/_twin/bookings/{made['id']}/actions"
        moved = await http.post(path, json={"action": "reschedule", "start": later})
        assert moved.json()["old_invitee"] == made["uri"]
        assert len((await http.get(f"{one}/bookings")).json()) == 2
        assert (await http.post(path, json={"action": "dance"})).status_code == 404
        assert (await http.post(path, content=b"{")).status_code == 400
        changed = await http.patch(
            "/_twin/behaviour", json={"reschedule_order": "created_first"}
        )
        assert changed.json()["reschedule_order"] == "created_first"
        await http.post("/_twin/clock", json={"advance_s": 60})
        assert (await http.get("/_twin/pushes")).json()["records"] == []


async def test_a_twin_runs_alone() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "local_stack.twins.calendly",
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
