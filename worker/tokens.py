"""The tokens of one connection during one run: opened, renewed, and kept.

One run renews at a time, of all workers: a refresh token of Calendly is spent by its
use, and two runs with the same one would lose the grant between them.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from providers.errors import AccessLost, Unavailable
from providers.model import Provider, StoredTokens
from runtime.clock import Clock
from runtime.sealing import Sealed, Tampered, UnknownKey
from sql import queries
from worker.grants import Grants
from worker.handler import Task, TaskFailed

# A token that ends while a call is under way would cost the call.
REFRESH_BEFORE = timedelta(minutes=1)
# Longer than a refresh takes; sync.begin_refresh gives it up after 30 s.
WAIT_FOR_OTHERS_S = 12
LOOK_EVERY_S = 0.1
# API keys and personal tokens come without a refresh token, and live until revoked.
HAVE_KEYS = frozenset({Provider.CALENDLY, Provider.CALCOM})
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Vault:
    """What opens, renews and keeps the tokens of all connections."""

    pool: asyncpg.Pool
    grants: Grants
    clock: Clock
    # Renewals under way: they end, whatever becomes of the runs that began them.
    renewals: set[asyncio.Task[StoredTokens]] = field(default_factory=set)


class TokensInUse:
    """Gives a valid access token."""

    def __init__(self, vault: Vault, task: Task, row: asyncpg.Record) -> None:
        self._vault = vault
        self._task = task
        self._provider = Provider(row["provider"])
        self._connection_id: UUID = row["connection_id"]
        self._key_id: str | None = row["key_id"]
        # As stored, as far as this run knows.
        self.ciphertext: bytes | None = row["ciphertext"]
        self._tokens: StoredTokens | None = None

    @property
    def are_there(self) -> bool:
        """Whether anything can be asked of the provider at all."""
        return self.ciphertext is not None or self._operators_key is not None

    async def access_token(self) -> str:
        """Return the access token, renewed if it ends soon."""
        tokens = await self.known()
        ends_soon = tokens.expires_at - REFRESH_BEFORE <= self._vault.clock.now()
        if ends_soon and not self._is_key(tokens):
            tokens = await self.renew()
        return tokens.access_token

    async def known(self) -> StoredTokens:
        """Return the tokens as they are stored.

        Raises:
            AccessLost: there are none, or they are damaged.
            TaskFailed: they are sealed with a key that is missing; an alert is open.
        """
        if self._tokens is None:
            self._tokens = await self._unseal()
        return self._tokens

    async def renew(self) -> StoredTokens:
        """Renew the tokens, or take those that another run has renewed meanwhile.

        It is not broken off with the run: a token that is spent has to be replaced.

        Raises:
            AccessLost: the grant is gone.
            Transient: it was not renewed, and is as good as before.
        """
        known = await self.known()
        if known.refresh_token is None:
            raise (
                self._refused_key()
                if self._is_key(known)
                else self._lost("no refresh token is kept")
            )
        renewal = asyncio.ensure_future(self._renew_alone(known, known.refresh_token))
        self._vault.renewals.add(renewal)
        renewal.add_done_callback(self._vault.renewals.discard)
        # Should nobody wait any more, its failure is nobody's.
        renewal.add_done_callback(lambda one: one.cancelled() or one.exception())
        self._tokens = await asyncio.shield(renewal)
        return self._tokens

    async def _renew_alone(self, known: StoredTokens, spent: str) -> StoredTokens:
        renewed_by_another = await self._wait_for_turn()
        if renewed_by_another is not None:
            return renewed_by_another
        mine = self.ciphertext
        try:
            fresh = await self._vault.grants.refresh(self._provider, spent)
        except AccessLost:
            raise  # nobody is to try these again
        except Exception:
            await queries.connections.end_refresh(
                self._vault.pool, connection_id=self._connection_id, ciphertext=mine
            )
            raise
        return await self._keep(known.renewed(fresh, now=self._vault.clock.now()))

    async def _wait_for_turn(self) -> StoredTokens | None:
        """Return what another run got, or nothing when it is for us to renew."""
        looks = round(WAIT_FOR_OTHERS_S / LOOK_EVERY_S)
        for _ in range(looks):
            stored = await queries.connections.begin_refresh(
                self._vault.pool,
                **self._task.fence,
                connection_id=self._connection_id,
                ciphertext=self.ciphertext,
            )
            if stored is None:
                raise self._lost("no tokens are stored")
            if stored["is_ours"]:
                return None
            if stored["ciphertext"] != self.ciphertext:
                self._key_id, self.ciphertext = stored["key_id"], stored["ciphertext"]
                return await self._unseal()
            await asyncio.sleep(LOOK_EVERY_S)
        raise Unavailable(self._provider, "token", reason="another run renews it")

    async def _keep(self, tokens: StoredTokens) -> StoredTokens:
        sealed = self._vault.grants.settings.keyring.seal(
            tokens.to_json(), context=self._context
        )
        await queries.connections.store_credentials(
            self._vault.pool,
            connection_id=self._connection_id,
            key_id=sealed.key_id,
            ciphertext=sealed.ciphertext,
            instead_of=self.ciphertext,
        )
        self._key_id, self.ciphertext = sealed.key_id, sealed.ciphertext
        return tokens

    async def _unseal(self) -> StoredTokens:
        if self.ciphertext is None or self._key_id is None:
            if self._operators_key is None:
                raise self._lost("no tokens are stored")
            return StoredTokens(self._operators_key, None, NEVER, None)
        sealed = Sealed(self._key_id, self.ciphertext)
        keyring = self._vault.grants.settings.keyring
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
            self._vault.pool,
            **self._task.fence,
            connection_id=self._connection_id,
            key_id=key_id,
        )

    @property
    def _operators_key(self) -> str | None:
        key = self._vault.grants.settings.calcom_api_key
        is_calcom = self._provider is Provider.CALCOM
        return key.get_secret_value() if key is not None and is_calcom else None

    def _is_key(self, tokens: StoredTokens) -> bool:
        return self._provider in HAVE_KEYS and tokens.refresh_token is None

    def _refused_key(self) -> Exception:
        if self.ciphertext is None:  # no user can mend that
            return TaskFailed("CALCOM_API_KEY is refused")
        return self._lost("the API key is refused")

    def _lost(self, reason: str) -> AccessLost:
        return AccessLost(self._provider, "token", reason=reason)

    @property
    def _context(self) -> str:
        return f"connection:{self._connection_id}"
