"""The adapter against the Google twin, in process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx2
import pytest

from local_stack.twins.google import Calendar, GoogleTwin
from providers import errors
from providers.google import oauth
from providers.google.client import GoogleClient
from providers.google.receiver import GoogleReceiver
from providers.model import Channel, Event, Item, Malformed, Notification
from runtime.clock import ManualClock
from runtime.sealing import Keyring
from tests.support.eventually import eventually

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
ROME = ZoneInfo("Europe/Rome")
MONDAY = datetime(2026, 11, 23, 9, tzinfo=ROME)
IN_A_WEEK = NOW + timedelta(days=7)
KEYRING = Keyring.parse(Keyring.generate())


class Google:
    """The twin, Mira's calendar on it, and a client with her tokens."""

    def __init__(self, twin: GoogleTwin, http: httpx2.AsyncClient) -> None:
        self.twin = twin
        self.http = http
        self.mira = twin.account("mira@example.org", time_zone="Europe/Rome")
        self.calendar: Calendar = self.mira.primary
        self.grant = self.mira.sign_in()
        self.client = self.client_with(lambda: self.grant.access_token)

    def client_with(self, token: Callable[[], str]) -> GoogleClient:
        async def access_token() -> str:
            return token()

        return GoogleClient(
            self.http,
            "https://twin.test/calendar/v3",
            access_token,
            clock=self.twin.clock,
        )

    async def changes(self, cursor: str | None) -> tuple[list[Event], str]:
        """Read a round to its end."""
        items: list[Item] = []
        page_token: str | None = None
        while True:
            page = await self.client.list_changes(
                self.calendar.id, cursor=cursor, page_token=page_token
            )
            items += page.items
            page_token = page.next_page_token
            if page_token is None:
                assert page.cursor is not None
                return self.read(items), page.cursor

    def read(self, items: list[Item], *, expanded: bool = False) -> list[Event]:
        events = [self.client.read_event(item, expanded=expanded) for item in items]
        return [event for event in events if isinstance(event, Event)]


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    async with (
        GoogleTwin(ManualClock(NOW)) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        yield Google(twin, http)


def daily(google: Google) -> str:
    return google.calendar.add(
        "Stand-up", MONDAY, timedelta(minutes=15), recurrence="FREQ=DAILY;COUNT=4"
    ).id


async def test_the_first_round_reads_everything_and_ends_in_a_cursor(
    google: Google,
) -> None:
    single = google.calendar.add("Budget review", MONDAY)
    series = daily(google)
    events, cursor = await google.changes(None)
    roles = {event.provider_event_id: event.role for event in events}
    assert roles == {single.id: "single", series: "series"}
    assert cursor


async def test_a_cursor_brings_what_changed_since_and_nothing_else(
    google: Google,
) -> None:
    kept = google.calendar.add("Lunch", MONDAY)
    moved = google.calendar.add("Budget review", MONDAY)
    gone = google.calendar.add("Dentist", MONDAY)
    _, cursor = await google.changes(None)
    google.calendar.move(moved, MONDAY + timedelta(hours=2))
    google.calendar.cancel(gone)

    events, later = await google.changes(cursor)
    by_id = {event.provider_event_id: event for event in events}
    assert set(by_id) == {moved.id, gone.id}
    assert kept.id not in by_id
    assert by_id[moved.id].starts_at == MONDAY + timedelta(hours=2)
    assert by_id[gone.id].status == "cancelled"
    assert by_id[gone.id].role is None
    nothing, _ = await google.changes(later)
    assert nothing == []


async def test_an_empty_page_with_a_token_is_not_the_end(google: Google) -> None:
    single = google.calendar.add("Budget review", MONDAY)
    google.twin.behaviour.empty_pages = True
    first = await google.client.list_changes(google.calendar.id, cursor=None)
    assert (first.items, first.cursor) == ([], None)
    second = await google.client.list_changes(
        google.calendar.id, cursor=None, page_token=first.next_page_token
    )
    assert [item.provider_event_id for item in second.items] == [single.id]


async def test_a_bounded_first_round_leaves_the_past_out_and_has_a_cursor(
    google: Google,
) -> None:
    google.calendar.add("Long ago", NOW - timedelta(days=400))
    recent = google.calendar.add("Budget review", MONDAY)
    page = await google.client.list_changes(
        google.calendar.id, cursor=None, since=NOW - timedelta(days=30)
    )
    assert [item.provider_event_id for item in page.items] == [recent.id]
    assert page.cursor is not None
    # A bound beside a cursor would be refused: it is left away.
    again = await google.client.list_changes(
        google.calendar.id, cursor=page.cursor, since=NOW - timedelta(days=30)
    )
    assert again.items == []


async def test_a_window_is_expanded_and_in_order_and_has_no_cursor(
    google: Google,
) -> None:
    series = daily(google)
    google.calendar.add("Lunch", MONDAY + timedelta(hours=3))
    page = await google.client.list_window(google.calendar.id, start=NOW, end=IN_A_WEEK)
    events = google.read(page.items, expanded=True)
    starts = [event.starts_at for event in events if event.starts_at]
    assert starts == sorted(starts)
    assert [event.role for event in events].count("occurrence") == 4
    assert {event.series_provider_id for event in events} == {series, None}
    assert page.cursor is None
    assert page.time_zone == "Europe/Rome"


async def test_an_occurrence_that_was_moved_is_an_exception_in_every_list(
    google: Google,
) -> None:
    daily(google)
    series = google.calendar.event((await google.changes(None))[0][0].provider_event_id)
    to = MONDAY + timedelta(days=1, hours=2)
    google.calendar.move_occurrence(series, MONDAY + timedelta(days=1), to)

    page = await google.client.instances(
        google.calendar.id, series.id, start=NOW, end=IN_A_WEEK
    )
    expanded = google.read(page.items, expanded=True)
    (exception,) = [event for event in expanded if event.role == "exception"]
    assert exception.starts_at == to
    assert exception.original_start == MONDAY + timedelta(days=1)
    assert len(expanded) == 4

    changes, _ = await google.changes(None)
    (listed,) = [event for event in changes if event.role == "exception"]
    assert listed.provider_event_id == exception.provider_event_id
    assert listed.content_hash == exception.content_hash


async def test_a_cancelled_occurrence_is_told_as_an_exception(google: Google) -> None:
    series = google.calendar.event(daily(google))
    google.calendar.cancel_occurrence(series, MONDAY)
    changes, _ = await google.changes(None)
    (cancelled,) = [event for event in changes if event.status == "cancelled"]
    assert cancelled.role == "exception"
    assert cancelled.original_start == MONDAY
    assert cancelled.series_provider_id == series.id


async def test_an_unchanged_event_has_the_same_hash_wherever_it_is_read(
    google: Google,
) -> None:
    added = google.calendar.add("Lunch 🍝", MONDAY)
    listed = (await google.client.list_changes(google.calendar.id, cursor=None)).items
    alone = await google.client.get(google.calendar.id, added.id)
    assert listed == [alone]
    google.calendar.rename(added, "Dinner")
    renamed = await google.client.get(google.calendar.id, added.id)
    assert renamed.content_hash != alone.content_hash


async def test_a_malformed_event_leaves_the_others_alone(google: Google) -> None:
    google.calendar.inject({"id": "broken", "start": {"dateTime": "soon"}})
    google.calendar.add("Lunch", MONDAY)
    page = await google.client.list_changes(google.calendar.id, cursor=None)
    read = [google.client.read_event(item, expanded=False) for item in page.items]
    assert {type(event) for event in read} == {Event, Malformed}


async def test_a_guests_copy_says_who_organizes_and_what_was_answered(
    google: Google,
) -> None:
    boss = google.twin.account("boss@example.org")
    boss.primary.add("Review", MONDAY, attendees=["mira@example.org"])
    ((invited,), cursor) = await google.changes(None)
    assert invited.is_organizer is False
    assert invited.organizer_email == "boss@example.org"
    assert invited.own_response == "needsAction"
    google.calendar.answer(google.calendar.event(invited.provider_event_id), "declined")
    ((declined,), _) = await google.changes(cursor)
    assert declined.own_response == "declined"


async def test_what_is_not_there_is_gone(google: Google) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: google.client.get(google.calendar.id, "nothere"),
        lambda: google.client.list_changes("other@example.org", cursor=None),
        lambda: google.client.instances(
            google.calendar.id, "nothere", start=NOW, end=IN_A_WEEK
        ),
    ]
    for call in calls:
        with pytest.raises(errors.Gone):
            await call()


