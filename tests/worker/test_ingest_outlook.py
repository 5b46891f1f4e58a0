"""Bookings whose event is in Outlook: others name it by an id that changes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.microsoft.twin import MicrosoftTwin
from providers.model import Provider, StoredTokens
from tests.support.builders import make_calendar, make_connection
from tests.support.ingesting import IngestWorld, at, make_ingest_world
from tests.support.sessions import Connection
from tests.support.sync import EMAIL
from worker.connections import Connections
from worker.handler import Handler
from worker.pull import Pull

TRANSLATE = "translate"


class ByHost(httpx2.AsyncBaseTransport):
    """Reaches several twins, each at its own address."""

    def __init__(self, twins: Mapping[str, Any]) -> None:
        self._transports = {
            host: httpx2.ASGITransport(app=twin) for host, twin in twins.items()
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._transports[request.url.host].handle_async_request(request)


class WorldOfPulls(IngestWorld):
    """A world whose worker reads calendars as well."""

    def handlers(self) -> dict[str, Handler]:
        opened = Connections(self.http, self.pool, self.settings, self.clock)
        return {**super().handlers(), "pull": Pull(self.pool, opened)}


@dataclass
class Practice:
    """Somebody booked through another product, whose calendar is at Outlook."""

    world: IngestWorld
    outlook: MicrosoftTwin
    calendar_id: UUID
    connection_id: UUID

    def book(self, days: int = 0, *, as_id: str | None = None) -> None:
        """Book a call, which is put into the host's calendar."""
        booked = self.world.book(at(days))
        event = self.outlook.account(EMAIL).primary.add(
            "Call", at(days), end=at(days) + timedelta(minutes=30)
        )
        event_id = as_id or event.ids.mutable
        if self.world.provider is Provider.CALCOM:
            booked.put_into_calendar(event_id)
            return
        with self.world.twin.store.exclusive() as known:
            *_, slot = known.events.values()
            slot.calendar_event = {"kind": "outlook", "external_id": event_id}

    async def begin(self) -> None:
        """Switch the bookings on, and read those there are."""
        connection_id = self.world.connection_id
        self.world.calendar_id = await self.world.switch_on(connection_id=connection_id)
        await self.world.work("watch", "ingest")

    async def pull(self) -> None:
        ended = await self.world.do("pull", self.calendar_id, lane=1)
        assert ended.error is None

    def asked(self) -> int:
        count: int = self.outlook.calls.count(TRANSLATE)
        return count


@asynccontextmanager
async def make_practice(
    database: Connection, database_url: str, provider: Provider
) -> AsyncIterator[Practice]:
    """Both of its accounts are connected; its bookings are not switched on."""
    async with (
        make_ingest_world(database, database_url, provider) as made,
        MicrosoftTwin(made.clock) as outlook,
        httpx2.AsyncClient(
            transport=ByHost({f"{provider}.test": made.twin, "graph.test": outlook})
        ) as http,
    ):
        world = WorldOfPulls(**(vars(made) | {"http": http}))
        if provider is Provider.CALCOM:
            world.account.user.calendar = "office365_calendar"
            world.twin.behaviour.row_lags_s = 0
        world.connection_id = await world.connect()
        organization = await database.fetchval("select id from public.organizations")
        account = outlook.account(EMAIL)
        connection = await make_connection(
            database, organization, provider="microsoft", account_email=EMAIL
        )
        grant = account.sign_in()
        tokens = StoredTokens(
            grant.access_token, grant.refresh_token, grant.expires_at, None
        )
        sealed = world.keyring.seal(
            tokens.to_json(), context=f"connection:{connection}"
        )
        await database.execute(
            "insert into sync.credentials (connection_id, key_id, ciphertext)"
            " values ($1, $2, $3)",
            connection,
            sealed.key_id,
            sealed.ciphertext,
        )
        calendar = await make_calendar(
            database, connection, provider_calendar_id=account.primary.id
        )
        await world.change(calendar, sync_enabled=True)
        yield Practice(world, outlook, calendar, connection)


@pytest.fixture(params=[Provider.CALENDLY, Provider.CALCOM])
async def unconnected(
    request: pytest.FixtureRequest, database: Connection, database_url: str
) -> AsyncIterator[Practice]:
    async with make_practice(database, database_url, request.param) as made:
        yield made


