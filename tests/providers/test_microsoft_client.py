"""The adapter against the Microsoft twin, in process."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx2
import pytest

from local_stack.twins.microsoft import Account, Behaviour, Calendar, MicrosoftTwin
from local_stack.twins.switchboard import Fault, FaultKind
from providers import errors
from providers.clients import CLIENTS
from providers.microsoft import oauth
from providers.microsoft.client import MicrosoftClient
from providers.microsoft.receiver import MicrosoftReceiver
from providers.model import Channel, Event, Item, Notification, Page, Provider
from providers.protocols import Client, RenewsChannels
from runtime.clock import ManualClock
from runtime.sealing import Keyring
from tests.twins.graph_calls import Endpoint

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 11, 23, 9, tzinfo=BERLIN)
IN_A_MONTH = NOW + timedelta(days=30)
KEYRING = Keyring.parse(Keyring.generate())
ADDRESS = "https://hooks.test/webhooks/microsoft"
QUARTER = timedelta(minutes=15)


class Round:
    """What a round of list_changes brought."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.vanished: list[str] = []
        self.touched: list[str] = []
        self.cursor = ""


class Outlook:
    """The twin, Mira's calendar on it, and a client with her tokens."""

    def __init__(self, twin: MicrosoftTwin, http: httpx2.AsyncClient) -> None:
        self.twin = twin
        self.http = http
        self.mira: Account = twin.account("mira@example.org")
        self.calendar: Calendar = self.mira.primary
        self.grant = self.mira.sign_in()
        self.endpoint = Endpoint()
        twin.deliver_to("https://hooks.test", httpx2.ASGITransport(self.endpoint))
        self.client = self.client_with(lambda: self.grant.access_token)

    def client_with(self, token: Callable[[], str]) -> MicrosoftClient:
        async def access_token() -> str:
            return token()

        return MicrosoftClient(
            self.http, "https://twin.test/v1.0", access_token, clock=self.twin.clock
        )

    async def changes(
        self, cursor: str | None = None, *, until: datetime = IN_A_MONTH
    ) -> Round:
        """Read a round to its end."""
        found, token = Round(), None
        while True:
            page = await self.client.list_changes(
                self.calendar.id,
                cursor=cursor,
                since=NOW,
                until=until,
                page_token=token,
            )
            found.items |= {item.provider_event_id: item for item in page.items}
            found.vanished += page.vanished
            found.touched += page.touched_series
            token = page.next_page_token
            if token is None:
                assert page.cursor is not None
                found.cursor = page.cursor
                return found

    async def instances(self, series_id: str) -> list[Event]:
        items: list[Item] = []
        token: str | None = None
        while True:
            page = await self.client.instances(
                self.calendar.id,
                series_id,
                start=NOW,
                end=IN_A_MONTH,
                page_token=token,
            )
            items += page.items
            token = page.next_page_token
            if token is None:
                return self.read(items)

    def read(self, items: list[Item]) -> list[Event]:
        events = [self.client.read_event(item, expanded=True) for item in items]
        return [event for event in events if isinstance(event, Event)]

    async def watch(self, channel_id: UUID | None = None) -> Channel:
        channel_id = channel_id or uuid4()
        return await self.client.watch(
            self.calendar.id,
            channel_id=channel_id,
            token=KEYRING.channel_token(channel_id),
            address=ADDRESS,
        )

    def notified(self) -> list[Notification]:
        """What the receiver makes of all requests."""
        return [
            notification
            for body in self.endpoint.bodies
            for notification in MicrosoftReceiver().read(
                {}, body, keyring=KEYRING, now=NOW
            )
        ]


@pytest.fixture
async def outlook() -> AsyncIterator[Outlook]:
    behaviour = Behaviour(retry_first_s=0.01)
    async with (
        MicrosoftTwin(ManualClock(NOW), behaviour) as twin,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
    ):
        yield Outlook(twin, http)


def test_it_is_registered_and_renews_its_channels(outlook: Outlook) -> None:
    client: Client = outlook.client
    assert isinstance(client, RenewsChannels)
    assert CLIENTS[Provider.MICROSOFT] is MicrosoftClient


