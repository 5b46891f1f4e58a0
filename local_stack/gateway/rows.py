"""Row changes: from a transaction to the frames that each subscriber may get.

The rules are those of the real server's SQL (WALRUS): columns by the role's privileges,
rows by the policies as they are now, filters on the row as it was changed.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import asyncpg
import msgspec
import structlog

from local_stack.gateway import frames
from local_stack.gateway.authorization import DATABASE_GONE
from local_stack.gateway.bindings import Binding, Filter
from local_stack.gateway.images import RowChange, row_change
from local_stack.gateway.messages import Pausable
from local_stack.gateway.pace import Pace
from local_stack.gateway.pgoutput import Change, Relation, Transaction
from local_stack.gateway.subscriptions import Listener, Subscriptions
from local_stack.gateway.tables import (
    Table,
    describe,
    images,
    images_one_by_one,
    visible_rows,
)

if TYPE_CHECKING:
    from local_stack.gateway.tokens import Claims

BATCH_CHANGES: Final = 500
RETRY_S: Final = 0.1

log = structlog.get_logger()
Pending = tuple[datetime, Change]


@dataclass(slots=True)
class _TableWork:
    """The changes of one table in a batch, and what is found out about them."""

    relation: Relation
    listeners: list[Listener]
    pending: list[Pending] = field(default_factory=list)
    changes: list[RowChange] = field(default_factory=list)
    table: Table | None = None
    visible: dict[tuple[str, str], frozenset[int]] = field(default_factory=dict)

    def filters(self) -> list[Filter]:
        bindings = (b for listener in self.listeners for b in listener.bindings)
        return list(dict.fromkeys(f for b in bindings for f in b.filters))


class RowDelivery:
    """Takes transactions in at once; delivers their rows in order, in its own time."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        subscriptions: Subscriptions,
        *,
        record_bytes: int,
        pending_changes: int,
        pace: Pace,
        stream: Pausable,
    ):
        self._pool = pool
        self._subscriptions = subscriptions
        self._record_bytes = record_bytes
        self._pending_changes = pending_changes
        self._pace = pace
        self._stream = stream
        self._waiting: deque[Pending] = deque()
        self._wake = asyncio.Event()

    def take(self, transaction: Transaction) -> None:
        """Queue what somebody listens for; never waits."""
        for change in transaction.changes:
            if self._subscriptions.of(change.relation):
                self._waiting.append((transaction.committed_at, change))
        if self._waiting:
            self._wake.set()
        if len(self._waiting) > self._pending_changes:
            self._stream.pause(self)

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                count = min(len(self._waiting), BATCH_CHANGES)
                batch = [self._waiting.popleft() for _ in range(count)]
                try:
                    await self._deliver(batch)
                except Exception:  # the next changes must come all the same
                    log.exception("gateway.changes_lost", changes=len(batch))
                if len(self._waiting) <= self._pending_changes // 2:
                    self._stream.resume(self)

    async def _deliver(self, batch: Sequence[Pending]) -> None:
        works: dict[Relation, _TableWork] = {}
        places: list[tuple[_TableWork, int]] = []
        for committed_at, change in batch:
            work = works.get(change.relation)
            if work is None:
                listeners = self._subscriptions.of(change.relation)
                work = works[change.relation] = _TableWork(change.relation, listeners)
            places.append((work, len(work.pending)))
            work.pending.append((committed_at, change))
        await asyncio.gather(*(self._prepare_surely(work) for work in works.values()))
        for work, place in places:
            if work.table is not None:
                self._send(work, work.table, place)
                if self._pace.is_due:
                    await self._pace.breathe()

    async def _prepare_surely(self, work: _TableWork) -> None:
        """Ask the database until it answers: a lost connection loses no change."""
        while True:
            try:
                return await self._prepare(work)
            except DATABASE_GONE:
                await asyncio.sleep(RETRY_S)
            except asyncpg.PostgresError as error:
                work.table = None
                log.exception(
                    "gateway.changes_lost",
                    table=work.relation.table,
                    changes=len(work.pending),
                    sqlstate=error.sqlstate,
                )
                return None

    async def _prepare(self, work: _TableWork) -> None:
        filters, roles = work.filters(), {w.claims.role for w in work.listeners}
        async with self._pool.acquire() as connection:
            work.table = await describe(connection, work.relation, roles, filters)
            if work.table is None:
                return
            rows = [
                row
                for _, change in work.pending
                for row in (change.new, change.old)
                if row is not None
            ]
            try:
                made = await images(
                    connection, work.relation, work.table, rows, filters
                )
            except asyncpg.PostgresError:
                if not filters:
                    raise
                made = await images_one_by_one(connection, work.relation, rows, filters)
        table, supply = work.table, iter(made)
        work.changes = [
            row_change(at, change, table, supply, record_bytes=self._record_bytes)
            for at, change in work.pending
        ]
        if table.has_rls and table.key:
            await self._look_as_clients(work, table)

    async def _look_as_clients(self, work: _TableWork, table: Table) -> None:
        """Ask the policies, once for all clients with the same claims."""
        clients: dict[tuple[str, str], Claims] = {}
        for listener in work.listeners:
            readable = table.readable.get(listener.claims.role, frozenset())
            if readable.issuperset(table.key):
                clients.setdefault(listener.identity, listener.claims)
        asked = [
            place
            for place, change in enumerate(work.changes)
            if change.kind != "DELETE"
        ]
        if not asked or not clients:
            return
        keys = [
            [work.changes[place].key_text[column] for place in asked]
            for column in range(len(table.key))
        ]

        async def look(identity: tuple[str, str], claims: "Claims") -> None:
            async with self._pool.acquire() as connection:
                found = await visible_rows(connection, table, claims, keys)
            work.visible[identity] = frozenset(asked[place] for place in found)

        await asyncio.gather(*(look(*client) for client in clients.items()))

    def _send(self, work: _TableWork, table: Table, place: int) -> None:
        change = work.changes[place]
        made: dict[tuple[str, object, str | None], msgspec.Raw] = {}
        for listener in work.listeners:
            role, channel = listener.claims.role, listener.channel
            if role not in table.readable or not self._subscriptions.has(channel):
                continue
            error = change.refusal(table, role)
            heard = [b for b in listener.bindings if b.event in {"*", change.kind}]
            if error is None:
                if not _sees(work, table, listener, place):
                    continue
                heard = [b for b in heard if change.passes(b.filters)]
            for select, ids in _by_select(heard):
                kind = (role, select, error)
                if kind not in made:
                    made[kind] = msgspec.Raw(change.data(table, role, select, error))
                payload = {"ids": ids, "data": made[kind]}
                channel.send(
                    frames.push(
                        channel.version, channel.wire_topic, "postgres_changes", payload
                    )
                )


def _sees(work: _TableWork, table: Table, listener: Listener, place: int) -> bool:
    if not table.has_rls or work.changes[place].kind == "DELETE":
        return True
    return place in work.visible.get(listener.identity, frozenset())


def _by_select(
    bindings: Iterable[Binding],
) -> list[tuple[tuple[str, ...] | None, list[int]]]:
    """Group bindings by their column lists: all columns first, then by name."""
    groups: dict[tuple[str, ...] | None, list[int]] = {}
    for binding in bindings:
        groups.setdefault(binding.select, []).append(binding.id)
    ordered = sorted(groups, key=lambda select: ",".join(select or ()))
    return [(select, list(dict.fromkeys(groups[select]))) for select in ordered]
