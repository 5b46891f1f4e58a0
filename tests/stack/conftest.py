"""One stack for all tests here: our own, or the one that the environment names.

With DATABASE_URL, SUPABASE_URL and its keys set, the same promises are held against
that Supabase, be it of `supabase start` or hosted.
"""

import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import msgspec
import pytest
from supabase.lib.client_options import AsyncClientOptions

from local_stack.facts import Facts, User
from supabase import AsyncClient, acreate_client
from tests.support.cluster import scratch_directory
from tests.support.sessions import Connection
from tests.support.stacks import SUPABASE, environment, running


@pytest.fixture(scope="session")
def facts() -> Iterator[Facts]:
    """Where everything of the stack is."""
    given = {name: os.environ[name] for name in SUPABASE if os.environ.get(name)}
    with scratch_directory() as scratch:
        environ = environment(scratch / "state", **given)
        with running(environ, scratch) as dev:
            yield msgspec.convert(dev.facts, Facts)


@pytest.fixture
def ada(facts: Facts) -> User:
    return facts.users[0]


@pytest.fixture
def ben(facts: Facts) -> User:
    """Somebody of another organization."""
    return facts.users[1]


class Clients:
    """Makes clients as supabase-py's documentation does."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._open: list[AsyncClient] = []
        # The client's own would be left open: it has no way to close it.
        self._http = httpx.AsyncClient()

    async def of(self, user: User | None) -> AsyncClient:
        """A signed-in user's client; None is somebody who is not signed in."""
        headers = {"Authorization": f"Bearer {user.jwt}"} if user else {}
        client = await self._make(self._facts.anon_key, headers)
        if user:
            await client.realtime.set_auth(user.jwt)
        return client

    async def of_service(self) -> AsyncClient:
        """A server's client."""
        return await self._make(self._facts.service_role_key, {})

    async def close(self) -> None:
        for client in self._open:
            await client.remove_all_channels()
            await client.realtime.close()
        await self._http.aclose()

    async def _make(self, key: str, headers: dict[str, str]) -> AsyncClient:
        options = AsyncClientOptions(
            headers=headers, httpx_client=self._http, auto_refresh_token=False
        )
        client = await acreate_client(self._facts.supabase_url, key, options)
        self._open.append(client)
        return client


@pytest.fixture
async def clients(facts: Facts) -> AsyncIterator[Clients]:
    made = Clients(facts)
    yield made
    await made.close()


@pytest.fixture
async def database(facts: Facts) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(facts.database_url)
    yield connection
    await connection.close()
