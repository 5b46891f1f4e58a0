"""A gateway on a database of the test's own."""

from collections.abc import AsyncIterator

import pytest

from local_stack.gateway import Gateway, GatewaySettings
from tests.gateway.replay import SECRET
from tests.support.sessions import Connection, Sessions


@pytest.fixture
async def server(bare: Sessions) -> Connection:
    """The superuser's connection to the database that the gateway serves."""
    return await bare.connect(login="supabase_admin")


@pytest.fixture
def settings(bare: Sessions) -> GatewaySettings:
    url = bare.cluster.url_of(bare.database, role="supabase_admin")
    return GatewaySettings(database_url=url, jwt_secret=SECRET)


@pytest.fixture
async def gateway(settings: GatewaySettings) -> AsyncIterator[Gateway]:
    async with Gateway(settings) as gateway:
        yield gateway
