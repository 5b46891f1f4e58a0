"""A calendar to apply events to, and the worker that does."""

from collections.abc import Awaitable, Callable

import pytest

from tests.support.events import Calendar
from tests.support.sessions import Connection


@pytest.fixture
async def worker(connect: Callable[..., Awaitable[Connection]]) -> Connection:
    """The worker's connection."""
    return await connect(role="sync_worker")


@pytest.fixture
async def calendar(database: Connection, worker: Connection) -> Calendar:
    """A calendar of an organization of its own, being pulled."""
    return await Calendar.create(database, worker)