async def test_the_first_round_reads_the_window_and_ends_in_a_cursor(
    outlook: Outlook,
) -> None:
    single = outlook.calendar.add("Review", MONDAY)
    outlook.calendar.add("Long ago", NOW - timedelta(days=300))
    series = outlook.calendar.add("Kurs", MONDAY, recurrence="FREQ=DAILY;COUNT=4")
    found = await outlook.changes()
    # No stub of an occurrence is among them: those have neither title nor text.
    assert set(found.items) == {single.id, series.id}
    roles = {
        one.provider_event_id: one.role for one in outlook.read([*found.items.values()])
    }
    assert roles == {single.id: "single", series.id: "series"}
    assert found.touched == [series.id]


async def test_a_cursor_brings_what_changed_since_and_nothing_else(
    outlook: Outlook,
) -> None:
    outlook.calendar.add("Lunch", MONDAY)
    moved = outlook.calendar.add("Review", MONDAY)
    gone = outlook.calendar.add("Dentist", MONDAY)
    first = await outlook.changes()
    outlook.calendar.move(moved, MONDAY + timedelta(hours=2))
    outlook.calendar.cancel(gone)

    second = await outlook.changes(first.cursor)

    [event] = outlook.read([*second.items.values()])
    assert (event.provider_event_id, event.starts_at) == (
        moved.id,
        MONDAY + timedelta(hours=2),
    )
    assert second.vanished == [gone.id]
    third = await outlook.changes(second.cursor)
    assert (third.items, third.vanished, third.touched) == ({}, [], [])


async def test_what_vanished_may_only_be_out_of_sight_and_a_read_by_id_tells(
    outlook: Outlook,
) -> None:
    moved = outlook.calendar.add("Review", MONDAY)
    gone = outlook.calendar.add("Dentist", MONDAY)
    first = await outlook.changes()
    outlook.calendar.move(moved, MONDAY + timedelta(days=90))
    outlook.calendar.cancel(gone)
    second = await outlook.changes(first.cursor)
    assert set(second.vanished) == {moved.id, gone.id}

    item = await outlook.client.get(outlook.calendar.id, moved.id)
    [event] = outlook.read([item])
    assert event.starts_at == MONDAY + timedelta(days=90)
    with pytest.raises(errors.Gone):
        await outlook.client.get(outlook.calendar.id, gone.id)


async def test_pages_are_followed_and_empty_ones_are_not_the_end(
    outlook: Outlook,
) -> None:
    outlook.twin.behaviour.empty_pages = True
    outlook.twin.behaviour.repeat_items = True
    outlook.twin.behaviour.delta_page_size = 200
    made = {outlook.calendar.add(str(n), MONDAY).id for n in range(450)}
    first = await outlook.client.list_changes(outlook.calendar.id, cursor=None)
    assert (first.items, first.cursor) == ([], None)
    assert set((await outlook.changes()).items) == made
    outlook.calendar.rename(outlook.calendar.event(min(made)), "anders")
    calls = outlook.twin.calls.count("events.delta")
    assert calls == 1 + 3 * 2


async def test_the_same_item_twice_on_a_page_is_the_last_one_once(
    outlook: Outlook,
) -> None:
    outlook.twin.behaviour.repeat_items = True
    event = outlook.calendar.add("Review", MONDAY)
    page: Page = await outlook.client.list_changes(outlook.calendar.id, cursor=None)
    assert [item.provider_event_id for item in page.items] == [event.id]


async def test_ids_survive_a_move_between_folders(outlook: Outlook) -> None:
    other = outlook.mira.add_calendar("Praxis")
    event = outlook.calendar.add("Review", MONDAY)
    first = await outlook.changes()
    moved = outlook.calendar.hand_over(event, other)
    assert set(first.items) == {moved.id}
    item = await outlook.client.get(other.id, event.id)
    assert item.provider_event_id == event.id
    held_by_others = [moved.ids.mutable, "AAMkUnknown="]
    translated = await outlook.client.immutable_ids(held_by_others)
    assert translated == {moved.ids.mutable: event.id}


