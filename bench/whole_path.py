"""The whole path, from Google's twin to a frontend, each program on its own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg

from bench.calendars import queries
from bench.events import event
from bench.frontend import Frontend, listening
from bench.ground import Ground, connected
from bench.programs import resident_mb
from bench.waiting import until
from local_stack.ports import free_port
from local_stack.tokens import JWT_SECRET, user_token
from local_stack.twins.google import Account, Calendar, GoogleTwin
from local_stack.twins.serve import serving
from providers.model import StoredTokens
from runtime.sealing import connection_context

EMAIL = "owner@bench.example"
FIRST_SYNC_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class WholePath:
    """What a line needs to change an event and to watch what follows."""

    twin: GoogleTwin
    calendar: Calendar
    calendar_id: UUID
    frontend: Frontend
    database: asyncpg.Connection


@asynccontextmanager
async def whole_path(ground: Ground, url: str, events: int) -> AsyncIterator[WholePath]:
    """Start all of it, with a calendar of so many events read whole."""
    twin = GoogleTwin()
    account = twin.account(EMAIL)
    calendar = account.primary
    for number in range(events):
        calendar.inject(event(number))
    port = free_port()
    async with connected(url) as database, serving(twin) as google:
        user_id, organization = await _sign_up(database)
        calendar_id = await _connect(ground, database, user_id, organization, account)
        environment = ground.environment(
            url,
            SUPACAL_PORT=str(port),
            SUPACAL_PUBLIC_URL=f"http://127.0.0.1:{port}",
            GOOGLE_CLIENT_ID="local-stack",
            GOOGLE_CLIENT_SECRET="local-stack",  # noqa: S106
            GOOGLE_API_URL=f"{google}/calendar/v3",
            GOOGLE_AUTH_URL=google,
        )
        api, worker = (ground.command("supacal", name) for name in ("api", "worker"))
        async with (
            ground.programs.server(api, environment, port) as receiver,
            ground.programs.program(
                worker, environment, says="listener.hearing"
            ) as working,
            _gateway(ground, url) as realtime,
            listening(realtime, organization, _jwt(user_id)) as frontend,
        ):
            await queries.callback.switch_on(database, calendar_id=calendar_id)
            await until(
                lambda: queries.callback.is_read_whole(
                    database, calendar_id=calendar_id
                ),
                within_s=FIRST_SYNC_LIMIT_S,
            )
            yield WholePath(twin, calendar, calendar_id, frontend, database)
            ground.memory_mb["receiver"].append(resident_mb(receiver.pid))
            ground.memory_mb["worker"].append(resident_mb(working.pid))


async def _sign_up(database: asyncpg.Connection) -> tuple[UUID, UUID]:
    user_id = uuid4()
    await queries.callback.sign_up(database, user_id=user_id, email=EMAIL)
    organization = await queries.callback.organization(database, user_id=user_id)
    return user_id, organization


async def _connect(
    ground: Ground,
    database: asyncpg.Connection,
    user_id: UUID,
    organization: UUID,
    account: Account,
) -> UUID:
    """Store a grant of the account; return the calendar, still off."""
    connection_id = await queries.callback.connect(
        database, organization_id=organization, user_id=user_id, email=EMAIL
    )
    grant = account.sign_in()
    tokens = StoredTokens(
        access_token=grant.access_token,
        refresh_token=grant.refresh_token,
        expires_at=grant.expires_at,
        scope=" ".join(grant.scopes),
    )
    sealed = ground.keyring.seal(
        tokens.to_json(), context=connection_context(connection_id)
    )
    await queries.page.store_credentials(
        database,
        connection_id=connection_id,
        key_id=sealed.key_id,
        ciphertext=sealed.ciphertext,
    )
    calendar_id: UUID = await queries.callback.add_calendar(
        database,
        connection_id=connection_id,
        organization_id=organization,
        provider_calendar_id=account.primary.id,
    )
    return calendar_id


@asynccontextmanager
async def _gateway(ground: Ground, url: str) -> AsyncIterator[str]:
    """Run the Realtime gateway; gives its address."""
    admin_url = ground.admin_url(url)
    words = ("--database-url", admin_url, "--jwt-secret", JWT_SECRET)
    async with ground.programs.program(
        ground.command("local_stack.gateway", *words),
        ground.environment(url),
        says="gateway.ready",
    ) as program:
        lines = program.log.read_text().splitlines()
        ready = next(line for line in lines if "gateway.ready" in line)
        yield str(json.loads(ready)["url"])


def _jwt(user_id: UUID) -> str:
    return user_token(user_id, EMAIL, now=datetime.now(UTC))
