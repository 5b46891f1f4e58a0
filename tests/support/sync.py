"""The system from Google to the tables: its twin, a database, and a worker's handlers.

Time is one for all of them: it runs, unless a test moves it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx2

from local_stack.twins.google import Account, Behaviour, Calendar, Event, GoogleTwin
from providers.model import StoredTokens
from runtime.clock import ManualClock, SystemClock
from runtime.pool import open_pool
from runtime.sealing import Keyring
from runtime.settings import ReceiverSettings, WorkerSettings, read
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection
from webhook_api.app import create_app
from worker.attempt import Ended, attempt
from worker.connections import Connections
from worker.handler import Handler, Task
from worker.pull import Pull
from worker.settling import fail
from worker.watch import Watch

TWIN_URL = "https://google.test"
HOOKS_URL = "https://hooks.test"
EMAIL = "ada@example.org"
# What a person can tell two meetings apart by: title, start, end, status.
Look: TypeAlias = tuple[str, object, object, str]


@dataclass
class World:
    """One database, one Google, one worker's handlers."""

    database: Connection
    pool: asyncpg.Pool
    twin: GoogleTwin
    http: httpx2.AsyncClient
    settings: WorkerSettings
    clock: ManualClock | SystemClock = field(default_factory=SystemClock)

    @property
    def keyring(self) -> Keyring:
        return self.settings.keyring

    @property
    def account(self) -> Account:
        return self.twin.account(EMAIL)

    def handlers(self) -> dict[str, Handler]:
        connections = Connections(self.http, self.pool, self.settings, self.clock)
        return {
            "pull": Pull(self.pool, connections),
            "watch": Watch(self.pool, connections),
        }

    # Who is connected.

    async def connect(
        self, account: Account | None = None, *, organization_id: UUID | None = None
    ) -> UUID:
        """Link an account, as the OAuth callback would; returns the connection."""
        account = account or self.account
        connection_id = await make_connection(
            self.database,
            organization_id or await make_organization(self.database),
            account_email=account.email,
        )
        await self.sign_in(connection_id, account)
        return connection_id

    async def sign_in(self, connection_id: UUID, account: Account) -> None:
        """Store tokens of a fresh grant."""
        await self.store_grant(connection_id, account.sign_in())

    async def store_grant(self, connection_id: UUID, grant: Any) -> None:
        """Store tokens, as the OAuth callback would."""
        tokens = StoredTokens(
            access_token=grant.access_token,
            refresh_token=grant.refresh_token,
            expires_at=grant.expires_at,
            scope=" ".join(grant.scopes),
        )
        sealed = self.keyring.seal(
            tokens.to_json(), context=f"connection:{connection_id}"
        )
        await self.database.execute(
            """
            insert into sync.credentials (connection_id, key_id, ciphertext)
            values ($1, $2, $3)
            on conflict (connection_id) do update
            set key_id = excluded.key_id, ciphertext = excluded.ciphertext
            """,
            connection_id,
            sealed.key_id,
            sealed.ciphertext,
        )

    async def switch_on(
        self,
        calendar: Calendar | None = None,
        *,
        connection_id: UUID | None = None,
        **columns: Any,
    ) -> UUID:
        """Add a calendar of the twin, switched on; nothing is read yet."""
        calendar = calendar or self.account.primary
        calendar_id = await make_calendar(
            self.database,
            connection_id or await self.connect(),
            provider_calendar_id=calendar.id,
            time_zone=calendar.time_zone,
        )
        await self.change(calendar_id, sync_enabled=True, **columns)
        return calendar_id

    async def change(self, calendar_id: UUID, **columns: Any) -> None:
        """Change columns of a calendar, all at once."""
        names = list(columns)
        changes = ", ".join(f"{name} = ${n}" for n, name in enumerate(names, 2))
        await self.database.execute(
            f"update public.calendars set {changes} where id = $1",
            calendar_id,
            *columns.values(),
        )

    # What a worker does, step by step.

    async def pull(self, calendar_id: UUID, *, lane: int = 1) -> Ended:
        """Ask for a pull and do it."""
        return await self.do("pull", calendar_id, lane=lane)

    async def watch(self, calendar_id: UUID) -> Ended:
        """Ask for a watch and do it."""
        return await self.do("watch", calendar_id, lane=0)

    async def do(self, kind: str, subject_id: UUID, *, lane: int) -> Ended:
        """Ask for a task and do it; what else is due stays."""
        return await self.run(await self.claim(kind, subject_id, lane=lane))

    async def run(self, task: Task) -> Ended:
        """Do a claimed task, and write down how it ended."""
        ended = await attempt(self.handlers()[task.kind], task)
        await self.settle(ended)
        return ended

    async def claim(self, kind: str, subject_id: UUID, *, lane: int = 1) -> Task:
        """Ask for a task and lease it, whatever holds it back."""
        await self.database.execute(
            """
            select sync.request_task($1, $2, calendar.connection_id, $3, sync.clock())
            from public.calendars as calendar where calendar.id = $2
            """,
            kind,
            subject_id,
            lane,
        )
        row = await self.database.fetchrow(
            """
            update sync.tasks
            set lease = gen_random_uuid(), run_at = sync.clock() + interval '1 minute',
                attempts = attempts + 1, lane = $3, again_at = null
            where kind = $1 and subject_id = $2
            returning *, sync.clock() as now
            """,
            kind,
            subject_id,
            lane,
        )
        assert row is not None
        return _task(row)

    async def settle(self, ended: Ended) -> None:
        """Write down how a run ended."""
        async with self.pool.acquire() as connection:
            if ended.outcome is not None:
                await connection.execute(
                    "select sync.finish_task($1, $2, $3)",
                    ended.task.id,
                    ended.task.lease,
                    ended.outcome.next_at,
                )
            elif ended.error is not None:
                await fail(connection, ended=ended)

    async def work(self, *kinds: str) -> list[Ended]:
        """Do what is due until nothing is, by the rules of claiming."""
        done: list[Ended] = []
        while tasks := await self._claim_due(list(kinds or self.handlers())):
            done += [await self.run(task) for task in tasks]
        return done

    async def _claim_due(self, kinds: list[str]) -> list[Task]:
        rows = await self.database.fetch(
            "select * from sync.claim_tasks($1, 10, interval '1 minute')", kinds
        )
        return [
            _task(
                {
                    **row,
                    "id": row["task_id"],
                    "attempts": row["attempt"],
                    "run_at": row["due_at"],
                    "now": row["claimed_at"],
                }
            )
            for row in rows
            if row["task_id"] is not None
        ]

    # What became of it.

    async def task(self, kind: str, calendar_id: UUID) -> Any:
        """The row of a task; None when it is over."""
        return await self.database.fetchrow(
            "select *, run_at - sync.clock() as due_in from sync.tasks "
            "where kind = $1 and subject_id = $2",
            kind,
            calendar_id,
        )

    async def state(self, calendar_id: UUID) -> Any:
        """Where the pull of a calendar stands."""
        return await self.database.fetchrow(
            "select * from sync.calendar_state where calendar_id = $1", calendar_id
        )

    async def calendar(self, calendar_id: UUID) -> Any:
        """The row of a calendar."""
        return await self.database.fetchrow(
            "select * from public.calendars where id = $1", calendar_id
        )

    async def connection(self, calendar_id: UUID) -> Any:
        """The connection of a calendar, and how long it is held back."""
        return await self.database.fetchrow(
            """
            select connection.*, state.backoff_until - sync.clock() as held_back
            from public.calendars as calendar
            join public.calendar_connections as connection
              on connection.id = calendar.connection_id
            left join sync.connection_state as state
              on state.connection_id = connection.id
            where calendar.id = $1
            """,
            calendar_id,
        )

    async def alerts(self) -> set[str]:
        """The kinds of alerts that are open."""
        rows = await self.database.fetch(
            "select kind from public.sync_alerts where resolved_at is null"
        )
        return {row["kind"] for row in rows}

    async def channels(self, calendar_id: UUID) -> list[str]:
        """The statuses of a calendar's channels, oldest first."""
        rows = await self.database.fetch(
            "select status from public.calendar_watch_channels "
            "where calendar_id = $1 order by created_at, id",
            calendar_id,
        )
        return [row["status"] for row in rows]

    async def meetings(self, calendar_id: UUID) -> dict[str, UUID]:
        """The meeting of each live event, by the event's id at the provider."""
        rows = await self.database.fetch(
            """
            select event.provider_event_id, meeting.id
            from public.calendar_events as event
            join public.meetings as meeting on meeting.id = event.meeting_id
            where event.calendar_id = $1 and event.status <> 'cancelled'
              and event.scope = 'in' and event.role <> 'series'
              and meeting.merged_into is null
            """,
            calendar_id,
        )
        return {row["provider_event_id"]: row["id"] for row in rows}

    async def advance(self, **by: float) -> None:
        """Move the time on: `await world.advance(days=7)`."""
        assert isinstance(self.clock, ManualClock), "the time of this world runs"
        self.clock.advance(timedelta(**by))
        await DatabaseClock(self.database).set(self.clock.now())


