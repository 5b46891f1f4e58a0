"""A world of any provider but Google: its twin, a receiver, and a watch."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2

from local_stack.twins.calcom.twin import CalcomTwin
from local_stack.twins.calendly.twin import CalendlyTwin
from local_stack.twins.microsoft.twin import MicrosoftTwin
from providers.model import Provider, StoredTokens
from runtime.clock import ManualClock
from runtime.pool import open_pool
from runtime.sealing import Keyring
from runtime.settings import ReceiverSettings, WorkerSettings, read
from tests.support.builders import make_connection, make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection
from tests.support.sync import EMAIL, HOOKS_URL, World
from webhook_api.app import create_app
from worker.connections import Connections
from worker.handler import Handler
from worker.watch import Watch

DAY = timedelta(days=1)
TWINS = {
    Provider.MICROSOFT: MicrosoftTwin,
    Provider.CALENDLY: CalendlyTwin,
    Provider.CALCOM: CalcomTwin,
}
ENVIRONMENT = {
    "SUPACAL_PUBLIC_URL": HOOKS_URL,
    "MICROSOFT_CLIENT_ID": "supacal",
    "MICROSOFT_CLIENT_SECRET": "of-the-client",
    "MICROSOFT_API_URL": "https://graph.test/v1.0",
    "MICROSOFT_AUTH_URL": "https://graph.test",
    "CALENDLY_CLIENT_ID": "supacal",
    "CALENDLY_CLIENT_SECRET": "of-the-client",
    "CALENDLY_API_URL": "https://calendly.test",
    "CALENDLY_AUTH_URL": "https://calendly.test/oauth",
    "CALCOM_API_URL": "https://calcom.test/v2",
}


@dataclass
class WatchedWorld(World):
    """One database, one provider's twin, and what watches its channels."""

    twin: Any
    provider: Provider = Provider.MICROSOFT
    # How Calendly accounts are connected: through our app, or by a personal token.
    by_app: bool = False
    url: str = ""

    @property
    def account(self) -> Any:
        is_outlook = self.provider is Provider.MICROSOFT
        return self.twin.account(EMAIL) if is_outlook else self.twin.host(EMAIL)

    def handlers(self) -> dict[str, Handler]:
        connections = Connections(self.http, self.pool, self.settings, self.clock)
        return {"watch": Watch(self.pool, connections)}

    async def connect(
        self, account: Any = None, *, organization_id: UUID | None = None
    ) -> UUID:
        connection_id = await make_connection(
            self.database,
            organization_id or await make_organization(self.database),
            provider=self.provider,
            account_email=(account or self.account).email,
        )
        await self.sign_in(connection_id, account or self.account)
        return connection_id

    async def sign_in(self, connection_id: UUID, account: Any) -> None:
        sealed = self.keyring.seal(
            self._tokens(account).to_json(), context=f"connection:{connection_id}"
        )
        await self.database.execute(
            "insert into sync.credentials (connection_id, key_id, ciphertext) "
            "values ($1, $2, $3)",
            connection_id,
            sealed.key_id,
            sealed.ciphertext,
        )

    def _tokens(self, account: Any) -> StoredTokens:
        ends_at = self.clock.now() + timedelta(hours=1)
        if self.provider is Provider.MICROSOFT:
            grant = account.sign_in()
            return StoredTokens(
                grant.access_token, grant.refresh_token, grant.expires_at, None
            )
        if self.provider is Provider.CALCOM:
            return StoredTokens(account.api_key(), None, ends_at, None)
        if self.by_app:
            access, refresh = account.sign_in()
            return StoredTokens(access, refresh, ends_at, None)
        return StoredTokens(account.personal_token(), None, ends_at, None)

    async def switch_on(
        self,
        calendar: Any = None,
        *,
        connection_id: UUID | None = None,
        **columns: Any,
    ) -> UUID:
        """Add a calendar of the twin's, or the bookings of its host."""
        connection_id = connection_id or await self.connect()
        if self.provider is Provider.MICROSOFT:
            return await super().switch_on(
                calendar, connection_id=connection_id, **columns
            )
        calendar_id: UUID = await self.database.fetchval(
            """
            insert into public.calendars
              (connection_id, organization_id, provider_calendar_id, name, kind)
            select connection.id, connection.organization_id, 'bookings', 'Bookings',
              'bookings'
            from public.calendar_connections as connection
            where connection.id = $1
            returning id
            """,
            connection_id,
        )
        await self.change(calendar_id, sync_enabled=True, **columns)
        return calendar_id

    # What is asked for.

    async def is_to_be_read(self, calendar_id: UUID) -> bool:
        """Whether reading was asked for since it was last asked here."""
        ended = await self.database.fetchrow(
            """
            delete from sync.tasks as task
            using public.calendars as calendar
            where calendar.id = $1 and task.run_at <= sync.clock()
              and (task.kind, task.subject_id) in (
                ('pull', calendar.id), ('ingest', calendar.connection_id)
              )
            returning task.kind, calendar.kind = 'bookings' as is_of_bookings
            """,
            calendar_id,
        )
        if ended is None:
            return False
        assert (ended["kind"] == "ingest") == ended["is_of_bookings"]
        return True

    # What operators do.

    def configure(self, **settings: str) -> None:
        """Restart the worker with other settings; an empty one is unset."""
        self.settings = _settings(self.url, self.settings, settings)

    def rotate_keys(self, *, keep: bool = True) -> None:
        """Put a fresh key in front, and drop the others or not."""
        keys = self.settings.supacal_secret_keys.get_secret_value()
        fresh = Keyring.generate(f"k{len(keys)}")
        self.configure(SUPACAL_SECRET_KEYS=f"{fresh},{keys}" if keep else fresh)


