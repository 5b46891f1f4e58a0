"""Ask Outlook which events are meant by ids that others hold.

Calendly and Cal.com know an event by an id that changes whenever the event is moved; we
have the one that does not. Any account of the organization may know it.
"""

import asyncpg
import msgspec
import structlog

from providers.errors import Gone, ProviderError, Rejected
from providers.microsoft.client import MicrosoftClient
from sql import queries
from worker.connections import Connections
from worker.handler import Task, TaskFailed
from worker.pages import Steps
from worker.telling import Teller

log = structlog.get_logger()


class Translator:
    """Translates for one connection's bookings, during one run."""

    def __init__(
        self,
        task: Task,
        connections: Connections,
        pool: asyncpg.Pool,
        teller: Teller,
        steps: Steps,
    ) -> None:
        self._task = task
        self._connections = connections
        self._pool = pool
        self._teller = teller
        self._steps = steps

    async def translate(self) -> None:
        """Ask for what is due, and look anew at the bookings that told it."""
        wanted = queries.bookings.ids_to_translate(
            self._pool, connection_id=self._task.subject_id
        )
        accounts = [row async for row in wanted]
        if not accounts:
            return
        asked: list[str] = accounts[0]["ids"]
        found: dict[str, str] = {}
        for account in accounts:
            found |= await self._ask(
                account, [one for one in asked if one not in found]
            )
        async with self._pool.acquire() as connection, connection.transaction():
            keys = await queries.bookings.keep_translations(
                connection,
                **self._task.fence,
                connection_id=self._task.subject_id,
                asked=asked,
                found=msgspec.json.encode(found).decode(),
            )
            await self._teller.look_again(connection, keys)

    async def _ask(self, row: asyncpg.Record, ids: list[str]) -> dict[str, str]:
        """Return what an account knows; one that fails costs the bookings nothing."""
        account = self._connections.open(self._task, row)
        client = account.client
        if not ids or not isinstance(client, MicrosoftClient):
            return {}
        try:
            with self._steps.timed("api"):
                return await account.ask(lambda: client.immutable_ids(ids))
        except (Gone, Rejected) as refused:
            # One that is another mailbox's may have all of them refused.
            if len(ids) > 1:
                half = len(ids) // 2
                return {
                    **await self._ask(row, ids[:half]),
                    **await self._ask(row, ids[half:]),
                }
            self._log(row, refused)
        except (ProviderError, TaskFailed) as error:
            self._log(row, error)
        return {}

    @staticmethod
    def _log(row: asyncpg.Record, error: Exception) -> None:
        log.warning(
            "booking.not_translated",
            connection_id=str(row["connection_id"]),
            error=str(error),
        )