def _task(row: Mapping[str, Any]) -> Task:
    return Task(
        id=row["id"],
        kind=row["kind"],
        subject_id=row["subject_id"],
        connection_id=row["connection_id"],
        lane=row["lane"],
        attempt=row["attempts"],
        lease=row["lease"],
        due_at=row["run_at"],
        claimed_at=row["now"],
        lease_ends=60,
    )


@asynccontextmanager
async def make_world(
    database: Connection,
    url: str,
    *,
    still: bool = False,
    behaviour: Behaviour | None = None,
    page_size: int | None = None,
    **settings: str,
) -> AsyncIterator[World]:
    """Everything in process; with `still` the time stands until it is moved."""
    clock = ManualClock(datetime.now(UTC)) if still else SystemClock()
    if still:
        await DatabaseClock(database).set(clock.now())
    twin = GoogleTwin(clock, behaviour)
    worker_settings = read(WorkerSettings, _environment(url) | settings)
    transport: httpx2.AsyncBaseTransport = httpx2.ASGITransport(app=twin)
    if page_size is not None:
        transport = SmallPages(transport, page_size)
    pool = await open_pool(
        url, role="sync_worker", min_size=0, max_size=4, application_name="handlers"
    )
    try:
        async with httpx2.AsyncClient(transport=transport) as http:
            yield World(database, pool, twin, http, worker_settings, clock)
    finally:
        await twin.aclose()
        await pool.close()


