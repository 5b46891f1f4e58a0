"""Watch: make a calendar's push channel what its switch says."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from providers.errors import (
    AccessLost,
    Gone,
    ProviderError,
    RateLimited,
    Rejected,
    Unwatchable,
)
from providers.model import Channel, Provider
from sql import queries
from worker.connections import Account, Connections
from worker.handler import Outcome, Task

# What can't be watched today may be watchable after a change at the provider.
LOOK_AGAIN = timedelta(days=7)
# The provider has said no: no channel of that id will ever speak.
REFUSALS = (AccessLost, Gone, RateLimited, Rejected)


@dataclass(frozen=True, slots=True)
class Watch:
    """The handler of `watch`: subject is a calendar."""

    pool: asyncpg.Pool
    connections: Connections
    public_url: str

    async def __call__(self, task: Task) -> Outcome:
        calendar = await queries.channels.begin_watch(
            self.pool, task_id=task.id, lease=task.lease, calendar_id=task.subject_id
        )
        if calendar is None:
            return Outcome(next_at=None)
        account = self.connections.open(task, calendar)
        try:
            next_at = await self._watch(task, calendar, account)
        except AccessLost as lost:
            await account.lose(lost)
            raise
        return Outcome(next_at=next_at, api_calls=account.api_calls)

    async def _watch(
        self, task: Task, calendar: asyncpg.Record, account: Account
    ) -> datetime | None:
        if not calendar["sync_enabled"]:
            return await self._stop_channels(task, account, every=True)
        renew_at: datetime | None = calendar["renew_at"]
        if renew_at is None or renew_at <= calendar["now_at"]:
            renew_at = await self._make_channel(task, calendar, account)
        else:
            await queries.channels.catch_up(
                self.pool,
                task_id=task.id,
                lease=task.lease,
                calendar_id=task.subject_id,
            )
        wait_until = await self._stop_channels(task, account, every=False)
        return min(renew_at, wait_until or renew_at)

    async def _make_channel(
        self, task: Task, calendar: asyncpg.Record, account: Account
    ) -> datetime:
        """Make a channel in the place of the one there was; say when to renew it."""
        await account.unlock()
        channel_id: UUID = await queries.channels.open_channel(
            self.pool, task_id=task.id, lease=task.lease, calendar_id=task.subject_id
        )
        try:
            channel = await self._ask_for_channel(channel_id, calendar, account)
        except Unwatchable as refused:
            await self._close(task, channel_id, "unwatchable", refused)
            now: datetime = calendar["now_at"]
            return now + LOOK_AGAIN
        except REFUSALS as refused:
            await self._close(task, channel_id, "failed", refused)
            raise
        except ProviderError as unanswered:
            await self._doubt(task, channel_id, unanswered)
            raise
        renew_at: datetime = await queries.channels.activate_channel(
            self.pool,
            task_id=task.id,
            lease=task.lease,
            channel_id=channel_id,
            provider_channel_id=str(channel.channel_id),
            resource_id=channel.resource_id,
            expires_at=channel.expires_at,
        )
        return renew_at

    async def _ask_for_channel(
        self, channel_id: UUID, calendar: asyncpg.Record, account: Account
    ) -> Channel:
        provider = Provider(calendar["provider"])
        token = self.connections.settings.keyring.channel_token(channel_id)
        return await account.ask(
            lambda: account.client.watch(
                calendar["provider_calendar_id"],
                channel_id=channel_id,
                token=token,
                address=f"{self.public_url}/webhooks/{provider}",
                ttl_s=calendar["lifetime_s"],
            )
        )

    async def _stop_channels(
        self, task: Task, account: Account, *, every: bool
    ) -> datetime | None:
        """Stop what was replaced or never answered; say when to look at the rest."""
        answer = queries.channels.channels_to_stop(
            self.pool, calendar_id=task.subject_id, every=every
        )
        stale = [channel async for channel in answer]
        for channel in stale:
            if channel["wait_until"] is None:
                await self._stop(task, account, channel)
        return min(filter(None, (row["wait_until"] for row in stale)), default=None)

    async def _stop(
        self, task: Task, account: Account, channel: asyncpg.Record
    ) -> None:
        channel_id, resource_id = channel["channel_id"], channel["resource_id"]
        if resource_id is None:
            # Nobody can name it at the provider: its pushes are ignored.
            await self._close(task, channel_id, "failed", None)
            return
        try:
            await account.ask(lambda: account.client.stop(channel_id, resource_id))
        except Rejected as refused:
            # Another client made it: it ends when it runs out.
            await self._close(task, channel_id, "failed", refused)
            return
        await self._close(task, channel_id, "stopped", None)

    async def _doubt(self, task: Task, channel_id: UUID, error: ProviderError) -> None:
        await queries.channels.doubt_channel(
            self.pool,
            task_id=task.id,
            lease=task.lease,
            channel_id=channel_id,
            reason=str(error),
        )

    async def _close(
        self, task: Task, channel_id: UUID, status: str, error: ProviderError | None
    ) -> None:
        await queries.channels.close_channel(
            self.pool,
            task_id=task.id,
            lease=task.lease,
            channel_id=channel_id,
            status=status,
            reason=str(error) if error else None,
        )
