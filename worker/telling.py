"""Tell the database what deliveries and answers say of bookings.

A batch is one transaction. One that the database refuses is halved until what it cannot
take stands alone: that fails, with the reason, and the others go on.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, TypeAlias

import asyncpg
import msgspec
import structlog

from providers.bookings import Booking
from providers.model import Malformed, Provider
from providers.readers import BOOKING_READERS
from sql import queries
from worker.connections import Account
from worker.handler import Counts, Task
from worker.pages import Steps

log = structlog.get_logger()

State: TypeAlias = Literal["done", "ignored", "failed"]
NO_BOOKING: Final = "it tells of no booking"
# Classes of SQLSTATE that no repetition makes right: a value that cannot be, a rule
# that it breaks, more than fits, and what a function refused in words of its own.
POISON: Final = frozenset({"21", "22", "23", "54", "P0"})
COUNTED: Final = ("created", "updated", "cancelled", "unchanged", "set_aside")
CHANGES: Final = ("created", "updated", "cancelled", "set_aside")
# The very object that is the default: it is left out.
NOTHING_RAW: Final = Booking.__struct_defaults__[-1]


class Message(msgspec.Struct):
    """What one delivery, or one answer (which has no id), says, and its fate."""

    delivery: int | None
    bookings: list[Booking]
    again: bool = False  # it was looked at before
    state: State = "done"
    error: str | None = None

    def fail(self, reason: str) -> None:
        self.state, self.error = "failed", reason

    def fate(self) -> dict[str, Any]:
        return {"id": self.delivery, "state": self.state, "error": self.error}


def read_delivery(provider: Provider, row: asyncpg.Record) -> Message:
    """Understand a stored delivery."""
    delivery, body = row["delivery_id"], row["body"]
    read = BOOKING_READERS[provider](body or "")
    if isinstance(read, Malformed):
        message = Message(delivery, [])
        message.fail(read.reason)
        return message
    if not read:
        return Message(delivery, [], state="ignored", error=NO_BOOKING)
    return Message(delivery, read, row["again"])


class Teller:
    """Tells of one connection's bookings, during one run."""

    def __init__(
        self,
        task: Task,
        connection: asyncpg.Record,
        account: Account,
        pool: asyncpg.Pool,
        steps: Steps,
    ) -> None:
        self._task = task
        self._provider = Provider(connection["provider"])
        self._connection_id = connection["connection_id"]
        self._can_ask = account.has_access
        self._pool = pool
        self._steps = steps
        self.counts = Counts()
        self.changes = 0

    async def tell_deliveries(self, rows: Sequence[asyncpg.Record]) -> None:
        """Apply stored deliveries, and settle each with what came of it."""
        with self._steps.timed("read"):
            messages = [read_delivery(self._provider, row) for row in rows]
        unread = [one for one in messages if one.state == "failed"]
        self.counts += Counts(set_aside=len(unread))
        await self._tell(messages)

    async def tell_answers(
        self, found: Iterable[Booking | Malformed], *, again: bool = False
    ) -> list[Booking]:
        """Apply what the provider answered; returns what of it could be read.

        With `again`, what is known already is projected anew, too.
        """
        bookings = []
        for one in found:
            if isinstance(one, Malformed):
                self.counts += Counts(set_aside=1)
                self._log(Message(None, [], state="failed", error=one.reason))
            else:
                bookings.append(one)
        await self._tell([Message(None, [one], again) for one in bookings])
        return bookings

    async def look_again(self, connection: Any, keys: Sequence[str]) -> None:
        """Project bookings anew, in the transaction that brought news of them."""
        if keys:
            self._count(await self._apply(connection, [], keys=keys))

    async def _tell(self, messages: list[Message]) -> None:
        if not messages:
            return
        try:
            await self._tell_at_once(messages)
        except asyncpg.PostgresError as refusal:
            if not _is_poison(refusal):
                raise
            if len(messages) > 1:
                half = len(messages) // 2
                await self._tell(messages[:half])
                await self._tell(messages[half:])
                return
            (poison,) = messages
            poison.bookings.clear()
            poison.fail(_named(refusal))
            self.counts += Counts(set_aside=1)
            await self._tell_at_once(messages)

    async def _tell_at_once(self, messages: list[Message]) -> None:
        told = [(one, booking) for one in messages for booking in one.bookings]
        again = any(one.again for one in messages)
        async with self._pool.acquire() as connection, connection.transaction():
            applied = await self._apply(
                connection, [booking for _, booking in told], again=again
            )
            for refused in msgspec.json.decode(applied["refused"]):
                if refused["place"] is not None:
                    told[refused["place"] - 1][0].fail(refused["reason"])
            await self._settle(connection, messages)
        self._count(applied)
        for message in messages:
            if message.state == "failed":
                self._log(message)

    async def _apply(
        self,
        connection: Any,
        bookings: Sequence[Booking],
        *,
        again: bool = False,
        keys: Sequence[str] = (),
    ) -> asyncpg.Record:
        with self._steps.timed("apply"):
            applied: asyncpg.Record = await queries.bookings.apply_bookings(
                connection,
                **self._task.fence,
                connection_id=self._connection_id,
                bookings=_json([_without_raw(booking) for booking in bookings]),
                again=again,
                keys=keys,
            )
            return applied

    def _count(self, applied: asyncpg.Record) -> None:
        self.counts += Counts(**{name: applied[name] for name in COUNTED})
        self.changes += sum(applied[name] for name in CHANGES)

    async def _settle(self, connection: Any, messages: list[Message]) -> None:
        """Note what became of deliveries, and have what they tell of asked for."""
        delivered = [one for one in messages if one.delivery is not None]
        if not delivered:
            return
        await queries.bookings.settle_deliveries(
            connection, deliveries=_json([one.fate() for one in delivered])
        )
        bookings = [booking for one in delivered for booking in one.bookings]
        if self._can_ask and bookings:
            await queries.bookings.fetch_delivered(
                connection,
                **self._task.fence,
                connection_id=self._connection_id,
                provider_ids=[one.provider_id for one in bookings],
                series=[one.ask == "series" for one in bookings],
            )

    def _log(self, message: Message) -> None:
        """Say what was set aside, without its key, which may hold an address."""
        log.warning(
            "booking.set_aside",
            provider=self._provider.value,
            connection_id=str(self._connection_id),
            delivery=message.delivery,
            reason=message.error,
        )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _without_raw(booking: Booking) -> Booking:
    # A payload holds more of people than meetings need, and stands in the delivery.
    return msgspec.structs.replace(booking, raw=NOTHING_RAW)


def _is_poison(refusal: asyncpg.PostgresError) -> bool:
    return (refusal.sqlstate or "")[:2] in POISON


def _named(refusal: asyncpg.PostgresError) -> str:
    """Name a refusal without its message, which may quote somebody's booking."""
    rule = getattr(refusal, "constraint_name", None)
    told = [type(refusal).__name__, refusal.sqlstate, rule]
    return "the database refuses it: " + " ".join(word for word in told if word)
