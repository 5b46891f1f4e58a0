"""The receiver's one way into the database: a connection of its own, kept alive.

What a failed call means for those in it:

* the database refuses a value   the batch is halved until the one is found
* anything else                  unavailable: all of them are asked to come again
"""

import asyncio
import random
from typing import TypeAlias

import asyncpg
import msgspec
import structlog

from providers.google.adopted import Adopted
from runtime.pool import FAILURES, connect
from runtime.settings import DatabaseAccess
from sql import queries
from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits

log = structlog.get_logger()

APPLICATION_NAME = "supacal receiver"
RECONNECT_FIRST_S = 0.05
RECONNECT_MOST_S = 2.0
CLOSE_LIMIT_S = 2
LOG_EVERY = 10  # attempts
# Class 22 and 23: a value that no repetition makes right.
BAD_VALUE = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
# The statement failed and the connection is as good as before.
CONNECTION_GOOD = (
    *BAD_VALUE,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.TransactionRollbackError,
)
# What sync.receive says; looking up is quicker than making the member of an enum.
OUTCOMES = {one.value: one for one in (Outcome.ACCEPTED, Outcome.IGNORED)}

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Disconnected(OSError):
    """There is no connection at the moment."""


class Store:
    """Stores batches of deliveries; ``keep_connected`` must run beside it."""

    def __init__(self, access: DatabaseAccess, *, limits: Limits) -> None:
        self._access = access
        self._limits = limits
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._lock = asyncio.Lock()  # a probe waits for the flush under way
        self._probe: asyncio.Task[bool] | None = None
        # Read once a minute, for verifying asks no database.
        self.adopted: dict[tuple[bytes, str], Adopted] = {}

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    async def connected(self) -> None:
        """Wait until there is a connection."""
        await self._up.wait()

    async def keep_connected(self) -> None:
        """Connect, and again whenever the connection is lost, until cancelled."""
        attempt = 0
        while True:
            try:
                connection = await connect(
                    self._access.url.get_secret_value(),
                    role=self._access.role,
                    application_name=APPLICATION_NAME,
                )
            except FAILURES as error:
                if attempt % LOG_EVERY == 0:
                    log.warning("database.unreachable", error=_told(error))
                wait_s = min(RECONNECT_MOST_S, RECONNECT_FIRST_S * 2 ** min(attempt, 9))
                attempt += 1
                await asyncio.sleep(random.uniform(0, wait_s))  # noqa: S311
            else:
                attempt = 0
                await self._use(connection)

    async def store(self, deliveries: list[Delivery]) -> list[Outcome]:
        """Store a batch by one call; more calls only where one cannot be stored."""
        try:
            return await self._receive(deliveries)
        except BAD_VALUE:
            if len(deliveries) == 1:
                notification = deliveries[0].notification
                log.exception(
                    "delivery.unstorable",
                    provider=notification.provider.value,
                    channel_id=str(notification.channel_id),
                )
                return [Outcome.UNSTORABLE]
            half = len(deliveries) // 2
            return [
                *await self.store(deliveries[:half]),
                *await self.store(deliveries[half:]),
            ]
        except FAILURES:
            log.exception("flush.failed", rows=len(deliveries))
            return [Outcome.UNAVAILABLE] * len(deliveries)

    async def can_store(self) -> bool:
        """Say whether a delivery would be stored now: asked with none.

        Anybody may ask, so those who ask at the same time share one answer: else a
        crowd would keep deliveries waiting.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask())
        return await asyncio.shield(self._probe)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._limits.probe_s):
                await self.connected()
                await self._receive([])
        except FAILURES:
            return False
        return True

    async def close(self) -> None:
        """Part from the database politely, for a while."""
        if self._connection is not None:
            await self._connection.close(timeout=CLOSE_LIMIT_S)

    async def _use(self, connection: Connection) -> None:
        self._down.clear()
        connection.add_termination_listener(self._lost)
        if connection.is_closed():
            return
        self._connection = connection
        try:
            await self._read_adopted(connection)
            if not self._down.is_set():
                self._up.set()
                log.info("database.connected")
            while not await self._lost_within(self._limits.adopted_every_s):
                await self._read_adopted(connection)
        finally:
            connection.remove_termination_listener(self._lost)
        log.warning("database.lost")

    async def _lost_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._down.wait()
        except TimeoutError:
            return False
        return True

    async def _read_adopted(self, connection: Connection) -> None:
        """Learn which channels of an older system are believed; else as before."""
        try:
            async with self._lock, asyncio.timeout(self._limits.probe_s):
                told = await queries.deliveries.adopted_tokens(connection)
        except FAILURES as error:
            log.warning("adopted.unread", error=_told(error))
            return
        # In place, and nobody looks meanwhile: whoever verifies has this very mapping.
        known = zip(told["token_hashes"], told["provider_channel_ids"], strict=True)
        believed = map(Adopted, told["channel_ids"], told["ends"])
        self.adopted.clear()
        self.adopted.update(zip(known, believed, strict=True))

    def _lost(self, _: object) -> None:
        self._connection = None
        self._up.clear()
        self._down.set()

    def _drop(self, connection: Connection) -> None:
        """Give a connection up that may be in any state; another is made."""
        if connection is self._connection:
            self._lost(connection)
        connection.terminate()

    async def _receive(self, deliveries: list[Delivery]) -> list[Outcome]:
        async with self._lock:
            connection = self._connection
            if connection is None:
                raise Disconnected("no connection to the database")
            try:
                async with asyncio.timeout(self._limits.flush_s):
                    return await _call(connection, deliveries)
            except CONNECTION_GOOD:
                raise
            except BaseException:
                self._drop(connection)
                raise


async def _call(connection: Connection, deliveries: list[Delivery]) -> list[Outcome]:
    notifications = [delivery.notification for delivery in deliveries]
    outcomes = await queries.deliveries.receive(
        connection,
        providers=[one.provider for one in notifications],
        channel_ids=[one.channel_id for one in notifications],
        routing_keys=[one.routing_key for one in notifications],
        kinds=[one.kind for one in notifications],
        headers=[msgspec.json.encode(one.headers).decode() for one in notifications],
        bodies=[one.body for one in notifications],
        received_at=[delivery.received_at for delivery in deliveries],
    )
    return [OUTCOMES[outcome] for outcome in outcomes or ()]


def _told(error: BaseException) -> str:
    """Name an error without quoting values, which Postgres likes to do."""
    sqlstate = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {sqlstate}" if sqlstate else type(error).__name__
