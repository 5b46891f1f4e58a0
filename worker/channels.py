"""How channels are made, kept and ended: in each provider's own way.

A watch says when, and keeps the books. What it hears of a channel that should live:

* Kept       it lives on, until then, with that key
* Untouched  nobody can be asked, and nothing speaks against it
* Outlived   it speaks, but another is to be made in its place
* Dead       it does not speak: it is closed, then another is made
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

import asyncpg

from providers.bookings import Webhook
from providers.errors import Gone
from providers.model import Channel, Provider
from providers.protocols import ChangesKeys, RenewsChannels
from runtime.settings import WorkerSettings
from worker.connections import Account
from worker.handler import TaskFailed

BOOKINGS = frozenset({Provider.CALENDLY, Provider.CALCOM})
LOST = "the provider no longer has it"
LENDER_AWAY = "whoever had the channel made can no longer be asked"
OUTDATED = "it was made with an older key, or for another address"
MOVED = "it posts to another address"


class SigningKeyMissing(TaskFailed):
    """Deliveries could not be verified: an alert is due."""


@dataclass(frozen=True, slots=True)
class Live:
    """The channel that should live."""

    id: UUID
    resource_id: str
    key_id: str | None
    address: str | None
    expires_at: datetime | None
    is_borrowed: bool
    lender_is_away: bool
    renew_at: datetime
    is_due: bool

    @classmethod
    def of(cls, calendar: asyncpg.Record) -> "Live | None":
        """Read it from what begin_watch answered."""
        if calendar["channel_id"] is None:
            return None
        return cls(
            id=calendar["channel_id"],
            resource_id=calendar["resource_id"] or "",
            key_id=calendar["channel_key_id"],
            address=calendar["channel_address"],
            expires_at=calendar["expires_at"],
            is_borrowed=calendar["is_borrowed"],
            lender_is_away=calendar["lender_is_away"],
            renew_at=calendar["renew_at"],
            is_due=calendar["renew_at"] <= calendar["now_at"],
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """It lives on."""

    expires_at: datetime | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Untouched:
    """Nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Outlived:
    """It speaks until another one does."""


@dataclass(frozen=True, slots=True)
class Dead:
    """It does not speak. As `replaced` it is still to be ended at the provider."""

    status: str
    reason: str


Verdict: TypeAlias = Kept | Untouched | Outlived | Dead


class Channels(Protocol):
    """The channels that a provider has, or could have, for one calendar."""

    address: str

    @property
    def key_id(self) -> str | None:
        """The key that a secret made now is made with; None: the provider's own."""

    @property
    def id_prefix(self) -> str | None:
        """What stands before our id at the provider; None: it makes ids of its own."""

    @property
    def are_by_hand(self) -> bool:
        """Whether whoever set it up looks after them: nothing can be asked."""

    async def prepare(self) -> None:
        """Unseal what is needed, before anything is begun.

        Raises:
            SigningKeyMissing: nothing that is made now could be verified.
        """

    async def make(self, channel_id: UUID) -> Channel:
        """Ask for a channel; as the client's watch."""

    async def look(self, live: Live) -> Verdict:
        """Ask after a channel, and have it extended where that can be."""

    async def located(self) -> Mapping[UUID, str]:
        """Say which channels the provider lists, and how it calls them."""

    async def stop(self, channel_id: UUID | str, resource_id: str) -> None:
        """End one; as the client's stop."""


def channels_of(
    calendar: asyncpg.Record, account: Account, settings: WorkerSettings
) -> Channels:
    """Return what takes care of a calendar that begin_watch answered."""
    if Provider(calendar["provider"]) in BOOKINGS:
        return BookingChannels(calendar, account, settings)
    return CalendarChannels(calendar, account, settings)


