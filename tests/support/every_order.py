"""Every order of some deliveries with every repetition, walked on the real database.

Orders are many, the databases that they lead to are few: two that differ only in the
ids they drew go on alike, so one that was met before is not walked on from again. From
each of the others every delivery is told, those that were told before too: that is
every order there is, with repetitions of any number.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from tests.support.sessions import Connection

UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What is written as things happen, and read by nothing that applies what comes next.
DIARIES = ("public.meeting_history", "sync.runs")
COUNTERS = {"meetings": "version", "sync.calendar_state": "last_changed_at"}
READS = """
select format(
  'select %L as it, to_jsonb(one) - %L as row from %s as one',
  class.oid::regclass, coalesce($2::json ->> class.oid::regclass::text, ''),
  class.oid::regclass
)
from pg_catalog.pg_class as class
where class.relkind in ('r', 'p') and not class.relispartition
  and class.relnamespace in ('public'::regnamespace, 'sync'::regnamespace)
  and class.oid <> all($1::text[]::regclass[])
"""
AS_IF_COMMITTED = "set constraints all immediate; set constraints all deferred"


class EveryOrder:
    """Tells deliveries by their places; `arrived` looks wherever all have been told.

    Of those `in_turn` none comes before the one ahead of it, nor after the next.
    """

    def __init__(
        self,
        database: Connection,
        deliveries: Sequence[str],
        tell: Callable[[int], Awaitable[Any]],
        arrived: Callable[[Sequence[int]], Awaitable[None]],
        in_turn: Sequence[int] = (),
    ) -> None:
        self._database = database
        self._places = range(len(deliveries))
        # Ids that deliveries name are no draw: what comes next may name them again.
        self._named = frozenset(UUID.findall("".join(deliveries)))
        self._in_turn = in_turn
        self._tell = tell
        self._arrived = arrived
        self._met: set[tuple[str, frozenset[int]]] = set()
        self._arrivals = 0
        self._read = ""

    async def walk(self) -> None:
        """Leaves the database as it was."""
        reads = await self._database.fetch(READS, DIARIES, json.dumps(COUNTERS))
        self._read = " union all ".join(read[0] for read in reads)
        # In one transaction nothing ages: what was written when makes no difference.
        async with self._database.transaction():
            await self._go_on([])
        assert self._arrivals

    async def _go_on(self, order: Sequence[int]) -> None:
        for place in filter(partial(self._may_follow, order), self._places):
            step = self._database.transaction()
            await step.start()
            await self._tell(place)
            await self._database.execute(AS_IF_COMMITTED)
            await self._look([*order, place])
            await step.rollback()

    def _may_follow(self, order: Sequence[int], place: int) -> bool:
        if place not in self._in_turn:
            return True
        told = sum(one in order for one in self._in_turn)
        return place in self._in_turn[max(told - 1, 0) : told + 1]

    async def _look(self, order: Sequence[int]) -> None:
        here = (await self._all_there_is(), frozenset(order))
        if here in self._met:
            return
        self._met.add(here)
        if len(here[1]) == len(self._places):
            self._arrivals += 1
            await self._arrived(order)
        await self._go_on(order)

    async def _all_there_is(self) -> str:
        """Every row of every table; an id that was drawn is told by where it stands."""
        rows = [f"{it} {row}" for it, row in await self._database.fetch(self._read)]
        rows.sort(key=lambda row: UUID.sub("", row))
        drawn: dict[str, str] = {}

        def stands(found: re.Match[str]) -> str:
            named = found[0] in self._named
            return found[0] if named else drawn.setdefault(found[0], f"#{len(drawn)}")

        return UUID.sub(stands, "\n".join(rows))