def _settings(
    url: str, before: WorkerSettings | None, more: Mapping[str, str]
) -> WorkerSettings:
    known = {"DATABASE_URL": url, **ENVIRONMENT}
    if before is None:
        known["SUPACAL_SECRET_KEYS"] = Keyring.generate("test")
    else:
        known["SUPACAL_SECRET_KEYS"] = before.supacal_secret_keys.get_secret_value()
    return read(WorkerSettings, {k: v for k, v in {**known, **more}.items() if v})


@asynccontextmanager
async def make_watched_world(
    database: Connection, url: str, provider: Provider, **settings: str
) -> AsyncIterator[WatchedWorld]:
    """Everything in process, in a time that stands until it is moved."""
    clock = ManualClock(datetime.now(UTC))
    await DatabaseClock(database).set(clock.now())
    twin = TWINS[provider](clock)
    pool = await open_pool(
        url, role="sync_worker", min_size=0, max_size=4, application_name="handlers"
    )
    transport = httpx2.ASGITransport(app=twin)
    known = _settings(url, None, settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(pool.close)
        http = await stack.enter_async_context(httpx2.AsyncClient(transport=transport))
        await stack.enter_async_context(twin)
        world = WatchedWorld(
            database, pool, twin, http, known, clock, provider=provider, url=url
        )
        yield world


@asynccontextmanager
async def heard(world: WatchedWorld, **settings: str) -> AsyncIterator[None]:
    """Let what the twin posts reach a receiver, which has the worker's keys."""
    keys = world.settings.supacal_secret_keys.get_secret_value()
    known = {"DATABASE_URL": world.url, "SUPACAL_SECRET_KEYS": keys, **settings}
    app = create_app(read(ReceiverSettings, known), clock=world.clock)
    async with app.router.lifespan_context(app):
        await app.store.connected()
        world.twin.deliver_to(HOOKS_URL, httpx2.ASGITransport(app=app))
        yield


async def rows(world: World, calendar_id: UUID) -> list[Any]:
    """The channels of a calendar, oldest first."""
    channels: list[Any] = await world.database.fetch(
        "select channel.*, state.hello_at, state.renew_at, state.key_id, "
        "state.heard_as, state.unused "
        "from public.calendar_watch_channels as channel "
        "left join sync.channel_state as state on state.channel_id = channel.id "
        "where calendar_id = $1 order by created_at, id",
        calendar_id,
    )
    return channels


async def live_channel(world: World, calendar_id: UUID) -> Any:
    """The channel that is active."""
    [live] = [
        row for row in await rows(world, calendar_id) if row["status"] == "active"
    ]
    return live


async def gaps(world: World) -> list[Any]:
    """The calendars that nothing announces changes of."""
    found: list[Any] = await world.database.fetch(
        "select calendar_id, gap, reason from public.sync_coverage_gaps"
    )
    return found
