"""The adapter against the Cal.com twin, in process: calls and deliveries."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from local_stack.twins.calcom import Booked, CalcomTwin
from providers import errors
from providers.bookings import Booking
from providers.calcom.bookings import read_delivery
from providers.calcom.client import CalcomClient
from providers.calcom.receiver import CalcomReceiver
from providers.errors import CustomTemplate
from providers.model import Malformed
from runtime.clock import ManualClock
from runtime.sealing import Keyring
from tests.support.booking_join import Joined, join
from tests.twins.booking_calls import BookingInbox

NOW = datetime(2026, 5, 20, 8, tzinfo=UTC)
MONDAY = datetime(2026, 5, 25, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)
LONG_AGO = NOW - 30 * DAY
KEYRING = Keyring.parse(Keyring.generate())
CHANNEL = uuid4()
ADDRESS = f"https://hooks.test/webhooks/calcom/{CHANNEL}"
MIRA = {"email": "mira@example.com", "name": "Mira Ostrow"}
IVO = {"email": "ivo@example.com", "name": "Ivo Brandt"}


class Calcom:
    """The twin, a host on it, and a client with her key."""

    def __init__(self, twin: CalcomTwin, http: httpx2.AsyncClient) -> None:
        self.twin = twin
        self.host = twin.host("ana@example.org", name="Ana Host")
        self.kind = self.host.event_type("30 min")
        self.key = self.host.api_key()
        self.client = CalcomClient(
            http, "https://twin.test/v2", self._access_token, clock=twin.clock
        )
        self.inbox = BookingInbox()
        twin.deliver_to("https://hooks.test", httpx2.ASGITransport(self.inbox))

    async def _access_token(self) -> str:
        return self.key

    def book(self, *, days: int = 0, **more: Any) -> Booked:
        return self.host.book(self.kind, MONDAY + days * DAY, **(MIRA | more))

    async def watch(self, key: str | None = None) -> str:
        signing_key = key or KEYRING.signing_keys(CHANNEL)[0]
        channel = await self.client.watch(
            channel_id=CHANNEL, address=ADDRESS, signing_key=signing_key
        )
        return channel.resource_id

    async def delivered(self) -> list[Booking]:
        """Read what was posted as the receiver and the worker would."""
        await self.twin.outbox.drain()
        bookings: list[Booking] = []
        for headers, body in zip(self.inbox.headers, self.inbox.bodies, strict=True):
            for notification in CalcomReceiver().read(
                headers,
                body,
                keyring=KEYRING,
                now=self.twin.clock.now(),
                channel_id=CHANNEL,
            ):
                assert "not-for-keeping" not in str(notification.body)
                found = read_delivery(notification.body or "")
                assert isinstance(found, list), found.reason
                bookings += found
        return bookings

    async def swept(self, since: datetime = LONG_AGO) -> list[Booking]:
        found: list[Booking | Malformed] = []
        token: str | None = None
        while True:
            page = await self.client.sweep(
                updated_since=since,
                starting_from=NOW,
                until=NOW + 60 * DAY,
                page_token=token,
            )
            found += page.bookings
            token = page.next_page_token
            if token is None:
                return [one for one in found if isinstance(one, Booking)]


@pytest.fixture
async def calcom() -> AsyncIterator[Calcom]:
    async with (
        CalcomTwin(ManualClock(NOW)) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        yield Calcom(twin, http)


def live(calcom: Calcom) -> None:
    """Everything that can happen to bookings."""
    moved = calcom.book(days=1, metadata={"barkbookPetId": "p1"})
    moved.reschedule(MONDAY + 2 * DAY).reschedule(MONDAY + 3 * DAY)
    calcom.book(days=4).cancel(reason="ill")
    calcom.book(days=5).did_not_come()
    back = calcom.book(days=6)
    back.did_not_come()
    back.came_after_all()
    asked = calcom.host.event_type("Ask me", needs_approval=True)
    calcom.host.book(asked, MONDAY, **MIRA).decline("busy")
    approved = calcom.host.book(asked, MONDAY + DAY, **MIRA)
    approved.approve()
    approved.reschedule(MONDAY + 9 * DAY)
    group = calcom.host.event_type("Class", seats=3)
    calcom.host.book(group, MONDAY, **MIRA).cancel()
    mira = calcom.host.book(group, MONDAY + DAY, **MIRA)
    calcom.host.book(group, MONDAY + DAY, **IVO)
    mira.reschedule(MONDAY + 2 * DAY)
    calcom.book(days=7).take_place()


def states(joined: list[Joined]) -> dict[str, tuple[Any, ...]]:
    return {
        one.current: (one.state, one.no_show, one.starts_at, one.attendee_email)
        for one in joined
    }


async def test_the_account_says_whose_bookings_they_are(calcom: Calcom) -> None:
    account = await calcom.client.account()
    assert (account.email, account.name) == ("ana@example.org", "Ana Host")
    assert account.provider_id.isdecimal()


async def test_what_a_sweep_finds_is_what_the_webhooks_told(calcom: Calcom) -> None:
    await calcom.watch()
    live(calcom)
    told = await calcom.delivered()
    calcom.twin.clock.advance(timedelta(minutes=1))
    swept = await calcom.swept()
    both, from_webhooks = states(join([*told, *swept])), states(join(told))
    assert both == from_webhooks
    # A cancelled seat is no longer listed, so a sweep alone does not know of it.
    from_sweep = states(join(swept))
    assert from_sweep.items() <= both.items()
    missing = set(both) - set(from_sweep)
    assert all("#" in key and both[key][0] == "cancelled" for key in missing)


async def test_a_fetch_right_after_the_webhook_undoes_nothing(calcom: Calcom) -> None:
    await calcom.watch()
    booked = calcom.book()
    calcom.twin.clock.advance(timedelta(minutes=1))
    booked.cancel(reason="ill")
    (early,) = await calcom.client.get(booked.uid)
    assert isinstance(early, Booking)
    assert early.state == "accepted"
    (joined,) = join([*await calcom.delivered(), early])
    assert joined.state == "cancelled"
    calcom.twin.clock.advance(timedelta(seconds=30))
    (late,) = await calcom.client.get(booked.uid)
    assert isinstance(late, Booking)
    assert late.state == "cancelled"


async def test_what_was_never_delivered_is_swept(calcom: Calcom) -> None:
    await calcom.watch()
    calcom.twin.switchboard.drop_pushes(times=None)
    live(calcom)
    calcom.twin.clock.advance(timedelta(minutes=15))
    assert await calcom.delivered() == []
    assert len(join(await calcom.swept())) >= 8
    calcom.twin.clock.advance(DAY)
    assert await calcom.swept(calcom.twin.clock.now() - timedelta(hours=1)) == []


async def test_a_change_that_no_webhook_tells_is_swept(calcom: Calcom) -> None:
    await calcom.watch()
    booked = calcom.book()
    calcom.twin.clock.advance(DAY)
    booked.change(title="Renamed", location="Rua 1")
    (joined,) = join([*await calcom.delivered(), *await calcom.swept()])
    assert (joined.title, joined.location) == ("Renamed", "Rua 1")


async def test_a_sweep_steps_over_nothing_that_changes_while_it_reads(
    calcom: Calcom,
) -> None:
    booked = [calcom.book(days=day) for day in range(150)]
    calcom.twin.clock.advance(timedelta(minutes=1))
    first = await calcom.client.sweep(
        updated_since=LONG_AGO, starting_from=NOW, until=NOW + DAY
    )
    for one in booked[:60]:
        one.change(title="changed meanwhile")
    calcom.twin.clock.advance(timedelta(minutes=1))
    second = await calcom.client.sweep(
        updated_since=LONG_AGO,
        starting_from=NOW,
        until=NOW + DAY,
        page_token=first.next_page_token,
    )
    keys = {
        one.key
        for page in (first, second)
        for one in page.bookings
        if isinstance(one, Booking)
    }
    third = second.next_page_token
    assert third is not None or keys == {one.uid for one in booked}
    while third is not None:
        page = await calcom.client.sweep(
            updated_since=LONG_AGO, starting_from=NOW, until=NOW, page_token=third
        )
        keys |= {one.key for one in page.bookings if isinstance(one, Booking)}
        third = page.next_page_token
    assert keys == {one.uid for one in booked}


async def test_a_sweep_ends_though_a_whole_page_was_changed_at_once(
    calcom: Calcom,
) -> None:
    booked = [calcom.book(days=day) for day in range(250)]
    for one in booked:
        one.row.updated_at = NOW
    calcom.twin.store.known.older.clear()
    assert {one.key for one in await calcom.swept()} == {one.uid for one in booked}


async def test_a_booking_is_read_with_its_id_in_the_hosts_calendar(
    calcom: Calcom,
) -> None:
    booked = calcom.book()
    (booking,) = await calcom.client.get(booked.uid)
    assert isinstance(booking, Booking)
    assert booking.calendar_references == []  # which is told: nobody need ask for ever
    calcom.twin.clock.advance(timedelta(seconds=5))
    (booking,) = await calcom.client.get(booked.uid)
    assert isinstance(booking, Booking)
    assert booking.calendar_references is not None
    assert [one.kind for one in booking.calendar_references] == ["google_calendar"]


async def test_a_series_is_read_whole(calcom: Calcom) -> None:
    starts = [MONDAY + week * 7 * DAY for week in range(3)]
    series = calcom.host.book_series(calcom.kind, starts, **MIRA)
    series_uid = str(series[0].row.series_uid)
    found = await calcom.client.get(series_uid)
    assert {one.key for one in found if isinstance(one, Booking)} == {
        one.uid for one in series
    }
    told = [one for one in found if isinstance(one, Booking)]
    assert {(one.series_id, one.recurs) for one in told} == {(series_uid, True)}


async def test_seats_are_read_one_by_one(calcom: Calcom) -> None:
    calcom.kind = calcom.host.event_type("Class", seats=3)
    mira, ivo = calcom.book(), calcom.book(**IVO)
    calcom.twin.clock.advance(timedelta(minutes=1))
    found = await calcom.client.get(mira.uid)
    assert [one.seat_id for one in found if isinstance(one, Booking)] == [
        mira.seat_id,
        ivo.seat_id,
    ]


async def test_a_seat_is_cancelled_by_its_id_and_the_others_stay(
    calcom: Calcom,
) -> None:
    calcom.kind = calcom.host.event_type("Class", seats=3)
    mira, ivo = calcom.book(), calcom.book(**IVO)
    await calcom.client.cancel(mira.uid, reason="ill", seat_id=mira.seat_id)
    assert (mira.is_live, ivo.is_live) == (False, True)


async def test_a_booking_that_is_not_there_is_gone(calcom: Calcom) -> None:
    with pytest.raises(errors.Gone):
        await calcom.client.get("none/../me")


@pytest.mark.parametrize("ids", ["number", "text"])
async def test_a_webhook_is_made_listed_rekeyed_and_stopped_twice(
    calcom: Calcom, ids: Any
) -> None:
    calcom.twin.behaviour.webhook_ids = ids
    resource_id = await calcom.watch()
    (webhook,) = await calcom.client.webhooks()
    assert (webhook.resource_id, webhook.address) == (resource_id, ADDRESS)
    await calcom.client.rekey(resource_id, "another")
    (made,) = calcom.twin.store.known.webhooks.values()
    assert made.secret == "another"
    await calcom.client.stop(resource_id)
    await calcom.client.stop(resource_id)
    assert await calcom.client.webhooks() == []


async def test_a_webhook_with_a_template_says_what_to_change(calcom: Calcom) -> None:
    key = KEYRING.signing_keys(CHANNEL)[0]
    calcom.host.add_webhook(ADDRESS, secret=key, template="what={{title}}")
    (webhook,) = await calcom.client.webhooks()
    assert "remove the template" in str(webhook.problem)
    calcom.book()
    with pytest.raises(CustomTemplate):
        await calcom.delivered()


async def test_a_webhook_without_a_secret_is_not_made(calcom: Calcom) -> None:
    with pytest.raises(errors.Rejected, match="secretMissing"):
        await calcom.client.watch(channel_id=CHANNEL, address=ADDRESS, signing_key=None)
    assert calcom.twin.calls.count() == 0


async def test_a_ping_gives_nothing(calcom: Calcom) -> None:
    key = KEYRING.signing_keys(CHANNEL)[0]
    calcom.host.ping(calcom.host.add_webhook(ADDRESS, secret=key))
    assert await calcom.delivered() == []
    assert len(calcom.inbox.bodies) == 1


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, None, errors.AccessExpired),
        (403, "Missing scope BOOKING_READ", errors.AccessLost),
        (403, None, errors.Rejected),
        (404, None, errors.Gone),
        (400, None, errors.Rejected),
        (500, None, errors.Unavailable),
    ],
)
async def test_refusals_are_sorted_by_what_to_do(
    calcom: Calcom, status: int, reason: str | None, kind: type[Exception]
) -> None:
    calcom.twin.switchboard.answer("me.get", status, reason=reason)
    with pytest.raises(kind) as refused:
        await calcom.client.account()
    assert type(refused.value) is kind


async def test_over_quota_says_how_long_to_wait(calcom: Calcom) -> None:
    calcom.twin.behaviour.requests_per_minute = 1
    await calcom.client.account()
    calcom.twin.clock.advance(timedelta(seconds=20))
    with pytest.raises(errors.RateLimited) as limited:
        await calcom.client.account()
    assert limited.value.retry_after_s == pytest.approx(40, abs=1)
    calcom.twin.behaviour.requests_per_minute = None
    calcom.twin.switchboard.answer("me.get", 429)
    with pytest.raises(errors.RateLimited) as limited:
        await calcom.client.account()
    assert limited.value.retry_after_s == 60


async def test_a_revoked_key_is_told_by_401_and_not_shown(calcom: Calcom) -> None:
    calcom.host.revoke()
    with pytest.raises(errors.AccessExpired) as refused:
        await calcom.client.account()
    assert calcom.key not in str(refused.value)
