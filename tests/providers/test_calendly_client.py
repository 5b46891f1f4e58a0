"""The adapter against the Calendly twin, in process: calls, deliveries, refreshes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from local_stack.twins.calendly import Booking as Booked
from local_stack.twins.calendly import CalendlyTwin
from providers import errors
from providers.bookings import Booking
from providers.calendly import oauth
from providers.calendly.bookings import read_delivery
from providers.calendly.client import CalendlyClient
from providers.calendly.receiver import CalendlyReceiver
from providers.model import Malformed
from runtime.clock import ManualClock
from runtime.sealing import Keyring
from tests.support.booking_join import Joined, join
from tests.twins.booking_calls import BookingInbox

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
MONDAY = datetime(2026, 3, 9, 14, tzinfo=UTC)
KEYRING = Keyring.parse(Keyring.generate())
CHANNEL = uuid4()
ADDRESS = f"https://hooks.test/webhooks/calendly/{CHANNEL}"
APP_SECRET = "secret"
MIRA = {"email": "mira@example.com", "name": "Mira Ostrow"}


class Calendly:
    """The twin, a host on it, and a client with her token."""

    def __init__(self, twin: CalendlyTwin, http: httpx2.AsyncClient) -> None:
        self.twin = twin
        self.http = http
        self.host = twin.host("ana@example.org", name="Ana Host")
        self.kind = self.host.event_type("Planning call")
        self.token = self.host.personal_token()
        self.client = CalendlyClient(http, "https://twin.test", self._access_token)
        self.inbox = BookingInbox()
        twin.deliver_to("https://hooks.test", httpx2.ASGITransport(self.inbox))

    async def _access_token(self) -> str:
        return self.token

    def book(self, *, days: int = 0, **more: Any) -> Booked:
        start = MONDAY + timedelta(days=days)
        return self.host.book(self.kind, start, **(MIRA | more))

    async def watch(self) -> str:
        key = KEYRING.signing_keys(CHANNEL)[0]
        channel = await self.client.watch(
            channel_id=CHANNEL, address=ADDRESS, signing_key=key
        )
        return channel.resource_id

    async def delivered(self) -> list[Booking]:
        """Read what was posted as the receiver and the worker would."""
        await self.twin.outbox.drain()
        bookings: list[Booking] = []
        for headers, body in zip(self.inbox.headers, self.inbox.bodies, strict=True):
            (notification,) = CalendlyReceiver().read(
                headers,
                body,
                keyring=KEYRING,
                now=self.twin.clock.now(),
                channel_id=CHANNEL,
            )
            found = read_delivery(notification.body or "")
            assert isinstance(found, list), found.reason
            bookings += found
        return bookings

    async def swept(self, *, days: int = 30) -> list[Booking]:
        found: list[Booking | Malformed] = []
        token: str | None = None
        while True:
            page = await self.client.sweep(
                updated_since=NOW,
                starting_from=NOW,
                until=NOW + timedelta(days=days),
                page_token=token,
            )
            found += page.bookings
            token = page.next_page_token
            if token is None:
                return [one for one in found if isinstance(one, Booking)]


@pytest.fixture
async def calendly() -> AsyncIterator[Calendly]:
    async with (
        CalendlyTwin(ManualClock(NOW)) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        yield Calendly(twin, http)


async def live(calendly: Calendly) -> None:
    """Everything that can happen to bookings."""
    first = calendly.book(days=1)
    first.reschedule(MONDAY + timedelta(days=2)).reschedule(MONDAY + timedelta(days=3))
    calendly.book(days=4).cancel(by="host", reason="ill")
    away = calendly.book(days=5)
    away.did_not_come()
    back = calendly.book(days=6)
    back.did_not_come()
    back.came_after_all()
    group = calendly.host.event_type("Class", seats=3)
    calendly.host.book(group, MONDAY, **MIRA).cancel()
    calendly.host.book(group, MONDAY, email="ivo@example.com", name="Ivo")


def comparable(joined: list[Joined]) -> list[Any]:
    # Only a fetch tells these; and how full an event was is as old as the message.
    apart = {"calendar_references", "seats"}
    return [
        (
            one.current,
            one.state,
            one.no_show,
            {k: v for k, v in one.fields.items() if k not in apart},
        )
        for one in joined
    ]


async def test_the_account_says_whose_bookings_they_are(calendly: Calendly) -> None:
    account = await calendly.client.account()
    assert account.provider_id == calendly.host.uri
    assert (account.email, account.organization_id) == (
        "ana@example.org",
        calendly.host.user.organization,
    )
    assert "ana" not in repr(account)


async def test_what_a_sweep_finds_is_what_the_webhooks_told(calendly: Calendly) -> None:
    await calendly.watch()
    await live(calendly)
    told, swept = join(await calendly.delivered()), join(await calendly.swept())
    assert comparable(told) == comparable(swept)
    assert [one.state for one in told].count("accepted") == 4
    both = join([*await calendly.delivered(), *await calendly.swept()])
    assert comparable(both) == comparable(told)
    assert all(one.calendar_references for one in both)


async def test_a_sweep_follows_every_page(calendly: Calendly) -> None:
    for day in range(25):
        calendly.book(days=day)
    assert len(await calendly.swept(days=60)) == 25
    assert calendly.twin.calls.count("scheduled_events.list") == 2


async def test_a_booking_is_read_with_its_event(calendly: Calendly) -> None:
    booked = calendly.book()
    (booking,) = await calendly.client.get(booked.uri)
    assert isinstance(booking, Booking)
    assert (booking.key, booking.title) == (booked.uri, "Planning call")


@pytest.mark.parametrize(
    "uri",
    [
        "https://api.calendly.com/users/me",
        "https://api.calendly.com/scheduled_events/a/../../users/me",
        "nonsense",
        "",
    ],
)
async def test_only_uris_of_bookings_are_asked_for(
    calendly: Calendly, uri: str
) -> None:
    with pytest.raises(errors.Rejected, match="notAUriOfCalendly"):
        await calendly.client.get(uri)
    assert calendly.twin.calls.count() == 0


async def test_an_event_with_others_in_it_is_not_cancelled(calendly: Calendly) -> None:
    group = calendly.host.event_type("Class", seats=3)
    mira = calendly.host.book(group, MONDAY, **MIRA)
    ivo = calendly.host.book(group, MONDAY, email="ivo@example.com", name="Ivo")
    with pytest.raises(errors.Rejected, match="severalInvitees"):
        await calendly.client.cancel(mira.uri, reason="ill")
    assert mira.is_live
    ivo.cancel()
    await calendly.client.cancel(mira.uri, reason="ill")
    assert not mira.is_live


async def test_an_event_in_the_past_is_not_cancelled(calendly: Calendly) -> None:
    booked = calendly.book()
    calendly.twin.clock.advance(timedelta(days=30))
    with pytest.raises(errors.Rejected, match="eventInThePast"):
        await calendly.client.cancel(booked.uri, reason="ill")


async def test_a_disabled_webhook_says_what_to_do(calendly: Calendly) -> None:
    await calendly.watch()
    (subscription,) = calendly.twin.store.known.subscriptions.values()
    subscription.is_active = False
    (webhook,) = await calendly.client.webhooks()
    assert not webhook.active
    assert "make it anew" in str(webhook.problem)


async def test_without_webhooks_in_the_plan_there_is_nothing_to_watch(
    calendly: Calendly,
) -> None:
    calendly.host.user.has_webhooks = False
    with pytest.raises(errors.Unwatchable, match="planTooSmall"):
        await calendly.watch()


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, None, errors.AccessExpired),
        (403, "Insufficient scope", errors.AccessLost),
        (403, "Permission Denied", errors.Rejected),
        (404, None, errors.Gone),
        (400, None, errors.Rejected),
        (500, None, errors.Unavailable),
        (503, None, errors.Unavailable),
    ],
)
async def test_refusals_are_sorted_by_what_to_do(
    calendly: Calendly, status: int, reason: str | None, kind: type[Exception]
) -> None:
    calendly.twin.switchboard.answer("users.me", status, reason=reason)
    with pytest.raises(kind) as refused:
        await calendly.client.account()
    assert type(refused.value) is kind


class Refreshing:
    """A grant of the app."""

    def __init__(self, calendly: Calendly) -> None:
        calendly.twin.oauth.clients["app"] = APP_SECRET
        self.calendly = calendly
        _, self.token = calendly.host.sign_in(client_id="app")

    async def refresh(self, token: str | None = None, secret: str = APP_SECRET) -> Any:
        return await oauth.refresh(
            self.calendly.http,
            auth_url="https://twin.test/oauth",
            client_id="app",
            client_secret=secret,
            refresh_token=token or self.token,
        )


async def test_a_refresh_brings_a_new_pair_and_the_old_token_is_spent(
    calendly: Calendly,
) -> None:
    grant = Refreshing(calendly)
    tokens = await grant.refresh()
    assert tokens.refresh_token not in {None, grant.token}
    assert tokens.expires_in_s == 7200
    calendly.token = tokens.access_token
    assert (await calendly.client.account()).email == "ana@example.org"
    with pytest.raises(errors.AccessLost, match="invalid_grant"):
        await grant.refresh()
    assert await grant.refresh(tokens.refresh_token)


async def test_a_refresh_whose_answer_was_lost_has_lost_the_grant(
    calendly: Calendly,
) -> None:
    grant = Refreshing(calendly)
    calendly.twin.switchboard.cut("token")
    with pytest.raises(errors.AccessLost, match="lostAnswer"):
        await grant.refresh()


@pytest.mark.parametrize("status", [502, 504])
async def test_what_something_in_between_answers_is_a_lost_answer(
    calendly: Calendly, status: int
) -> None:
    grant = Refreshing(calendly)
    calendly.twin.switchboard.answer("token", status)
    with pytest.raises(errors.AccessLost, match="lostAnswer"):
        await grant.refresh()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_refresh_that_was_not_done_may_be_asked_again(
    calendly: Calendly, status: int
) -> None:
    grant = Refreshing(calendly)
    calendly.twin.switchboard.answer("token", status)
    with pytest.raises(errors.Transient):
        await grant.refresh()
    assert await grant.refresh()


async def test_a_refresh_that_was_never_sent_may_be_asked_again(
    calendly: Calendly,
) -> None:
    async with httpx2.AsyncClient() as http:
        with pytest.raises(errors.Unavailable):
            await oauth.refresh(
                http,
                auth_url="http://127.0.0.1:1/oauth",
                client_id="app",
                client_secret="secret",
                refresh_token="r",
            )


async def test_a_wrong_client_is_the_operators_fault_and_no_users_loss(
    calendly: Calendly,
) -> None:
    with pytest.raises(errors.Rejected, match="invalid_client"):
        await Refreshing(calendly).refresh(secret="wrong")
