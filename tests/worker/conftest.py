"""A world of the test's own: a database, a provider, and a worker's handlers."""

from collections.abc import AsyncIterator

import pytest

from providers.model import Provider
from tests.support.ingesting import IngestWorld, make_ingest_world
from tests.support.sessions import Connection
from tests.support.sync import World, make_world


@pytest.fixture
async def world(database: Connection, database_url: str) -> AsyncIterator[World]:
    """Everything in process, in the time that it is."""
    async with make_world(database, database_url) as made:
        yield made


@pytest.fixture
async def still_world(database: Connection, database_url: str) -> AsyncIterator[World]:
    """The same, where time stands until the test moves it."""
    async with make_world(database, database_url, still=True) as made:
        yield made


@pytest.fixture
async def small_pages(database: Connection, database_url: str) -> AsyncIterator[World]:
    """The same as `world`, where Google gives three events a page."""
    async with make_world(database, database_url, page_size=3) as made:
        yield made


@pytest.fixture
async def calcom(database: Connection, database_url: str) -> AsyncIterator[IngestWorld]:
    """Somebody whom Cal.com takes bookings for."""
    async with make_ingest_world(database, database_url, Provider.CALCOM) as made:
        yield made


@pytest.fixture
async def calendly(
    database: Connection, database_url: str
) -> AsyncIterator[IngestWorld]:
    """Somebody whom Calendly takes bookings for."""
    async with make_ingest_world(database, database_url, Provider.CALENDLY) as made:
        yield made


@pytest.fixture(params=[Provider.CALENDLY, Provider.CALCOM])
async def either(
    request: pytest.FixtureRequest, database: Connection, database_url: str
) -> AsyncIterator[IngestWorld]:
    """One of the two, then the other."""
    async with make_ingest_world(database, database_url, request.param) as made:
        yield made