class CalendarChannels:
    """Google's channels, and Graph's subscriptions."""

    are_by_hand = False

    def __init__(
        self, calendar: asyncpg.Record, account: Account, settings: WorkerSettings
    ) -> None:
        self._calendar_id: str = calendar["provider_calendar_id"]
        self._lifetime_s: int | None = calendar["lifetime_s"]
        self._account = account
        self._keyring = settings.keyring
        self._prefix = settings.supacal_channel_prefix or ""
        self._is_named_by_us = Provider(calendar["provider"]) is Provider.GOOGLE
        self.address = f"{settings.supacal_public_url}/webhooks/{calendar['provider']}"

    @property
    def key_id(self) -> str:
        return self._keyring.key_ids[0]

    @property
    def id_prefix(self) -> str | None:
        return self._prefix if self._is_named_by_us else None

    async def prepare(self) -> None:
        await self._account.unlock()

    async def make(self, channel_id: UUID) -> Channel:
        return await self._account.ask(
            lambda: self._account.client.watch(
                self._calendar_id,
                channel_id=channel_id,
                token=self._keyring.channel_token(channel_id),
                address=self.address,
                ttl_s=self._lifetime_s,
                id_prefix=self._prefix,
            )
        )

    async def look(self, live: Live) -> Verdict:
        client = self._account.client
        if live.is_borrowed and not isinstance(client, RenewsChannels):
            # Its lender renews it, and it is as good as the lender's grant.
            if live.lender_is_away:
                return Dead("expired", LENDER_AWAY)
            return Kept(live.expires_at, live.key_id)
        is_outdated = self._made_otherwise(live) and not live.is_borrowed
        if not isinstance(client, RenewsChannels):
            return Outlived() if live.is_due or is_outdated else Untouched()
        if is_outdated:
            # Its secret cannot be changed, and there is no second beside it.
            await self.stop(live.id, live.resource_id)
            return Dead("stopped", OUTDATED)
        try:
            renewed = await self._account.ask(
                lambda: client.renew(live.id, live.resource_id, ttl_s=self._lifetime_s)
            )
        except Gone:
            return Dead("expired", LOST)
        return Kept(renewed.expires_at, live.key_id)

    def _made_otherwise(self, live: Live) -> bool:
        """Whether its secret or address is no longer what one made now would have.

        What an older system made has an address of which nothing is known.
        """
        if live.address is None:
            return False
        return (live.key_id, live.address) != (self.key_id, self.address)

    async def located(self) -> Mapping[UUID, str]:
        """Google lists none; Graph's are found when they are in the way."""
        return {}

    async def stop(self, channel_id: UUID | str, resource_id: str) -> None:
        await self._account.ask(
            lambda: self._account.client.stop(channel_id, resource_id)
        )


class BookingChannels:
    """Webhooks of Calendly and Cal.com: they never end, and may be tampered with."""

    def __init__(
        self, calendar: asyncpg.Record, account: Account, settings: WorkerSettings
    ) -> None:
        self._provider = Provider(calendar["provider"])
        self._account = account
        self._settings = settings
        self._listed: list[Webhook] | None = None
        # Only Calendly has a key of its own for each app.
        self._has_own_key = False
        self.address = f"{settings.supacal_public_url}/webhooks/{self._provider}"

    @property
    def id_prefix(self) -> None:
        return None

    @property
    def key_id(self) -> str | None:
        return None if self._has_own_key else self._settings.keyring.key_ids[0]

    @property
    def are_by_hand(self) -> bool:
        return not self._account.has_access

    async def prepare(self) -> None:
        await self._account.unlock()
        if self._provider is Provider.CALENDLY:
            self._has_own_key = await self._account.is_by_app()
        if self._has_own_key and self._settings.calendly_webhook_signing_key is None:
            raise SigningKeyMissing("CALENDLY_WEBHOOK_SIGNING_KEY is not set")

    async def make(self, channel_id: UUID) -> Channel:
        return await self._account.ask(
            lambda: self._account.bookings.watch(
                channel_id=channel_id,
                address=f"{self.address}/{channel_id}",
                signing_key=self._signing_key(channel_id),
            )
        )

    async def look(self, live: Live) -> Verdict:
        listed = {one.resource_id: one for one in await self._webhooks()}
        webhook = listed.get(live.resource_id)
        if webhook is None:
            return Dead("expired", LOST)
        if webhook.problem is not None:
            return Dead("replaced", webhook.problem)
        if not _is_same(webhook.address, f"{self.address}/{live.id}"):
            return Dead("replaced", MOVED)
        if live.key_id == self.key_id:
            return Kept(None, self.key_id)
        return await self._rekey(live)

    async def located(self) -> Mapping[UUID, str]:
        named = ((_channel_in(one.address), one) for one in await self._webhooks())
        return {known: one.resource_id for known, one in named if known is not None}

    async def stop(self, channel_id: UUID | str, resource_id: str) -> None:
        await self._account.ask(lambda: self._account.bookings.stop(resource_id))

    async def _rekey(self, live: Live) -> Verdict:
        client, key = self._account.bookings, self._signing_key(live.id)
        if key is None or not isinstance(client, ChangesKeys):
            return Outlived()
        await self._account.ask(lambda: client.rekey(live.resource_id, key))
        return Kept(None, self.key_id)

    async def _webhooks(self) -> list[Webhook]:
        if self._listed is None:
            self._listed = await self._account.ask(self._account.bookings.webhooks)
        return self._listed

    def _signing_key(self, channel_id: UUID) -> str | None:
        if self._has_own_key:
            return None
        return self._settings.keyring.signing_keys(channel_id)[0]


def _channel_in(address: str) -> UUID | None:
    """Return the channel that ends an address of ours."""
    try:
        return UUID(address.rstrip("/").rpartition("/")[2])
    except ValueError:
        return None


def _is_same(address: str, wanted: str) -> bool:
    """Whether two addresses are one, however the provider writes it down."""
    return address.rstrip("/").lower() == wanted.lower()
