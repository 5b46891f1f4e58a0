"""Watch: make a calendar's push channel what its switch says."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from providers.errors import AccessLost, ProviderError, Rejected, Unwatchable
from providers.model import Provider
from sql import queries
from worker.connections import Account, Connections
from worker.handler import Outcome, Task

# What can't be watched today may be watchable after a change at the provider.
LOOK_AGAIN = timedelta(days=7)


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
        try:
            account = self.connections.open(task, calendar)
            next_at = await self._watch(task, calendar, account)
        except AccessLost as lost:
            await queries.connections.lose_access(
                self.pool,
                task_id=task.id,
                lease=task.lease,
                connection_id=calendar["connection_id"],
                reason=str(lost),
            )
            return Outcome(next_at=calendar["now_at"] + timedelta(hours=1))
        return Outcome(next_at=next_at, api_calls=account.api_calls)

    async def _watch(
        self, task: Task, calendar: asyncpg.Record, account: Account
    ) -> datetime | None:
        if not calendar["sync_enabled"]:
            return await self._stop_channels(task, account, every=True)
        renew_at: datetime = calendar["renew_at"] or calendar["now_at"]
        if renew_at <= calendar["now_at"]:
            renew_at = await self._make_channel(task, calendar, account)
        wait_until = await self._stop_channels(task, account, every=False)
        return min(renew_at, wait_until or renew_at)

    async def _make_channel(
        self, task: Task, calendar: asyncpg.Record, account: Account
    ) -> datetime:
        channel_id: UUID = await queries.channels.open_channel(
            self.pool, task_id=task.id, lease=task.lease, calendar_id=task.subject_id
        )
        provider = Provider(calendar["provider"])
        keyring = self.connections.settings.keyring
        try:
            channel = await account.ask(
                lambda: account.client.watch(
                    calendar["provider_calendar_id"],
                    channel_id=channel_id,
                    token=keyring.channel_token(channel_id),
                    address=f"{self.public_url}/webhooks/{provider}",
                    ttl_s=calendar["lifetime_s"],
                )
            )
        except Unwatchable as refused:
            await self._close(task, channel_id, "unwatchable", refused)
            return calendar["now_at"] + LOOK_AGAIN  # type: ignore[no-any-return]
        except Rejected as refused:
            await self._close(task, channel_id, "failed", refused)
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

    async def _stop_channels(
        self, task: Task, account: Account, *, every: bool
    ) -> datetime | None:
        """Stop what was replaced or never answered; say when to look at the rest."""
        stale = await self.pool.fetch(
            queries.channels.channels_to_stop.sql, task.subject_id, every
        )
        waiting = [row["wait_until"] for row in stale if row["wait_until"] is not None]
        for channel in stale:
            if channel["wait_until"] is not None:
                continue
            if channel["resource_id"] is None:
                # Nobody can name it at the provider: its pushes are ignored.
                await self._close(task, channel["channel_id"], "failed", None)
                continue
            await self._stop(account, channel)
            await self._close(task, channel["channel_id"], "stopped", None)
        return min(waiting, default=None)

    async def _stop(self, account: Account, channel: asyncpg.Record) -> None:
        await account.ask(
            lambda: account.client.stop(channel["channel_id"], channel["resource_id"])
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
