"""A connection's provider client, and what all runs of one account share."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import asyncpg
import httpx2

from providers.clients import BOOKING_CLIENTS, CLIENTS
from providers.errors import AccessExpired, AccessLost, RateLimited
from providers.model import Provider
from providers.protocols import BookingClient, Client
from runtime.clock import Clock
from runtime.settings import WorkerSettings
from sql import queries
from worker.grants import Grants
from worker.handler import Task, TaskFailed
from worker.tokens import TokensInUse, Vault

# Graph takes four calls at once of a mailbox, and the others are no hastier. Google
# counts by the minute only.
CALLS_AT_ONCE = 4
UNCOUNTED = frozenset({Provider.GOOGLE})
# Too fast: the pause doubles so many times, to 64 s.
RATE_LIMITED_STEPS = 6

T = TypeVar("T")
AccountKey: TypeAlias = tuple[Provider, str | UUID]
Gates: TypeAlias = WeakValueDictionary[AccountKey, asyncio.Semaphore]


@dataclass(frozen=True, slots=True)
class Connections:
    """Opens clients; holds what all of them share."""

    http: httpx2.AsyncClient
    pool: asyncpg.Pool
    settings: WorkerSettings
    clock: Clock
    vault: Vault = field(init=False)
    _gates: Gates = field(init=False, default_factory=WeakValueDictionary)

    def __post_init__(self) -> None:
        grants = Grants(self.http, self.settings)
        object.__setattr__(self, "vault", Vault(self.pool, grants, self.clock))

    def open(self, task: Task, row: asyncpg.Record) -> "Account":
        """Open the account of a row: provider, connection_id, key_id, ciphertext.

        Where it has them, its account_email says whose other connections share the
        provider's patience, and its projection what is made of events. Nothing is
        unsealed before the first call.
        """
        return Account(self, task, row)

    def api_url(self, provider: Provider) -> str:
        """Where a provider's API is, or the twin that stands for it."""
        return self.vault.grants.api_url(provider)

    def gate(self, provider: Provider, account: str | UUID) -> asyncio.Semaphore:
        """What lets an account's calls pass, so many at once."""
        gate = self._gates.get((provider, account))
        if gate is None:
            gate = asyncio.Semaphore(CALLS_AT_ONCE)
            self._gates[provider, account] = gate
        return gate


class Account:
    """One connection during one run: its client, and its tokens."""

    def __init__(self, shared: Connections, task: Task, row: asyncpg.Record) -> None:
        self._shared = shared
        self._task = task
        self._provider = Provider(row["provider"])
        self._connection_id: UUID = row["connection_id"]
        self._tokens = TokensInUse(shared.vault, task, row)
        self._gate = shared.gate(
            self._provider, row.get("account_email") or self._connection_id
        )
        self._projection: str = row.get("projection", "")
        self.api_calls = 0

    @cached_property
    def client(self) -> Client:
        """What makes the calls to the calendars of the account."""
        if self._provider not in CLIENTS:
            raise TaskFailed(f"{self._provider} has no calendars")
        return CLIENTS[self._provider](
            self._shared.http,
            self._shared.api_url(self._provider),
            self._tokens.access_token,
            projection=self._projection.encode(),
            clock=self._shared.clock,
        )

    @cached_property
    def bookings(self) -> BookingClient:
        """What makes the calls of an account that takes bookings."""
        if self._provider not in BOOKING_CLIENTS:
            raise TaskFailed(f"{self._provider} takes no bookings")
        return BOOKING_CLIENTS[self._provider](
            self._shared.http,
            self._shared.api_url(self._provider),
            self._tokens.access_token,
        )

    @property
    def has_access(self) -> bool:
        """Whether anything can be asked: not so where only webhooks were set up."""
        return self._tokens.are_there

    @property
    def cursor_parameters(self) -> str:
        """What a cursor stands for: what was asked, and what was made of the answers.

        Where a setting of projection changed under a round, its cursor is worthless.
        """
        return " ".join([self.client.parameters, self._projection]).rstrip()

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make one call; an access token found expired is refreshed, once.

        Raises:
            AccessLost: call ``lose``, and give up.
            TaskFailed: the tokens cannot be opened; an alert is open.
        """
        try:
            return await self._call(call)
        except AccessExpired:
            await self._tokens.renew()
        try:
            return await self._call(call)
        except AccessExpired as refused:
            raise AccessLost(
                refused.provider,
                refused.operation,
                status=refused.status,
                reason="a fresh access token is refused",
                request_id=refused.request_id,
            ) from refused

    async def _call(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            if self._provider in UNCOUNTED:
                self.api_calls += 1
                return await call()
            async with self._gate:
                self.api_calls += 1
                return await call()
        except RateLimited as limited:
            if limited.retry_after_s is None:
                # Nobody says by how much: the whole connection goes slower each time.
                longest = 2.0 ** min(self._task.attempt, RATE_LIMITED_STEPS)
                limited.retry_after_s = longest * random.uniform(0.5, 1)  # noqa: S311
            raise

    async def unlock(self) -> None:
        """Unseal the tokens before something is begun that needs them; as ``ask``."""
        await self._tokens.known()

    async def is_by_app(self) -> bool:
        """Whether it was connected through our OAuth app, not by a key; as ``ask``."""
        return (await self._tokens.known()).refresh_token is not None

    async def lose(self, lost: AccessLost) -> None:
        """Let the connection wait for its owner, unless it has other tokens by now."""
        await queries.connections.lose_access(
            self._shared.pool,
            **self._task.fence,
            connection_id=self._connection_id,
            ciphertext=self._tokens.ciphertext,
            reason=str(lost),
        )
