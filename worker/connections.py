"""A connection's provider client; its access token is refreshed when it ends."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg
import httpx2

from providers.clients import CLIENTS
from providers.errors import AccessExpired, AccessLost
from providers.google import oauth as google_oauth
from providers.model import Provider, StoredTokens, Tokens
from providers.protocols import Client
from runtime.clock import Clock
from runtime.sealing import Sealed
from runtime.settings import WorkerSettings
from sql import queries
from worker.handler import Task, TaskFailed

# A token that ends while a call is under way would cost the call.
REFRESH_BEFORE = timedelta(minutes=1)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connections:
    """Opens clients; holds what all of them share."""

    http: httpx2.AsyncClient
    pool: asyncpg.Pool
    settings: WorkerSettings
    clock: Clock

    def open(self, task: Task, row: asyncpg.Record) -> "Account":
        """Open the account of a row that begin_pull or begin_watch gave.

        Raises:
            AccessLost: no tokens are stored for it.
        """
        return Account(self, task, row)

    def api_url(self, provider: Provider) -> str:
        """Where a provider's API is, or the twin that stands for it."""
        urls = {Provider.GOOGLE: self.settings.google_api_url}
        return str(urls[provider])

    async def refresh(self, provider: Provider, refresh_token: str) -> Tokens:
        """Get a fresh access token.

        Raises:
            AccessLost: the grant is gone.
            Transient: nobody answered; the grant may be as good as ever.
        """
        if provider is not Provider.GOOGLE:
            raise AccessLost(provider, "token", reason="no adapter is built in yet")
        secret = self.settings.google_client_secret
        if self.settings.google_client_id is None or secret is None:
            raise TaskFailed("GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET are not set")
        return await google_oauth.refresh(
            self.http,
            auth_url=str(self.settings.google_auth_url),
            client_id=self.settings.google_client_id,
            client_secret=secret.get_secret_value(),
            refresh_token=refresh_token,
        )


class Account:
    """One connection during one run: its client, and its tokens."""

    def __init__(self, shared: Connections, task: Task, row: asyncpg.Record) -> None:
        self._shared = shared
        self._task = task
        self._provider = Provider(row["provider"])
        self._connection_id: UUID = row["connection_id"]
        self._tokens = self._unseal(row)
        self.api_calls = 0
        self.client: Client = CLIENTS[self._provider](
            shared.http,
            shared.api_url(self._provider),
            self._access_token,
            projection=row.get("projection", "").encode(),
        )

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make one call; an access token found expired is refreshed, once."""
        self.api_calls += 1
        try:
            return await call()
        except AccessExpired:
            await self._refresh()
            self.api_calls += 1
        try:
            return await call()
        except AccessExpired as refused:
            raise AccessLost(
                refused.provider,
                refused.operation,
                status=refused.status,
                reason="a fresh access token is refused",
                request_id=refused.request_id,
            ) from refused

    async def _access_token(self) -> str:
        if self._tokens.expires_at - REFRESH_BEFORE <= self._shared.clock.now():
            await self._refresh()
        return self._tokens.access_token

    async def _refresh(self) -> None:
        refresh_token = self._tokens.refresh_token
        if refresh_token is None:
            raise AccessLost(self._provider, "token", reason="no refresh token is kept")
        fresh = await self._shared.refresh(self._provider, refresh_token)
        self._tokens = self._tokens.renewed(fresh, now=self._shared.clock.now())
        sealed = self._shared.settings.keyring.seal(
            self._tokens.to_json(), context=self._context
        )
        await queries.connections.store_credentials(
            self._shared.pool,
            task_id=self._task.id,
            lease=self._task.lease,
            connection_id=self._connection_id,
            key_id=sealed.key_id,
            ciphertext=sealed.ciphertext,
        )

    def _unseal(self, row: asyncpg.Record) -> StoredTokens:
        if row["ciphertext"] is None:
            raise AccessLost(self._provider, "token", reason="no tokens are stored")
        sealed = Sealed(row["key_id"], row["ciphertext"])
        keyring = self._shared.settings.keyring
        return StoredTokens.from_json(keyring.open(sealed, context=self._context))

    @property
    def _context(self) -> str:
        return f"connection:{self._connection_id}"
