"""Watch: make a calendar's push channel what its switch says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
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
from providers.model import Channel
from sql import queries
from worker.channels import (
    Channels,
    Dead,
    Kept,
    Live,
    SigningKeyMissing,
    Untouched,
    channels_of,
)
from worker.connections import Connections
from worker.handler import Outcome, Task, TaskFailed

# What can't be watched today may be watchable after a change at the provider.
LOOK_AGAIN = timedelta(days=7)
# Asked for by a user or by the provider, and not because its time has come: whether the
# channel lives is then not taken for granted.
ASKED = 1
# The provider has said no: no channel of that id will ever speak.
REFUSALS = (AccessLost, Gone, RateLimited, Rejected, Unwatchable)
# Calls that go before the one that makes a channel.
BEFORE_ASKING = frozenset({"token", "oauth.refresh", "users.me"})
NOT_CONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
# It has something of that id, or at that address.
CONFLICT = 409
CONFLICTS = frozenset({"channelIdNotUnique", "alreadyExists"})
BY_HAND = "its webhook was registered by hand"
TAKEN = "another account has the only channel that the provider allows"
ABANDONED = "a channel that nobody listens to was in the way, and is stopped"


@dataclass(frozen=True, slots=True)
class Watch:
    """The handler of `watch`: subject is a calendar."""

    pool: asyncpg.Pool
    connections: Connections

    async def __call__(self, task: Task) -> Outcome:
        calendar = await queries.channels.begin_watch(
            self.pool, **task.fence, calendar_id=task.subject_id
        )
        if calendar is None:
            return Outcome(next_at=None)
        account = self.connections.open(task, calendar)
        channels = channels_of(calendar, account, self.connections.settings)
        run = WatchRun(self.pool, task, calendar, channels)
        try:
            next_at = await run.next_at()
        except AccessLost as lost:
            await account.lose(lost)
            raise
        return Outcome(next_at=next_at, api_calls=account.api_calls)


@dataclass(frozen=True, slots=True)
class WatchRun:
    """One run for one calendar."""

    pool: asyncpg.Pool
    task: Task
    calendar: asyncpg.Record
    channels: Channels

    async def next_at(self) -> datetime | None:
        """Do what is to be done; say when to come again."""
        if not self.calendar["sync_enabled"]:
            return await self._stop_channels(every=True)
        live = Live.of(self.calendar)
        if live is None and self.channels.are_by_hand:
            return await self._leave_by_hand()
        if live is None or live.is_due or self.task.lane <= ASKED:
            renew_at = await self._see_to(live)
        else:
            renew_at = live.renew_at
        wait_until = await self._stop_channels(every=False)
        return min(renew_at, wait_until or renew_at)

    async def _see_to(self, live: Live | None) -> datetime:
        """Have a channel that lives; say when to renew it."""
        try:
            await self.channels.prepare()
        except SigningKeyMissing as missing:
            await self._miss_signing_key(live, missing)
            raise
        if live is None:
            return await self._make_channel()
        verdict = await self.channels.look(live)
        if isinstance(verdict, Kept):
            return await self._keep(live, verdict)
        if isinstance(verdict, Untouched):
            await self._catch_up()
            return live.renew_at
        if isinstance(verdict, Dead):
            await self._close(live.id, verdict.status, verdict.reason)
        return await self._make_channel()

    # Making.

    async def _make_channel(self) -> datetime:
        """Make a channel in the place of the one there was; say when to renew it."""
        known = await self._lost_and_found()
        if known is not None:
            return await self._activate(known)
        channel_id = await self._open_or_borrow()
        if isinstance(channel_id, datetime):
            return channel_id
        try:
            channel = await self.channels.make(channel_id)
        except Unwatchable as refused:
            await self._close(channel_id, "unwatchable", str(refused), unused=True)
            return self._look_again()
        except ProviderError as error:
            await self._give_up(channel_id, error)
            raise
        if channel.channel_id != channel_id:
            return await self._adopt(channel_id, channel)
        return await self._activate(channel)

    async def _lost_and_found(self) -> Channel | None:
        """Return a channel that was made, and whose answer was lost."""
        unanswered = [
            row["channel_id"]
            for row in await self._to_stop(every=False)
            if row["status"] == "pending"
        ]
        located = await self.channels.located() if unanswered else {}
        for channel_id in unanswered:
            if channel_id in located:
                return Channel(channel_id, located[channel_id], None)
        return None

    async def _give_up(self, channel_id: UUID, error: ProviderError) -> None:
        """Note whether the channel may have been made all the same."""
        if _never_landed(error):
            await self._close(channel_id, "failed", str(error), unused=True)
        elif isinstance(error, REFUSALS):
            await self._close(channel_id, "failed", str(error))
        else:
            await queries.channels.doubt_channel(
                self.pool,
                **self.task.fence,
                channel_id=channel_id,
                reason=str(error),
            )

    async def _adopt(self, channel_id: UUID, found: Channel) -> datetime:
        """Take the channel that the provider has, and beside which it takes none."""
        answer = await queries.channels.adopt_channel(
            self.pool,
            **self.task.fence,
            channel_id=channel_id,
            found_id=found.channel_id,
            resource_id=found.resource_id,
            expires_at=found.expires_at,
        )
        renew_at: datetime | None = answer["renew_at"]
        if renew_at is not None:
            return renew_at
        if answer["verdict"] == "taken":
            await self._close(channel_id, "unwatchable", TAKEN, unused=True)
            return self._look_again()
        await self.channels.stop(found.channel_id, found.resource_id)
        await self._close(channel_id, "failed", ABANDONED, unused=True)
        raise TaskFailed(ABANDONED)

    # Living on.

    async def _keep(self, live: Live, kept: Kept) -> datetime:
        renew_at: datetime = await queries.channels.keep_channel(
            self.pool,
            **self.task.fence,
            channel_id=live.id,
            expires_at=kept.expires_at,
            key_id=kept.key_id,
            # Who says that something is wrong with a channel sends nothing meanwhile.
            read=self.task.lane <= ASKED,
        )
        return renew_at

    async def _leave_by_hand(self) -> datetime:
        await self._close(await self._open(), "by_hand", BY_HAND, unused=True)
        return self._look_again()

    async def _miss_signing_key(
        self, live: Live | None, missing: SigningKeyMissing
    ) -> None:
        await queries.channels.miss_signing_key(
            self.pool,
            **self.task.fence,
            connection_id=self.calendar["connection_id"],
        )
        if live is None:
            reason = missing.reason
            await self._close(await self._open(), "failed", reason, unused=True)

    # Ending.

    async def _stop_channels(self, *, every: bool) -> datetime | None:
        """Stop what was replaced or never answered; say when to look at the rest."""
        stale = await self._to_stop(every=every)
        unnamed = any(row["is_ours"] and row["resource_id"] is None for row in stale)
        located = await self.channels.located() if unnamed else {}
        waits = [await self._stop(row, located) for row in stale]
        return min(filter(None, waits), default=None)

    async def _stop(
        self, row: asyncpg.Record, located: Mapping[UUID, str]
    ) -> datetime | None:
        """Stop one, or say how long to wait for a way to stop it."""
        channel_id = row["channel_id"]
        if not row["is_ours"]:
            await self._close(channel_id, "stopped", None, unused=True)
            return None
        resource_id = row["resource_id"] or located.get(channel_id)
        if resource_id is None:
            if row["wait_until"] is None:
                # Nobody can name it at the provider: its pushes are ignored.
                await self._close(channel_id, "failed", None)
            wait_until: datetime | None = row["wait_until"]
            return wait_until
        try:
            await self.channels.stop(row["foreign_id"] or channel_id, resource_id)
        except Rejected as refused:
            # Another client made it: it ends when it runs out.
            await self._close(channel_id, "failed", str(refused))
        else:
            await self._close(channel_id, "stopped", None)
        return None

    # What the database is told.

    async def _to_stop(self, *, every: bool) -> list[asyncpg.Record]:
        answer = queries.channels.channels_to_stop(
            self.pool, calendar_id=self.task.subject_id, every=every
        )
        return [channel async for channel in answer]

    async def _open(self) -> UUID:
        channel_id: UUID = await queries.channels.open_channel(
            self.pool, **self.task.fence, **self._new_channel
        )
        return channel_id

    async def _open_or_borrow(self) -> UUID | datetime:
        """Return the channel to ask for; where none is, when to look again."""
        answer = await queries.channels.open_or_borrow(
            self.pool, **self.task.fence, **self._new_channel
        )
        opened: UUID | datetime = answer["channel_id"] or answer["renew_at"]
        return opened

    @property
    def _new_channel(self) -> dict[str, Any]:
        return {
            "calendar_id": self.task.subject_id,
            "key_id": self.channels.key_id,
            "address": self.channels.address,
            "id_prefix": self.channels.id_prefix,
        }

    async def _activate(self, channel: Channel) -> datetime:
        renew_at: datetime = await queries.channels.activate_channel(
            self.pool,
            **self.task.fence,
            channel_id=channel.channel_id,
            resource_id=channel.resource_id,
            expires_at=channel.expires_at,
        )
        return renew_at

    async def _catch_up(self) -> None:
        await queries.channels.catch_up(
            self.pool,
            **self.task.fence,
            calendar_id=self.task.subject_id,
        )

    async def _close(
        self, channel_id: UUID, status: str, reason: str | None, *, unused: bool = False
    ) -> None:
        await queries.channels.close_channel(
            self.pool,
            **self.task.fence,
            channel_id=channel_id,
            status=status,
            reason=reason,
            unused=unused,
        )

    def _look_again(self) -> datetime:
        now: datetime = self.calendar["now_at"]
        return now + LOOK_AGAIN


def _never_landed(error: ProviderError) -> bool:
    """Whether the provider has certainly nothing of the channel's id."""
    if error.operation in BEFORE_ASKING or error.reason in NOT_CONNECTED:
        return True
    if error.status == CONFLICT or error.reason in CONFLICTS:
        return False
    # Without a status the refusal is our own, of what the provider answered.
    return isinstance(error, REFUSALS) and error.status is not None
