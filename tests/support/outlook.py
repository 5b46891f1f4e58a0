"""The system from Outlook to the tables: its twin, a database, a worker's handlers."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx2

from local_stack.twins.microsoft import (
    Account,
    Behaviour,
    Calendar,
    Event,
    MicrosoftTwin,
)
from runtime.clock import ManualClock, SystemClock
from runtime.pool import open_pool
from runtime.sealing import Keyring
from runtime.settings import WorkerSettings, read
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection
from tests.support.sync import EMAIL, GHOSTS, HOOKS_URL, LIVE_MEETINGS, World

TWIN_URL = "https://graph.test"
# Outlook's calendars have no zone of their own: whole days lie in the organization's.
ZONE = "Europe/Berlin"
Look: TypeAlias = tuple[str, object, object, str]


@dataclass
class OutlookWorld(World):
    """One database, one Outlook, one worker's handlers."""

    twin: MicrosoftTwin  # type: ignore[assignment]

    @property
    def account(self) -> Account:  # type: ignore[override]
        return self.twin.account(EMAIL)

    async def connect(  # type: ignore[override]
        self, account: Account | None = None, *, organization_id: UUID | None = None
    ) -> UUID:
        account = account or self.account
        connection_id = await make_connection(
            self.database,
            organization_id or await make_organization(self.database, time_zone=ZONE),
            provider="microsoft",
            account_email=account.email,
        )
        await self.sign_in(connection_id, account)
        return connection_id

    async def switch_on(  # type: ignore[override]
        self,
        calendar: Calendar | None = None,
        *,
        connection_id: UUID | None = None,
        **columns: Any,
    ) -> UUID:
        calendar = calendar or self.account.primary
        calendar_id = await make_calendar(
            self.database,
            connection_id or await self.connect(),
            provider_calendar_id=calendar.id,
            time_zone=None,
        )
        await self.change(calendar_id, sync_enabled=True, **columns)
        return calendar_id

    async def sign_in_with(self, calendar_id: UUID, *, scopes: Sequence[str]) -> None:
        """Connect the account of a calendar anew, granting only so much."""
        connection = await self.connection(calendar_id)
        await self.store_grant(connection["id"], self.account.sign_in(scopes=scopes))


@asynccontextmanager
async def make_outlook(
    database: Connection,
    url: str,
    *,
    still: bool = False,
    behaviour: Behaviour | None = None,
    backwards: bool = False,
    **settings: str,
) -> AsyncIterator[OutlookWorld]:
    """Everything in process; with `still` the time stands until it is moved.

    Backwards, what a page shows comes last one first.
    """
    clock = ManualClock(datetime.now(UTC)) if still else SystemClock()
    if still:
        await DatabaseClock(database).set(clock.now())
    environment = {
        "DATABASE_URL": url,
        "SUPACAL_SECRET_KEYS": Keyring.generate("test"),
        "SUPACAL_PUBLIC_URL": HOOKS_URL,
        "MICROSOFT_CLIENT_ID": "supacal",
        "MICROSOFT_CLIENT_SECRET": "of-the-client",
        "MICROSOFT_API_URL": f"{TWIN_URL}/v1.0",
        "MICROSOFT_AUTH_URL": TWIN_URL,
    }
    worker_settings = read(WorkerSettings, environment | settings)
    pool = await open_pool(
        url, role="sync_worker", min_size=0, max_size=4, application_name="handlers"
    )
    try:
        async with (
            MicrosoftTwin(clock, behaviour) as twin,
            httpx2.AsyncClient(transport=_transport(twin, backwards)) as http,
        ):
            yield OutlookWorld(database, pool, twin, http, worker_settings, clock)
    finally:
        await pool.close()


class Backwards(httpx2.AsyncBaseTransport):
    """Turns the items of each page round: their order is promised to nobody."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        if "/delta" in request.url.path and response.status_code == HTTPStatus.OK:
            page = json.loads(body)
            body = json.dumps({**page, "value": page["value"][::-1]}).encode()
        headers = {"content-type": "application/json"}
        kept = {**response.headers, **headers, "content-length": str(len(body))}
        return httpx2.Response(response.status_code, headers=kept, content=body)


def _transport(twin: MicrosoftTwin, backwards: bool) -> httpx2.AsyncBaseTransport:
    transport = httpx2.ASGITransport(app=twin)
    return Backwards(transport) if backwards else transport


async def synced(world: OutlookWorld, calendar: Calendar, **columns: Any) -> UUID:
    """A calendar that was read whole."""
    calendar_id = await world.switch_on(calendar, **columns)
    ended = await world.pull(calendar_id)
    assert ended.outcome, ended.error
    return calendar_id


async def assert_mirrors(
    database: Connection, calendar_id: UUID, calendar: Calendar
) -> None:
    """The tables show what calendarView shows inside the window, nothing twice."""
    state = await database.fetchrow(
        "select window_start, window_end from sync.calendar_state "
        "where calendar_id = $1",
        calendar_id,
    )
    assert state is not None, "the calendar was never read"
    assert state["window_end"] is not None, "the calendar was never read whole"
    window = state["window_start"], state["window_end"]
    rows = await database.fetch(LIVE_MEETINGS, calendar_id, *window)
    ours = {row["provider_event_id"]: _our_look(row) for row in rows}
    theirs = {one.id: _their_look(one) for one in _wanted(calendar, *window)}
    assert ours == theirs, f"only ours, only theirs: {_difference(ours, theirs)}"
    assert len(rows) == len(ours) == len({row["id"] for row in rows})
    assert not await database.fetch(GHOSTS, calendar_id)


def _wanted(calendar: Calendar, start: datetime, end: datetime) -> Sequence[Event]:
    return [one for one in calendar.events(start, end) if not one.cancelled]


def _difference(
    ours: dict[str, Look], theirs: dict[str, Look]
) -> tuple[list[tuple[str, Look]], list[tuple[str, Look]]]:
    mine, yours = ours.items(), theirs.items()
    return [one for one in mine if one not in yours], [
        one for one in yours if one not in mine
    ]


def _our_look(row: asyncpg.Record) -> Look:
    if row["all_day"]:
        return row["title"], row["start_date"], row["end_date"], row["status"]
    return row["title"], row["starts_at"], row["ends_at"], row["status"]


def _their_look(event: Event) -> Look:
    fields = event.found.record.fields
    is_private = fields.get("sensitivity", "normal") != "normal"
    title = "Busy" if is_private else event.title
    status = "tentative" if fields.get("showAs") == "tentative" else "confirmed"
    return title, _moment(event.start), _moment(event.end), status


def _moment(when: date) -> date:
    return when.astimezone(UTC) if isinstance(when, datetime) else when
