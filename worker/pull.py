"""Pull: read what changed since the cursor, and have Postgres apply it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import asyncpg

from providers.errors import AccessLost, CursorExpired, Gone, ProviderError
from sql import queries
from worker.connections import Account, Connections
from worker.handler import Outcome, Task
from worker.rounds import Round

# The first thing a new user looks at, read before the rest.
UPCOMING = timedelta(days=28)


@dataclass(frozen=True, slots=True)
class Pull:
    """The handler of `pull`: subject is a calendar."""

    pool: asyncpg.Pool
    connections: Connections

    async def __call__(self, task: Task) -> Outcome:
        calendar = await queries.calendars.begin_pull(
            self.pool, **task.fence, calendar_id=task.subject_id
        )
        if calendar is None:  # gone, or switched off meanwhile
            return Outcome(next_at=None)
        account = self.connections.open(task, calendar)
        try:
            return await self._pull(task, calendar, account)
        except AccessLost as lost:
            await account.lose(lost)
            raise
        except Gone as gone:
            next_at = await self._lose_calendar(task, gone)
            return Outcome(next_at=next_at, api_calls=account.api_calls)
        except ProviderError as error:
            await self._note_error(task, error)
            raise

    async def _pull(
        self, task: Task, calendar: asyncpg.Record, account: Account
    ) -> Outcome:
        changes = await self._pull_changes(task, calendar, account)
        if changes is None:
            return await self._pull_everything(task, calendar, account)
        if not calendar["is_round_due"]:
            return changes
        everything = await self._pull_everything(task, calendar, account, beside=True)
        counts = changes.counts + everything.counts
        return replace(everything, counts=counts)

    async def _pull_changes(
        self, task: Task, calendar: asyncpg.Record, account: Account
    ) -> Outcome | None:
        """Read on from the cursor; None where there is none, or none of use."""
        if (
            calendar["cursor"] is None
            or calendar["cursor_parameters"] != account.cursor_parameters
        ):
            return None
        changes = Round(task, calendar, account, self.pool, full=False)
        try:
            await changes.read_changes(calendar["cursor"])
        except CursorExpired:  # the provider forgot where we stopped
            return None
        return await changes.finish()

    async def _pull_everything(
        self,
        task: Task,
        calendar: asyncpg.Record,
        account: Account,
        *,
        beside: bool = False,
    ) -> Outcome:
        """Read all of it; beside a cursor, that one stays until the end."""
        round_ = Round(task, calendar, account, self.pool, full=True)
        if calendar["backfill"] == "pending":
            await round_.read_upcoming(calendar["now_at"], UPCOMING)
        await queries.calendars.begin_full_round(
            self.pool,
            **task.fence,
            calendar_id=task.subject_id,
            beside=beside,
        )
        await round_.read_changes(None)
        return await round_.finish()

    async def _lose_calendar(self, task: Task, gone: Gone) -> datetime:
        next_at: datetime = await queries.calendars.lose_calendar(
            self.pool,
            **task.fence,
            calendar_id=task.subject_id,
            reason=str(gone),
        )
        return next_at

    async def _note_error(self, task: Task, error: ProviderError) -> None:
        await queries.calendars.note_calendar_error(
            self.pool,
            **task.fence,
            calendar_id=task.subject_id,
            message=str(error),
        )
