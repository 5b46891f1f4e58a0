"""Connections to one database: as `postgres`, as the superuser, as an API user."""

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from local_stack.postgres import Postgres

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection


class Sessions:
    """Opens connections to one database, and closes them all at the end."""

    def __init__(self, cluster: Postgres, database: str) -> None:
        self.cluster = cluster
        self.database = database
        self._open: list[Connection] = []

    @property
    def url(self) -> str:
        return self.cluster.url_of(self.database)

    async def connect(
        self, *, login: str = "postgres", role: str | None = None
    ) -> Connection:
        """A connection of `login`; with `role`, each statement runs as that role."""
        connection = await asyncpg.connect(
            self.cluster.url_of(self.database, role=login)
        )
        self._open.append(connection)
        if role:
            await connection.execute(f'set role "{role}"')
        return connection

    async def as_user(
        self, user_id: UUID | str | None, *, role: str = "authenticated", **claims: Any
    ) -> Connection:
        """A connection as the API makes it for a user's token; None is `anon`."""
        if user_id is None:
            role = "anon"
        else:
            claims = {"sub": str(user_id), "aud": "authenticated", **claims}
        connection = await self.connect(login="authenticator", role=role)
        await connection.execute(
            "select set_config('request.jwt.claims', $1, false)",
            json.dumps({"role": role, **claims}),
        )
        return connection

    async def close(self) -> None:
        await asyncio.gather(
            *(connection.close(timeout=5) for connection in self._open)
        )