async def test_an_expired_access_token_says_so_and_a_refresh_mends_it(
    google: Google,
) -> None:
    google.twin.clock.advance(timedelta(hours=2))
    with pytest.raises(errors.AccessExpired):
        await google.client.calendars()

    tokens = await oauth.refresh(
        google.http,
        auth_url="https://twin.test",
        client_id="supacal",
        client_secret="secret",
        refresh_token=google.grant.refresh_token,
    )
    assert tokens.expires_in_s == 3599
    client = google.client_with(lambda: tokens.access_token)
    assert await client.calendars()


async def test_a_revoked_grant_is_lost(google: Google) -> None:
    google.mira.revoke()
    with pytest.raises(errors.AccessLost, match="invalid_grant"):
        await oauth.refresh(
            google.http,
            auth_url="https://twin.test",
            client_id="supacal",
            client_secret="secret",
            refresh_token=google.grant.refresh_token,
        )


async def test_a_scope_that_was_left_out_is_access_lost(google: Google) -> None:
    grant = google.mira.sign_in(scopes=("openid",))
    client = google.client_with(lambda: grant.access_token)
    with pytest.raises(errors.AccessLost):
        await client.list_changes(google.calendar.id, cursor=None)


async def test_over_quota_is_a_limit_and_not_a_lack_of_permission(
    google: Google,
) -> None:
    google.twin.switchboard.answer(
        "events.list", 403, reason="userRateLimitExceeded", retry_after_s=17
    )
    with pytest.raises(errors.RateLimited) as limited:
        await google.client.list_changes(google.calendar.id, cursor=None)
    assert limited.value.retry_after_s == 17


