"""A connection's provider client; its access token is refreshed when it ends."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

import asyncpg
import httpx2
import msgspec

from providers.clients import CLIENTS
from providers.errors import AccessExpired, AccessLost, RateLimited
from providers.google import oauth as google_oauth
from providers.model import Provider, StoredTokens, Tokens
from providers.protocols import Client
from runtime.clock import Clock
from runtime.sealing import Sealed, Tampered, UnknownKey
from runtime.settings import WorkerSettings
from sql import queries
from worker.handler import Task, TaskFailed

# A token that ends while a call is under way would cost the call.
REFRESH_BEFORE = timedelta(minutes=1)
# Too fast: the pause doubles so many times, to 64 s.
RATE_LIMITED_STEPS = 6

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

        Nothing is unsealed before the first call.
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
        self._key_id: str | None = row["key_id"]
        # As stored, as far as this run knows.
        self._ciphertext: bytes | None = row["ciphertext"]
        self._tokens: StoredTokens | None = None
        self.api_calls = 0
        self._projection: str = row.get("projection", "")
        self.client: Client = CLIENTS[self._provider](
            shared.http,
            shared.api_url(self._provider),
            self._access_token,
            projection=self._projection.encode(),
        )

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
            await self._refresh()
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
        self.api_calls += 1
        try:
            return await call()
        except RateLimited as limited:
            if limited.retry_after_s is None:
                # Nobody says by how much: the whole connection goes slower each time.
                longest = 2.0 ** min(self._task.attempt, RATE_LIMITED_STEPS)
                limited.retry_after_s = longest * random.uniform(0.5, 1)  # noqa: S311
            raise

    async def unlock(self) -> None:
        """Unseal the tokens before something is begun that needs them; as ``ask``."""
        await self._known_tokens()

    async def lose(self, lost: AccessLost) -> None:
        """Let the connection wait for its owner, unless it has other tokens by now."""
        await queries.connections.lose_access(
            self._shared.pool,
            task_id=self._task.id,
            lease=self._task.lease,
            connection_id=self._connection_id,
            ciphertext=self._ciphertext,
            reason=str(lost),
        )

    async def _access_token(self) -> str:
        tokens = await self._known_tokens()
        if tokens.expires_at - REFRESH_BEFORE <= self._shared.clock.now():
            tokens = await self._refresh()
        return tokens.access_token

    async def _refresh(self) -> StoredTokens:
        known = await self._known_tokens()
        if known.refresh_token is None:
            raise self._lost("no refresh token is kept")
        fresh = await self._shared.refresh(self._provider, known.refresh_token)
        self._tokens = known.renewed(fresh, now=self._shared.clock.now())
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
            instead_of=self._ciphertext,
        )
        self._ciphertext = sealed.ciphertext
        return self._tokens

    async def _known_tokens(self) -> StoredTokens:
        if self._tokens is None:
            self._tokens = await self._unseal()
        return self._tokens

    async def _unseal(self) -> StoredTokens:
        if self._ciphertext is None or self._key_id is None:
            raise self._lost("no tokens are stored")
        sealed = Sealed(self._key_id, self._ciphertext)
        keyring = self._shared.settings.keyring
        try:
            return StoredTokens.from_json(keyring.open(sealed, context=self._context))
        except UnknownKey:
            await self._miss_key(self._key_id)
            raise TaskFailed(
                f"the tokens are sealed with the key {self._key_id}, which is not "
                "in SUPACAL_SECRET_KEYS"
            ) from None
        except (Tampered, msgspec.DecodeError):
            raise self._lost("the stored tokens are damaged") from None

    async def _miss_key(self, key_id: str) -> None:
        await queries.connections.miss_key(
            self._shared.pool,
            task_id=self._task.id,
            lease=self._task.lease,
            connection_id=self._connection_id,
            key_id=key_id,
        )

    def _lost(self, reason: str) -> AccessLost:
        return AccessLost(self._provider, "token", reason=reason)

    @property
    def _context(self) -> str:
        return f"connection:{self._connection_id}"
