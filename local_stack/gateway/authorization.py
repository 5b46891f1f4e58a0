"""May a client read or write a private channel? The policies on realtime.messages say.

As on the real server: in a transaction that is rolled back, rows are written to
realtime.messages and looked for as the client (to read), or written as the client.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import asyncpg
import msgspec
import structlog

from local_stack.gateway.queries import query
from local_stack.gateway.tokens import Claims

Extension = Literal["broadcast", "presence"]
DATABASE_GONE: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut in mid-sentence
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)

log = structlog.get_logger()


class NoDatabase(Exception):
    """Nobody could be asked."""


class MissingPartition(Exception):
    """realtime.messages has no partition for today."""


@dataclass(frozen=True, slots=True)
class ReadRights:
    """What a client may hear on a topic."""

    broadcast: bool
    presence: bool


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: the claims, and the request headers that policies may look at."""

    claims: Claims
    headers: Mapping[str, str]


class Authorization:
    """Asks the policies on realtime.messages."""

    def __init__(self, pool: asyncpg.Pool):
        self._pool = pool

    async def may_read(
        self, visitor: Visitor, topic: str, *, presence: bool
    ) -> ReadRights:
        """Return what a visitor may hear; a policy that fails says no."""
        extensions = ["broadcast", *(["presence"] if presence else [])]
        async with self._asking() as connection:
            probes = await connection.fetch(query("insert_probes"), topic, extensions)
            by_extension = {row["extension"]: row["id"] for row in probes}
            try:
                await _become(connection, visitor, topic)
                seen = await connection.fetch(
                    query("seen_probes"), topic, list(by_extension.values())
                )
            except DATABASE_GONE:
                raise
            except asyncpg.PostgresError as error:
                log.warning("gateway.policy_failed", sqlstate=error.sqlstate)
                return ReadRights(broadcast=False, presence=False)
            ids = {row["id"] for row in seen}
            return ReadRights(
                broadcast=by_extension["broadcast"] in ids,
                presence=by_extension.get("presence") in ids,
            )

    async def may_write(
        self, visitor: Visitor, topic: str, extension: Extension
    ) -> bool:
        """Tell whether a visitor may send; a policy that fails says no."""
        async with self._asking() as connection:
            try:
                await _become(connection, visitor, topic)
                await connection.execute(query("insert_probe"), topic, extension)
            except asyncpg.InsufficientPrivilegeError:
                return False
            except (*DATABASE_GONE, asyncpg.CheckViolationError):
                raise
            except asyncpg.PostgresError as error:
                log.warning("gateway.policy_failed", sqlstate=error.sqlstate)
                return False
        return True

    async def replay(
        self, topic: str, *, since_ms: float, limit: int
    ) -> list[asyncpg.Record]:
        """Return a private topic's last broadcasts, oldest first."""
        async with self._asking() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(
                query("replay"), topic, since_ms, limit
            )
        return rows

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[Any]:
        """Open a transaction that leaves nothing behind."""
        try:
            async with self._pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                try:
                    yield connection
                finally:
                    await transaction.rollback()
        except DATABASE_GONE as error:
            raise NoDatabase from error
        except asyncpg.CheckViolationError as error:
            raise MissingPartition from error


async def _become(connection: Any, visitor: Visitor, topic: str) -> None:
    headers = msgspec.json.encode(visitor.headers).decode()
    await connection.execute(query("set_topic"), topic, headers)
    await connection.execute(query("become"), visitor.claims.role, visitor.claims.json)