async def test_calendars_are_listed_by_their_names(google: Google) -> None:
    added = google.mira.add_calendar("Salon", time_zone="Europe/Paris")
    primary, salon = await google.client.calendars()
    assert (primary.provider_calendar_id, primary.primary) == (google.calendar.id, True)
    assert (salon.provider_calendar_id, salon.primary) == (added.id, False)
    assert (salon.name, salon.time_zone, salon.access_role) == (
        "Salon",
        "Europe/Paris",
        "owner",
    )


class Hooks:
    """Where the twin pushes to: reads deliveries as the receiver does."""

    def __init__(self, twin: GoogleTwin) -> None:
        self.notifications: list[Notification] = []
        twin.deliver_to("https://hooks.test", httpx2.MockTransport(self._receive))

    def _receive(self, request: httpx2.Request) -> httpx2.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.notifications += GoogleReceiver().read(
            headers, request.content, keyring=KEYRING, now=NOW
        )
        return httpx2.Response(200)


async def watched(google: Google, channel_id: UUID, calendar_id: str) -> Channel:
    return await google.client.watch(
        calendar_id,
        channel_id=channel_id,
        token=KEYRING.channel_token(channel_id),
        address="https://hooks.test/webhooks/google",
        ttl_s=3600,
    )


async def test_a_channel_says_hello_and_then_that_something_changed(
    google: Google,
) -> None:
    hooks, channel_id = Hooks(google.twin), uuid4()
    channel = await watched(google, channel_id, google.calendar.id)
    assert channel.expires_at == NOW + timedelta(hours=1)
    google.calendar.add("Lunch", MONDAY)

    await eventually(lambda: len(hooks.notifications) == 2)
    hello, change = hooks.notifications
    assert (hello.kind, change.kind) == ("hello", "change")
    assert hello.channel_id == change.channel_id == channel_id
    assert change.headers["resource_id"] == channel.resource_id
    assert change.headers["channel_expires_at"] == "2026-11-21T08:30:00+00:00"


async def test_a_calendar_of_googles_own_making_is_unwatchable(google: Google) -> None:
    holidays = google.mira.add_calendar("Holidays", generated=True)
    with pytest.raises(errors.Unwatchable):
        await watched(google, uuid4(), holidays.id)


async def test_a_channel_id_is_used_once(google: Google) -> None:
    Hooks(google.twin)
    channel_id = uuid4()
    await watched(google, channel_id, google.calendar.id)
    with pytest.raises(errors.Rejected, match="channelIdNotUnique"):
        await watched(google, channel_id, google.calendar.id)
