"""Promises of connections at Microsoft, Calendly and Cal.com: how tokens are kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from local_stack.twins.calcom import CalcomTwin
from local_stack.twins.calendly import CalendlyTwin
from local_stack.twins.microsoft import Behaviour
from local_stack.twins.switchboard import Fault, FaultKind
from providers.bookings import BookingAccount
from providers.errors import AccessLost, Transient
from providers.model import StoredTokens
from runtime.clock import ManualClock
from runtime.pool import open_pool
from runtime.sealing import Keyring, Sealed
from runtime.settings import WorkerSettings, read
from tests.support.builders import make_connection, make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.eventually import eventually
from tests.support.outlook import OutlookWorld, make_outlook, synced
from tests.support.sessions import Connection
from worker.connections import CALLS_AT_ONCE, Account, Connections
from worker.handler import Task, TaskFailed

AGES = timedelta(days=365)


@dataclass
class Booked:
    """A connection to a provider of bookings, and the tasks of its runs."""

    database: Connection
    pool: asyncpg.Pool
    connections: Connections
    connection_id: UUID
    provider: str
    clock: ManualClock

    async def store(self, access: str, refresh: str | None, life: timedelta) -> None:
        """Store what a sign-in gave, or a key that somebody pasted."""
        tokens = StoredTokens(access, refresh, self.clock.now() + life, None)
        sealed = self.connections.settings.keyring.seal(
            tokens.to_json(), context=f"connection:{self.connection_id}"
        )
        await self.database.execute(
            "insert into sync.credentials (connection_id, key_id, ciphertext) "
            "values ($1, $2, $3)",
            self.connection_id,
            sealed.key_id,
            sealed.ciphertext,
        )

    async def run(self, kind: str = "ingest") -> Account:
        """Open the account, as a run of a task of its own."""
        row = await self.database.fetchrow(
            """
            insert into sync.tasks
              (kind, subject_id, connection_id, lane, run_at, lease)
            values ($1, $2, $2, 1, sync.clock(), gen_random_uuid())
            on conflict (kind, subject_id) do update set lease = gen_random_uuid()
            returning *
            """,
            kind,
            self.connection_id,
        )
        assert row is not None
        task = Task(
            id=row["id"],
            kind=kind,
            subject_id=self.connection_id,
            connection_id=self.connection_id,
            lane=1,
            attempt=1,
            lease=row["lease"],
            due_at=row["run_at"],
            claimed_at=row["run_at"],
            lease_ends=60,
        )
        credentials = await self.database.fetchrow(
            """
            select connection.provider, connection.id as connection_id,
              credentials.key_id, credentials.ciphertext
            from public.calendar_connections as connection
            left join sync.credentials as credentials
              on credentials.connection_id = connection.id
            where connection.id = $1
            """,
            self.connection_id,
        )
        assert credentials is not None
        return self.connections.open(task, credentials)

    async def ask(self) -> BookingAccount:
        """Ask the provider something, as a run does."""
        account = await self.run()
        try:
            return await account.ask(account.bookings.account)
        except AccessLost as lost:
            await account.lose(lost)
            raise

    async def status(self) -> tuple[str, str | None]:
        row = await self.database.fetchrow(
            "select status, status_reason from public.calendar_connections"
        )
        assert row is not None
        return row["status"], row["status_reason"]


@asynccontextmanager
async def booked(
    database: Connection, url: str, provider: str, twin: Any, **more: str
) -> AsyncIterator[Booked]:
    clock = twin.clock
    await DatabaseClock(database).set(clock.now())
    settings = read(
        WorkerSettings,
        {
            "DATABASE_URL": url,
            "SUPACAL_SECRET_KEYS": Keyring.generate("test"),
            "SUPACAL_PUBLIC_URL": "https://hooks.test",
            "CALENDLY_CLIENT_ID": "supacal",
            "CALENDLY_CLIENT_SECRET": "of-the-client",
            "CALENDLY_API_URL": "https://twin.test",
            "CALENDLY_AUTH_URL": "https://twin.test/oauth",
            "CALCOM_API_URL": "https://twin.test/v2",
            **more,
        },
    )
    connection_id = await make_connection(
        database, await make_organization(database), provider=provider
    )
    pool = await open_pool(
        url, role="sync_worker", min_size=0, max_size=4, application_name="handlers"
    )
    async with twin, httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http:
        connections = Connections(http, pool, settings, clock)
        yield Booked(database, pool, connections, connection_id, provider, clock)
    await pool.close()


@pytest.fixture
def calendly_twin() -> CalendlyTwin:
    return CalendlyTwin(ManualClock(datetime.now(UTC)))


@pytest.fixture
async def calendly(
    database: Connection, database_url: str, calendly_twin: CalendlyTwin
) -> AsyncIterator[Booked]:
    async with booked(database, database_url, "calendly", calendly_twin) as made:
        yield made


@pytest.fixture
def host(calendly_twin: CalendlyTwin) -> Any:
    return calendly_twin.host("ana@example.org", name="Ana Host")


# Calendly: a refresh token is used once.


async def test_calendly_s_new_pair_of_tokens_is_kept_before_it_is_used(
    calendly: Booked, calendly_twin: CalendlyTwin, host: Any
) -> None:
    await calendly.store(*host.sign_in(), timedelta(hours=-1))

    for _ in range(2):  # the second run has nothing but what the first has stored
        assert (await calendly.ask()).provider_id == host.uri
    assert calendly_twin.calls.count("token") == 1


async def test_two_runs_at_once_spend_one_refresh_token_once(
    calendly: Booked, calendly_twin: CalendlyTwin, host: Any
) -> None:
    await calendly.store(*host.sign_in(), timedelta(hours=-1))
    calendly_twin.switchboard.slow("token", 0.2)

    runs = [await calendly.run(kind) for kind in ("ingest", "watch")]
    told = await asyncio.gather(*(run.ask(run.bookings.account) for run in runs))

    assert [one.provider_id for one in told] == [host.uri] * 2
    assert calendly_twin.calls.count("token") == 1
    assert await calendly.status() == ("active", None)


async def test_a_run_that_is_called_off_while_it_refreshes_keeps_the_new_tokens(
    calendly: Booked, calendly_twin: CalendlyTwin, host: Any
) -> None:
    await calendly.store(*host.sign_in(), timedelta(hours=-1))
    slow = calendly_twin.switchboard.slow("token", 0.2)
    running = asyncio.create_task(calendly.ask())
    await eventually(lambda: slow.struck)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await calendly.ask()).provider_id == host.uri
    assert calendly_twin.calls.count("token") == 1


async def test_a_refresh_whose_answer_was_lost_is_not_repeated(
    calendly: Booked, calendly_twin: CalendlyTwin, host: Any
) -> None:
    await calendly.store(*host.sign_in(), timedelta(hours=-1))
    calendly_twin.switchboard.add(Fault(kind=FaultKind.CUT_AFTER, operation="token"))

    with pytest.raises(AccessLost):
        await calendly.ask()

    status, reason = await calendly.status()
    assert status == "needs_reauth"
    assert reason is not None
    assert "lostAnswer" in reason
    assert calendly_twin.calls.count("token") == 1


async def test_a_refresh_that_calendly_was_too_busy_for_is_tried_again(
    calendly: Booked, calendly_twin: CalendlyTwin, host: Any
) -> None:
    await calendly.store(*host.sign_in(), timedelta(hours=-1))
    calendly_twin.switchboard.answer("token", 503)

    with pytest.raises(Transient):
        await calendly.ask()

    assert await calendly.status() == ("active", None)
    assert (await calendly.ask()).provider_id == host.uri


async def test_a_personal_token_has_no_end(
    calendly: Booked, calendly_twin: CalendlyTwin, host: Any
) -> None:
    await calendly.store(host.personal_token(), None, -AGES)

    assert (await calendly.ask()).provider_id == host.uri
    assert calendly_twin.calls.count("token") == 0


async def test_a_personal_token_that_was_revoked_needs_its_owner(
    calendly: Booked, host: Any
) -> None:
    await calendly.store(host.personal_token(), None, AGES)
    host.revoke()

    with pytest.raises(AccessLost):
        await calendly.ask()

    status, reason = await calendly.status()
    assert status == "needs_reauth"
    assert reason is not None
    assert "the API key is refused" in reason


async def test_a_connection_of_webhooks_only_has_no_access_and_says_so(
    calendly: Booked,
) -> None:
    assert not (await calendly.run()).has_access


async def test_who_takes_bookings_has_no_calendars(calendly: Booked) -> None:
    account = await calendly.run()

    with pytest.raises(TaskFailed):
        _ = account.client


# Cal.com: an API key.


async def test_an_api_key_of_cal_com_has_no_end(
    database: Connection, database_url: str
) -> None:
    twin = CalcomTwin(ManualClock(datetime.now(UTC)))
    host = twin.host("ana@example.org", name="Ana Host")
    async with booked(database, database_url, "calcom", twin) as calcom:
        await calcom.store(host.api_key(), None, -AGES)

        assert (await calcom.ask()).email == "ana@example.org"

        host.revoke()
        with pytest.raises(AccessLost):
            await calcom.ask()
        assert (await calcom.status())[0] == "needs_reauth"


async def test_a_cal_com_connection_without_a_key_uses_the_operator_s(
    database: Connection, database_url: str
) -> None:
    twin = CalcomTwin(ManualClock(datetime.now(UTC)))
    host = twin.host("ana@example.org", name="Ana Host")
    key = {"CALCOM_API_KEY": host.api_key()}
    async with booked(database, database_url, "calcom", twin, **key) as calcom:
        assert (await calcom.run()).has_access
        assert (await calcom.ask()).email == "ana@example.org"

        # Where it is refused no owner can mend that.
        host.revoke()
        with pytest.raises(TaskFailed, match="CALCOM_API_KEY"):
            await calcom.ask()
        assert await calcom.status() == ("active", None)


# Microsoft: refresh tokens that rotate, and four calls at once.


@pytest.fixture
async def outlook(
    database: Connection, database_url: str
) -> AsyncIterator[OutlookWorld]:
    async with make_outlook(database, database_url, still=True) as made:
        yield made


async def test_the_newest_refresh_token_of_microsoft_is_the_one_that_is_kept(
    outlook: OutlookWorld,
) -> None:
    calendar_id = await synced(outlook, outlook.account.primary)
    connection_id = (await outlook.connection(calendar_id))["id"]
    known = [await stored(outlook, connection_id)]

    for _ in range(2):
        await outlook.advance(hours=2)
        assert (await outlook.pull(calendar_id)).outcome
        known.append(await stored(outlook, connection_id))

    assert len({one.refresh_token for one in known}) == 3
    assert outlook.twin.calls.count("token") == 2


async def stored(world: OutlookWorld, connection_id: UUID) -> StoredTokens:
    row = await world.database.fetchrow("select * from sync.credentials")
    assert row is not None
    sealed = Sealed(row["key_id"], row["ciphertext"])
    return StoredTokens.from_json(
        world.keyring.open(sealed, context=f"connection:{connection_id}")
    )


async def test_a_mailbox_is_asked_four_things_at_once_and_no_more(
    database: Connection, database_url: str
) -> None:
    limited = Behaviour(mailbox_concurrency=CALLS_AT_ONCE)
    async with make_outlook(database, database_url, behaviour=limited) as world:
        mailbox = world.account
        connection_id = await world.connect()
        # The same mailbox, connected in two organizations.
        other_connection_id = await world.connect()
        calendars = [mailbox.add_calendar(f"No. {n}") for n in range(8)]
        ids = [
            await world.switch_on(
                one, connection_id=(connection_id, other_connection_id)[n % 2]
            )
            for n, one in enumerate(calendars)
        ]
        tasks = [await world.claim("pull", one) for one in ids]
        world.twin.switchboard.slow("events.*", 0.05, times=None)
        handler = world.handlers()["pull"]

        ended = await asyncio.gather(*(handler(task) for task in tasks))

        assert len(ended) == len(calendars)
