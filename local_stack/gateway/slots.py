"""The gateway's replication slot: made at start, again if lost, dropped at the end."""

import asyncio
import contextlib
from typing import Final

import asyncpg
import structlog

from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.queries import query
from local_stack.gateway.settings import GatewaySettings
from local_stack.gateway.stream import NoPublication

PREFIX: Final = "supacal_gateway_"
DROP_ATTEMPTS: Final = 40
DROP_EVERY_S: Final = 0.05

log = structlog.get_logger()


class Slot:
    """One slot, and the upkeep of what flows through it."""

    def __init__(self, pool: asyncpg.Pool, name: str, settings: GatewaySettings):
        self._pool = pool
        self._settings = settings
        self.name = name

    async def make(self) -> None:
        """Make the slot; waits for transactions that write at the moment."""
        try:
            await self._pool.execute(query("make_messages_publication"))
        except asyncpg.InsufficientPrivilegeError:
            log.warning("gateway.publication_not_made")
        with contextlib.suppress(asyncpg.PostgresError):
            pattern = PREFIX.replace("_", r"\_") + "%"
            await self._pool.execute(query("drop_abandoned_slots"), pattern)
        await self._pool.execute(query("make_slot"), self.name, timeout=120)

    async def publications(self) -> list[str]:
        """Return what to stream; makes sure that there is a slot to stream from.

        Raises:
            NoPublication: neither publication exists.
        """
        asked = [self._settings.publication, self._settings.messages_publication]
        rows = await self._pool.fetch(query("publications"), asked)
        if not rows:
            raise NoPublication(f"no publication {' or '.join(asked)}")
        if not await self._pool.fetchval(query("slot_exists"), self.name):
            log.warning("gateway.slot_lost")
            await self._pool.execute(query("make_slot"), self.name, timeout=120)
        return [row["pubname"] for row in rows]

    async def keep_partitions(self) -> None:
        await self._pool.execute(query("keep_partitions"))

    async def drop(self) -> None:
        """Drop the slot, also when a reader has not noticed its end yet."""
        for _ in range(DROP_ATTEMPTS):
            try:
                await self._pool.execute(query("stop_slot_reader"), self.name)
                await self._pool.execute(query("drop_slot"), self.name)
                if not await self._pool.fetchval(query("slot_exists"), self.name):
                    return
            except asyncpg.ObjectInUseError:
                pass
            except DATABASE_GONE:
                break
            await asyncio.sleep(DROP_EVERY_S)
        log.warning("gateway.slot_left_behind")