async def test_a_deleted_occurrence_is_seen_by_expanding_its_series_again(
    outlook: Outlook,
) -> None:
    series = outlook.calendar.add("Kurs", MONDAY, recurrence="FREQ=DAILY;COUNT=25")
    first = await outlook.changes()
    # Ten at a time.
    before = await outlook.instances(series.id)
    assert len(before) == 25
    assert {event.role for event in before} == {"occurrence"}
    gone = outlook.calendar.occurrence(series, MONDAY + timedelta(days=3))
    outlook.calendar.cancel(gone)

    second = await outlook.changes(first.cursor)
    assert set(second.items) == {series.id}
    assert second.vanished == []
    after = await outlook.instances(series.id)
    assert {e.provider_event_id for e in before} - {
        e.provider_event_id for e in after
    } == {gone.id}


async def test_a_changed_occurrence_names_the_series_to_expand(
    outlook: Outlook,
) -> None:
    series = outlook.calendar.add("Kurs", MONDAY, recurrence="FREQ=DAILY;COUNT=3")
    first = await outlook.changes()
    second = outlook.calendar.occurrences(series)[1]
    outlook.calendar.move(second, MONDAY + timedelta(days=1, hours=6))
    found = await outlook.changes(first.cursor)
    assert found.touched == [series.id]
    [event] = outlook.read([*found.items.values()])
    assert (event.role, event.original_start) == (
        "exception",
        MONDAY + timedelta(days=1),
    )
    # As the expansion has it, so that nothing is taken for a change.
    [expanded] = [
        e for e in await outlook.instances(series.id) if e.role == "exception"
    ]
    assert expanded.content_hash == event.content_hash


async def test_a_retimed_series_has_new_ids_and_the_same_days(
    outlook: Outlook,
) -> None:
    series = outlook.calendar.add("Kurs", MONDAY, recurrence="FREQ=DAILY;COUNT=3")
    before = await outlook.instances(series.id)
    outlook.calendar.retime_series(series, MONDAY + timedelta(hours=2))
    after = await outlook.instances(series.id)
    assert len(after) == 3
    assert not {e.provider_event_id for e in before} & {
        e.provider_event_id for e in after
    }
    assert {e.series_provider_id for e in after} == {series.id}


async def test_whole_days_at_the_edges_of_a_window_are_not_lost(
    outlook: Outlook,
) -> None:
    kiribati = outlook.mira.add_calendar("Far", time_zone="Pacific/Kiritimati")
    samoa = outlook.mira.add_calendar("Farther", time_zone="Pacific/Pago_Pago")
    day = date(2026, 12, 1)
    edge = datetime(2026, 12, 1, tzinfo=UTC)
    for calendar in (kiribati, samoa):
        calendar.add("Feiertag", day)
        page = await outlook.client.list_window(
            calendar.id, start=edge, end=edge + timedelta(hours=12)
        )
        [event] = outlook.read(page.items)
        assert (event.start_date, event.end_date) == (day, date(2026, 12, 2))


async def test_a_window_comes_soonest_first_with_series_expanded(
    outlook: Outlook,
) -> None:
    outlook.calendar.add("Kurs", MONDAY, QUARTER, recurrence="FREQ=DAILY;COUNT=210")
    outlook.calendar.add("First", MONDAY - timedelta(hours=1))
    items: list[Item] = []
    token: str | None = None
    while True:
        page = await outlook.client.list_window(
            outlook.calendar.id,
            start=NOW,
            end=NOW + timedelta(days=300),
            page_token=token,
        )
        assert page.cursor is None
        items += page.items
        token = page.next_page_token
        if token is None:
            break
    events = outlook.read(items)
    assert [event.title for event in events] == ["First"] + ["Kurs"] * 210
    starts = [event.starts_at for event in events if event.starts_at]
    assert starts == sorted(starts)


@pytest.mark.parametrize("way", ["410", "400"])
async def test_a_lost_state_is_told_as_such(outlook: Outlook, way: str) -> None:
    outlook.twin.behaviour.lost_state = way  # type: ignore[assignment]
    first = await outlook.changes()
    outlook.calendar.expire_delta_tokens()
    with pytest.raises(errors.CursorExpired):
        await outlook.changes(first.cursor)
    with pytest.raises(errors.CursorExpired):
        await outlook.changes(first.cursor[:-6])
    with pytest.raises(errors.CursorExpired):
        await outlook.changes("CPDAlvWDx70CEPDAlvWDx70CGAU=")


