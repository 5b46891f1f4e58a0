"""Connections to Postgres that act as one role and say which program they belong to."""

import re

import asyncpg

CONNECT_TIMEOUT_S = 10
# What asyncpg raises where a database does not answer a statement: over a connection
# that is closed an InterfaceError, over one that was told its end and has not met it
# yet an InternalClientError.
FAILURES = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
ROLE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


async def open_pool(
    url: str,
    *,
    role: str | None,
    min_size: int,
    max_size: int,
    application_name: str,
) -> asyncpg.Pool:
    """Open a pool whose every connection has taken the role.

    json and jsonb are text in both directions, as asyncpg has them by itself.

    Connections go back to the pool without the query that resets a session (an open
    transaction is rolled back all the same): it would double the round trips of a
    short call. So change nothing that outlives a transaction: `set local` and
    `pg_advisory_xact_lock`, not `set` and `pg_advisory_lock`.
    """
    pool: asyncpg.Pool = await asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        init=_Role(role).take,
        reset=_leave_session,
        timeout=CONNECT_TIMEOUT_S,
        server_settings={"application_name": application_name},
    )
    return pool


async def connect(
    url: str, *, role: str | None, application_name: str
) -> asyncpg.Connection:
    """Open one connection outside any pool, as a listener needs it."""
    wanted = _Role(role)
    connection = await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        server_settings={"application_name": application_name},
    )
    try:
        await wanted.take(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


class _Role:
    def __init__(self, name: str | None) -> None:
        if name is not None and not ROLE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a role")
        self._name = name

    async def take(self, connection: asyncpg.Connection) -> None:
        # Not a startup parameter: a pooler in between may drop those without a word,
        # and the program would go on with more rights than it should have.
        if self._name is not None:
            await connection.execute(f"set role {self._name}")


async def _leave_session(connection: asyncpg.Connection) -> None:
    """Stand in for asyncpg's reset, which costs a round trip an acquire."""
