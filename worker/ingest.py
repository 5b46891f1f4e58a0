"""Ingest: take in what came for a connection, and ask for what did not come.

Deliveries go first. Then, where there is access to the provider's API, bookings are
asked for that were delivered, and sweeps find those that were not; between two calls it
is looked whether more was delivered meanwhile.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from providers.errors import AccessLost, ProviderError, Transient
from sql import queries
from worker.asking import Asker
from worker.connections import Account, Connections
from worker.handler import Outcome, Task
from worker.pages import Steps
from worker.telling import Teller
from worker.translating import Translator

BATCH: Final = 500
# Then others may have the slot; what is left is due at once.
CALLS_A_RUN: Final = 100
# A provider that is down is asked again so much later; deliveries do not wait for it.
PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Ingest:
    """The handler of `ingest`: subject is a connection."""

    pool: asyncpg.Pool
    connections: Connections

    async def __call__(self, task: Task) -> Outcome:
        connection = await queries.bookings.begin_ingest(
            self.pool, **task.fence, connection_id=task.subject_id
        )
        if connection is None:  # gone, or switched off meanwhile
            return Outcome(next_at=None)
        account = self.connections.open(task, connection)
        try:
            return await Intake(
                task, connection, account, self.pool, self.connections
            ).run()
        except AccessLost as lost:
            await account.lose(lost)
            raise
        except ProviderError as error:
            await note_error(self.pool, task, connection, error)
            raise


class Intake:
    """One run of one connection."""

    def __init__(
        self,
        task: Task,
        connection: asyncpg.Record,
        account: Account,
        pool: asyncpg.Pool,
        connections: Connections,
    ) -> None:
        self._task = task
        self._connection = connection
        self._account = account
        self._pool = pool
        self._steps = Steps()
        self._teller = Teller(task, connection, account, pool, self._steps)
        self._asker = Asker(task, connection, account, pool, self._teller, self._steps)
        self._translator = Translator(
            task, connections, pool, self._teller, self._steps
        )
        self._sweeps: bool = connection["sweep_due"]
        self._taken = 0
        self._trouble: Transient | None = None

    async def run(self) -> Outcome:
        can_ask = self._account.has_access
        await self._take_in()
        if self._connection["missed"]:
            await self._note_missed(can_sweep=can_ask)
        if can_ask and self._connection["may_ask"]:
            await self._ask()
        await self._translator.translate()
        next_at = await self._finish(can_ask=can_ask)
        if self._trouble is not None:
            await note_error(self._pool, self._task, self._connection, self._trouble)
        return Outcome(
            next_at=next_at,
            counts=self._teller.counts,
            api_calls=self._account.api_calls,
            steps=self._steps.spent,
            idle=not self._taken and not self._teller.changes,
        )

    async def _take_in(self) -> None:
        """Apply all that was delivered."""
        while True:
            opened = queries.bookings.open_deliveries(
                self._pool, connection_id=self._task.subject_id, most=BATCH
            )
            deliveries = [row async for row in opened]
            await self._teller.tell_deliveries(deliveries)
            self._taken += len(deliveries)
            if len(deliveries) < BATCH:
                return

    async def _ask(self) -> None:
        """Ask for what is due to be asked for; without an answer pause, and go on."""
        try:
            await self._asker.name_account()
            while self._account.api_calls < CALLS_A_RUN and await self._ask_once():
                await self._take_in()
        except Transient as trouble:
            self._trouble = trouble
            pause_s = trouble.retry_after_s
            await queries.bookings.postpone_asking(
                self._pool,
                **self._task.fence,
                connection_id=self._task.subject_id,
                pause=timedelta(seconds=PAUSE_S if pause_s is None else pause_s),
            )

    async def _ask_once(self) -> bool:
        """Do the next thing there is to ask; whether there was any."""
        wanted = await queries.bookings.next_to_fetch(
            self._pool, connection_id=self._task.subject_id
        )
        if wanted is not None:
            await self._asker.fetch(wanted)
        elif self._sweeps:
            self._sweeps = not await self._asker.sweep()
        else:
            return False
        return True

    async def _note_missed(self, *, can_sweep: bool) -> None:
        await queries.bookings.note_missed(
            self._pool,
            **self._task.fence,
            connection_id=self._task.subject_id,
            can_sweep=can_sweep,
        )

    async def _finish(self, *, can_ask: bool) -> datetime | None:
        next_at: datetime | None = await queries.bookings.finish_ingest(
            self._pool,
            **self._task.fence,
            connection_id=self._task.subject_id,
            calendar_id=self._connection["calendar_id"],
            changes=self._teller.changes,
            can_ask=can_ask,
        )
        return next_at


async def note_error(
    pool: asyncpg.Pool, task: Task, connection: asyncpg.Record, error: ProviderError
) -> None:
    """Show the owner what the provider said."""
    await queries.calendars.note_calendar_error(
        pool,
        **task.fence,
        calendar_id=connection["calendar_id"],
        message=str(error),
    )