async def test_a_token_never_goes_where_a_link_leads(outlook: Outlook) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        link = (
            "https://evil.test/v1.0/me/calendars/c/calendarView/delta?$skiptoken=%2B1"
        )
        return httpx2.Response(200, json={"value": [], "@odata.nextLink": link})

    async def token() -> str:
        return "secret"

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        client = MicrosoftClient(http, "https://proxy.test/graph/v1.0", token)
        page = await client.list_changes("c", cursor=None)
        await client.list_changes("c", cursor=None, page_token=page.next_page_token)
    assert str(seen[1].url) == (
        "https://proxy.test/graph/v1.0/me/calendars/c/calendarView/delta?$skiptoken=%2B1"
    )
    for request in seen:
        assert 'IdType="ImmutableId"' in request.headers["prefer"]


async def test_the_list_of_calendars_says_what_may_be_done(outlook: Outlook) -> None:
    outlook.mira.add_calendar("Praxis")
    ben = outlook.twin.account("ben@example.org")
    ben.primary.share(outlook.mira)
    ben.add_calendar("Team").share(outlook.mira, "write")
    entries = await outlook.client.calendars()
    assert [(one.name, one.primary, one.access_role) for one in entries] == [
        ("Calendar", True, "owner"),
        ("Praxis", False, "owner"),
        ("Calendar", False, "reader"),
        ("Team", False, "writer"),
    ]
    assert entries[0].time_zone is None


async def test_a_channel_is_made_with_both_addresses_and_our_secret(
    outlook: Outlook,
) -> None:
    channel_id = uuid4()
    channel = await outlook.watch(channel_id)
    assert outlook.endpoint.handshakes == [
        "/webhooks/microsoft",
        "/webhooks/microsoft/lifecycle",
    ]
    assert channel.channel_id == channel_id
    assert channel.expires_at == NOW + timedelta(minutes=10_050)
    event = outlook.calendar.add("Review", MONDAY)
    outlook.twin.say_missed(channel.resource_id)
    await outlook.twin.pushes.drain()
    assert event.id in str(outlook.endpoint.items)
    told = {one.kind: one for one in outlook.notified()}
    assert {one.channel_id for one in told.values()} == {channel_id}
    assert told["change"].headers["resource_id"] == channel.resource_id
    assert told["lifecycle"].headers["reason"] == "missed"
    assert outlook.endpoint.paths[0].endswith(f"?channel={channel_id}")


async def test_a_cloud_that_holds_the_older_limit_gives_what_it_has(
    outlook: Outlook,
) -> None:
    outlook.twin.behaviour.longest_subscription_min = 4_230
    channel = await outlook.watch()
    assert channel.expires_at == NOW + timedelta(minutes=4_200)


async def test_an_address_that_does_not_answer_is_asked_once(
    outlook: Outlook,
) -> None:
    outlook.endpoint.handshake = (202, b"text/plain", None)
    with pytest.raises(errors.Rejected) as refused:
        await outlook.watch()
    assert refused.value.reason == "ValidationError"
    assert len(outlook.endpoint.handshakes) == 1


async def test_a_second_channel_of_the_same_app_is_the_first_one(
    outlook: Outlook,
) -> None:
    first = await outlook.watch()
    # Another organization's connection to the same account.
    again = outlook.mira.sign_in()
    other = outlook.client_with(lambda: again.access_token)
    second_id = uuid4()
    second = await other.watch(
        outlook.calendar.id,
        channel_id=second_id,
        token=KEYRING.channel_token(second_id),
        address=ADDRESS,
    )
    assert second == first


async def test_a_channel_whose_creation_was_not_answered_is_found_again(
    outlook: Outlook,
) -> None:
    channel_id = uuid4()
    outlook.twin.switchboard.cut("subscriptions.create")
    with pytest.raises(errors.Unavailable):
        await outlook.watch(channel_id)
    assert (await outlook.watch(channel_id)).channel_id == channel_id


async def test_someone_elses_address_is_not_adopted(outlook: Outlook) -> None:
    await outlook.watch()
    channel_id = uuid4()
    with pytest.raises(errors.Rejected) as refused:
        await outlook.client.watch(
            outlook.calendar.id,
            channel_id=channel_id,
            token=KEYRING.channel_token(channel_id),
            address="https://hooks.test/elsewhere",
        )
    assert refused.value.status == 409


