"""A cluster a session, a database a test."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from hypothesis import settings
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor

from local_stack.postgres import Postgres
from tests.support.cluster import (
    apply_migrations,
    copy_of,
    executor,
    hand_over,
    running_cluster,
)
from tests.support.sessions import Connection, Sessions

# A build that is judged by its outcome tries the same cases each time; whoever runs the
# tests elsewhere looks for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    """The local stack's Postgres; each worker of the session has its own."""
    with running_cluster() as postgres:
        yield postgres


@pytest.fixture(scope="session")
def surface(cluster: Postgres) -> NoopExecutor:
    """A template that a hosted project's database starts as."""
    bare = executor(cluster, "surface")
    cluster.install_surface(bare.template_dbname)
    return bare


# A template with every migration applied, copied from that of `surface`.
migrated = factories.postgresql_noproc(
    dbname="migrated", depends_on="surface", load=[hand_over, apply_migrations]
)


@pytest.fixture
async def sessions(
    cluster: Postgres, migrated: NoopExecutor
) -> AsyncIterator[Sessions]:
    """A database of the test's own, and who may look at it."""
    with copy_of(migrated.template_dbname, cluster) as name:
        opened = Sessions(cluster, name)
        try:
            yield opened
        finally:
            await opened.close()


@pytest.fixture
def database_url(sessions: Sessions) -> str:
    """The test's database, as the demoted `postgres`."""
    return sessions.url


@pytest.fixture
def connect(sessions: Sessions) -> Callable[..., Awaitable[Connection]]:
    """Open more connections: `await connect(role="sync_worker")`."""
    return sessions.connect


@pytest.fixture
def as_user(sessions: Sessions) -> Callable[..., Awaitable[Connection]]:
    """Open a user's connection: `await as_user(user_id)`; None is `anon`."""
    return sessions.as_user


@pytest.fixture
async def database(sessions: Sessions) -> Connection:
    """A connection as the demoted `postgres`."""
    return await sessions.connect()


@pytest.fixture
async def admin(sessions: Sessions) -> Connection:
    """A connection as the superuser."""
    return await sessions.connect(login="supabase_admin")


@pytest.fixture
async def bare(cluster: Postgres, surface: NoopExecutor) -> AsyncIterator[Sessions]:
    """A database without our migrations: what a hosted project starts as."""
    with copy_of(surface.template_dbname, cluster) as name:
        opened = Sessions(cluster, name)
        try:
            yield opened
        finally:
            await opened.close()