@asynccontextmanager
async def receiving(world: World, url: str) -> AsyncIterator[None]:
    """Let the twin's pushes reach a receiver on the same database."""
    keys = world.settings.supacal_secret_keys.get_secret_value()
    settings = read(
        ReceiverSettings, {"DATABASE_URL": url, "SUPACAL_SECRET_KEYS": keys}
    )
    app = create_app(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        await app.store.connected()
        world.twin.deliver_to(HOOKS_URL, httpx2.ASGITransport(app=app))
        await stack.enter_async_context(world.twin)
        yield


def use_twin_at(world: World, url: str, **more: str) -> dict[str, str]:
    """The environment of a worker outside, with the twin on a loopback port."""
    settings = world.settings
    assert settings.database_url
    return {
        **_environment(settings.database_url.get_secret_value()),
        "SUPACAL_SECRET_KEYS": settings.supacal_secret_keys.get_secret_value(),
        "GOOGLE_API_URL": f"{url}/calendar/v3",
        "GOOGLE_AUTH_URL": url,
        **more,
    }


class SmallPages(httpx2.AsyncBaseTransport):
    """Asks for fewer events a page than the client does."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, size: int) -> None:
        self._inner = inner
        self._size = str(size)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if "maxResults" in request.url.params:
            request.url = request.url.copy_set_param("maxResults", self._size)
        return await self._inner.handle_async_request(request)


def _environment(url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "SUPACAL_SECRET_KEYS": Keyring.generate("test"),
        "SUPACAL_PUBLIC_URL": HOOKS_URL,
        "GOOGLE_CLIENT_ID": "supacal",
        "GOOGLE_CLIENT_SECRET": "of-the-client",
        "GOOGLE_API_URL": f"{TWIN_URL}/calendar/v3",
        "GOOGLE_AUTH_URL": TWIN_URL,
    }


async def synced(world: World, calendar: Calendar, **columns: Any) -> UUID:
    """A calendar that was read whole."""
    calendar_id = await world.switch_on(calendar, **columns)
    assert (await world.pull(calendar_id)).outcome
    return calendar_id


# The oracle.


async def assert_mirrors(
    database: Connection, calendar_id: UUID, calendar: Calendar
) -> None:
    """The tables show what the twin shows inside the window, and nothing twice."""
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
    theirs = {event.id: _their_look(event) for event in _wanted(calendar, *window)}
    assert ours == theirs, f"only ours, only theirs: {_difference(ours, theirs)}"
    assert len(rows) == len(ours) == len({row["id"] for row in rows})
    assert not await database.fetch(GHOSTS, calendar_id)


FEW = 5
LIVE_MEETINGS = """
select event.provider_event_id, meeting.*
from public.calendar_events as event
join public.meetings as meeting on meeting.id = event.meeting_id
where event.calendar_id = $1 and event.status <> 'cancelled' and event.scope = 'in'
  and event.role <> 'series' and event.ends_at > $2 and event.starts_at < $3
"""

# Meetings that are still to come, though no event of theirs is there any more.
GHOSTS = """
select meeting.id, meeting.title, meeting.starts_at
from public.meetings as meeting
where meeting.calendar_id = $1 and meeting.status <> 'cancelled'
  and meeting.merged_into is null and meeting.ends_at > sync.clock()
  and not exists (
    select 1 from public.calendar_events as event
    where event.meeting_id = meeting.id
      and (event.status <> 'cancelled' or event.scope = 'detached')
  )
"""


def _wanted(calendar: Calendar, start: datetime, end: datetime) -> Sequence[Event]:
    return [
        event
        for event in calendar.events(start, end)
        if event.body.get("eventType", "default") == "default"
        and not any(
            guest.get("self") and guest.get("responseStatus") == "declined"
            for guest in event.body.get("attendees", ())
        )
    ]


def _difference(
    ours: dict[str, Look], theirs: dict[str, Look]
) -> tuple[list[tuple[str, Look]], list[tuple[str, Look]]]:
    """A few of each are enough to begin with."""
    mine, yours = ours.items(), theirs.items()
    return [one for one in mine if one not in yours][:FEW], [
        one for one in yours if one not in mine
    ][:FEW]


def _our_look(row: Any) -> Look:
    if row["all_day"]:
        return row["title"], row["start_date"], row["end_date"], _said(row["status"])
    return row["title"], row["starts_at"], row["ends_at"], _said(row["status"])


def _said(status: str) -> str:
    """What a calendar says of it: that a meeting is over is our own conclusion."""
    return "confirmed" if status == "completed" else status


def _their_look(event: Event) -> Look:
    body = event.body
    private = body.get("visibility") in {"private", "confidential"}
    title = "Busy" if private else body.get("summary", "")
    start, end = (_moment(when) for when in (event.start, event.end))
    return title, start, end, body["status"]


def _moment(when: date) -> date:
    return when.astimezone(UTC) if isinstance(when, datetime) else when


def new_address() -> str:
    """An address that nobody has."""
    return f"{uuid4().hex[:8]}@example.org"