async def test_a_channel_is_renewed_until_it_is_dead(outlook: Outlook) -> None:
    channel = await outlook.watch()
    outlook.twin.clock.advance(timedelta(days=2))
    outlook.grant = outlook.mira.sign_in()
    renewed = await outlook.client.renew(channel.channel_id, channel.resource_id)
    assert renewed.expires_at == NOW + timedelta(days=2, minutes=10_050)
    assert renewed.channel_id == channel.channel_id
    outlook.twin.remove_subscription(channel.resource_id)
    with pytest.raises(errors.Gone):
        await outlook.client.renew(channel.channel_id, channel.resource_id)


async def test_only_ids_of_channels_are_stopped(outlook: Outlook) -> None:
    channel = await outlook.watch()
    with pytest.raises(errors.Rejected):
        await outlook.client.stop(channel.channel_id, "../me")


async def test_a_shared_calendar_cannot_be_watched_only_polled(
    outlook: Outlook,
) -> None:
    ben = outlook.twin.account("ben@example.org").primary
    ben.share(outlook.mira)
    channel_id = uuid4()
    with pytest.raises(errors.Unwatchable):
        await outlook.client.watch(
            ben.id,
            channel_id=channel_id,
            token=KEYRING.channel_token(channel_id),
            address=ADDRESS,
        )
    page = await outlook.client.list_changes(ben.id, cursor=None)
    ben.unshare(outlook.mira)
    with pytest.raises(errors.Gone):
        await outlook.client.list_changes(ben.id, cursor=page.cursor)


async def test_a_refusal_names_its_request(outlook: Outlook) -> None:
    outlook.twin.switchboard.answer("events.delta", 429)
    with pytest.raises(errors.RateLimited) as limited:
        await outlook.changes()
    assert limited.value.request_id


async def refreshed(outlook: Outlook, token: str, **more: str) -> str | None:
    tokens = await oauth.refresh(
        outlook.http,
        auth_url="https://login.test",
        tenant="common",
        client_id="supacal",
        client_secret=more.get("secret", "right"),
        refresh_token=token,
    )
    outlook.grant.access_token = tokens.access_token
    return tokens.refresh_token


async def test_a_refresh_brings_the_refresh_token_to_keep(outlook: Outlook) -> None:
    outlook.twin.clock.advance(timedelta(hours=2))
    with pytest.raises(errors.AccessExpired):
        await outlook.changes()
    first = outlook.grant.refresh_token
    kept = await refreshed(outlook, first)
    assert kept is not None
    assert kept != first
    await outlook.changes()


async def test_a_revoked_grant_is_lost_and_says_why(outlook: Outlook) -> None:
    outlook.mira.revoke()
    with pytest.raises(errors.AccessLost) as lost:
        await refreshed(outlook, outlook.grant.refresh_token)
    assert lost.value.reason == "invalid_grant AADSTS50173"


async def test_our_own_wrong_secret_loses_nobodys_access(outlook: Outlook) -> None:
    outlook.twin.oauth.clients["supacal"] = "right"
    with pytest.raises(errors.Rejected):
        await refreshed(outlook, outlook.grant.refresh_token, secret="wrong")


@pytest.mark.parametrize("status", [500, 503])
async def test_a_sick_token_endpoint_revokes_nothing(
    outlook: Outlook, status: int
) -> None:
    outlook.twin.switchboard.answer("token", status)
    with pytest.raises(errors.Unavailable):
        await refreshed(outlook, outlook.grant.refresh_token)
    outlook.twin.switchboard.add(Fault(kind=FaultKind.CUT_AFTER, operation="token"))
    with pytest.raises(errors.Unavailable):
        await refreshed(outlook, outlook.grant.refresh_token)
    # Its answer was lost; the token that was used is as good as before.
    assert await refreshed(outlook, outlook.grant.refresh_token)


async def test_a_sign_in_that_reads_nothing_is_told_from_a_calendar_not_for_us(
    outlook: Outlook,
) -> None:
    outlook.twin.switchboard.answer("events.delta", 403)
    with pytest.raises(errors.Gone):
        await outlook.changes()

    everything = outlook.twin.switchboard.answer("*", 403, times=None)
    with pytest.raises(errors.AccessLost):
        await outlook.changes()
    assert everything.struck == 2
