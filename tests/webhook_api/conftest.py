"""A receiver on a database of the test's own, and what Google would send it."""

from collections.abc import AsyncIterator, Callable
from uuid import UUID

import httpx2
import pytest

from runtime.settings import ReceiverSettings
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection
from tests.webhook_api.channels import Channel, make_channel, make_settings
from webhook_api.app import Receiver, create_app
from webhook_api.limits import Limits


@pytest.fixture
async def calendar_id(database: Connection) -> UUID:
    organization_id = await make_organization(database)
    connection_id = await make_connection(database, organization_id)
    return await make_calendar(database, connection_id, sync_enabled=True)


@pytest.fixture
async def channel(database: Connection, calendar_id: UUID) -> Channel:
    return await make_channel(database, calendar_id)


@pytest.fixture
def settings(database_url: str) -> ReceiverSettings:
    return make_settings(database_url)


@pytest.fixture
def limits() -> Limits:
    """Parametrize or override to be stricter."""
    return Limits()


@pytest.fixture
async def app(settings: ReceiverSettings, limits: Limits) -> AsyncIterator[Receiver]:
    made = create_app(settings, limits=limits)
    async with made.router.lifespan_context(made):
        await made.store.connected()
        yield made


@pytest.fixture
async def client(app: Receiver) -> AsyncIterator[httpx2.AsyncClient]:
    """Calls the application in this process, without a network."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


@pytest.fixture
def refused(app: Receiver) -> Callable[[str], int]:
    """How many requests were refused for a reason."""
    return lambda reason: app.metrics.refused.value("google", reason)