@pytest.fixture
async def practice(unconnected: Practice) -> Practice:
    await unconnected.begin()
    return unconnected


@pytest.mark.parametrize("first", ["booking", "event"])
async def test_a_booking_and_its_event_in_outlook_are_one_meeting(
    practice: Practice, first: str
) -> None:
    practice.book()
    if first == "event":
        await practice.pull()
    await practice.world.delivered()
    if first == "booking":
        await practice.pull()

    assert [status for _, _, status in await practice.world.shown()] == ["confirmed"]
    assert practice.asked() == 1
    # What is known is not asked for again.
    await practice.world.ingest()
    assert practice.asked() == 1


@pytest.mark.parametrize("first", ["booking", "event"])
async def test_bookings_that_were_there_before_find_their_events_in_outlook(
    unconnected: Practice, first: str
) -> None:
    practice = unconnected
    for days in range(3):
        practice.book(days)
    await practice.world.advance(minutes=1)  # until their rows show it
    if first == "event":
        await practice.pull()
    await practice.begin()
    if first == "booking":
        await practice.pull()

    assert [status for _, _, status in await practice.world.shown()] == (
        ["confirmed"] * 3
    )


async def test_a_booking_that_only_a_sweep_finds_finds_its_event_in_outlook(
    practice: Practice,
) -> None:
    practice.world.twin.switchboard.drop_pushes(times=None)
    practice.book()
    await practice.pull()
    await practice.world.delivered()
    await practice.world.advance(hours=2)
    await practice.world.work("ingest")

    assert [status for _, _, status in await practice.world.shown()] == ["confirmed"]


async def test_while_outlook_is_away_bookings_go_on_and_it_is_asked_later(
    practice: Practice,
) -> None:
    practice.outlook.switchboard.answer(TRANSLATE, 503, times=1)
    practice.book()
    await practice.pull()

    ended = await practice.world.delivered()

    assert all(one.error is None for one in ended)
    assert len(await practice.world.shown()) == 2
    assert await practice.world.due_in() == timedelta(minutes=1)
    await practice.world.advance(minutes=1)
    await practice.world.work("ingest")
    assert len(await practice.world.shown()) == 1


async def test_an_id_that_outlook_refuses_keeps_no_other_from_being_translated(
    practice: Practice,
) -> None:
    practice.outlook.switchboard.answer(TRANSLATE, 400, times=2)
    for days in range(4):
        practice.book(days)
    await practice.pull()

    # All four are refused, then the first two; each of these alone is not.
    await practice.world.delivered()

    assert practice.asked() == 5
    assert len(await practice.world.shown()) == 4


async def test_a_grant_that_outlook_revoked_costs_no_booking(
    practice: Practice,
) -> None:
    practice.book()
    practice.outlook.account(EMAIL).revoke()

    ended = await practice.world.delivered()

    assert all(one.error is None for one in ended)
    assert [status for _, _, status in await practice.world.shown()] == ["confirmed"]


async def test_an_id_that_nobody_knows_is_asked_for_less_and_less_and_given_up(
    practice: Practice,
) -> None:
    practice.book(as_id="AAMkUnknown=")
    await practice.world.delivered()
    assert await practice.world.due_in() == timedelta(minutes=1)

    for _ in range(8):
        await practice.world.advance(days=2)
        await practice.world.ingest()

    assert practice.asked() == 6


async def test_where_nobody_can_ask_outlook_nobody_waits(practice: Practice) -> None:
    await practice.world.database.execute(
        "update public.calendar_connections set status = 'paused' where id = $1",
        practice.connection_id,
    )
    practice.book()
    await practice.world.delivered()
    due_in = await practice.world.due_in()
    assert due_in is not None
    assert due_in > timedelta(minutes=10)

    # Once somebody can, the booking finds its event all the same.
    await practice.world.database.execute(
        "update public.calendar_connections set status = 'active' where id = $1",
        practice.connection_id,
    )
    await practice.pull()
    assert len(await practice.world.shown()) == 2
    await practice.world.ingest()
    assert len(await practice.world.shown()) == 1
