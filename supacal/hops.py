"""The way of a change, from Google Calendar to a frontend, and when it was where."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from local_stack.twins.google import GoogleTwin
from sql import queries

SENT = frozenset({"delivered", "retrying"})


@dataclass(frozen=True)
class Hop:
    """A point on the way of a change; `at` is None where it has not been seen."""

    name: str
    at: datetime | None
    # A Postgres that keeps no commit timestamps knows that, and not when.
    happened: bool


@dataclass(frozen=True)
class Trail:
    """Finds the hops of one change of one calendar."""

    twin: GoogleTwin
    database: asyncpg.Connection
    calendar_id: UUID
    provider_calendar_id: str
    began: datetime

    async def run(self) -> asyncpg.Record | None:
        """The first pull since, once it is recorded."""
        found: asyncpg.Record | None = await queries.tour.run_after(
            self.database, calendar_id=self.calendar_id, since=self.began
        )
        return found

    async def hops(
        self, committed: Sequence[datetime | None], heard_at: datetime | None
    ) -> list[Hop]:
        """Return every hop, in order; `committed` is about the meetings that fit."""
        sent_at = self._sent_at()
        delivery = await queries.tour.first_delivery(
            self.database, calendar_id=self.calendar_id, since=self.began
        )
        run = await self.run()
        times = [at for at in committed if at is not None]
        return [
            _seen("Google sends a push", sent_at),
            Hop(
                "webhook_api has stored it",
                delivery["committed_at"] if delivery else None,
                happened=delivery is not None,
            ),
            _seen("a worker has claimed the task", run["started_at"] if run else None),
            _seen("Google's API has told what changed", _answered_at(run)),
            Hop(
                "Postgres has committed the meetings",
                max(times, default=None),
                happened=bool(committed),
            ),
            _seen("the frontend has been called back", heard_at),
        ]

    def _sent_at(self) -> datetime | None:
        times = [
            push.sent_at
            for push in self.twin.pushes.log
            if push.sent_at >= self.began
            and push.calendar_id == self.provider_calendar_id
            and push.outcome in SENT
        ]
        return min(times, default=None)


def lines(hops: Sequence[Hop], began: datetime) -> list[str]:
    """Return a line a hop: when, and how long after the one before."""
    told: list[str] = []
    before = began
    for hop in hops:
        if hop.at is None:
            when = "not measured" if hop.happened else "not seen"
            told.append(f"  {when:>23}   {hop.name}")
            continue
        told.append(
            f"  {milliseconds(hop.at - began):>11}  +{milliseconds(hop.at - before):>9}"
            f"   {hop.name}"
        )
        before = hop.at
    return told


def milliseconds(span: timedelta) -> str:
    """Return a span for people."""
    return f"{span.total_seconds() * 1000:,.1f} ms"


def _seen(name: str, at: datetime | None) -> Hop:
    return Hop(name, at, happened=at is not None)


def _answered_at(run: asyncpg.Record | None) -> datetime | None:
    if run is None:
        return None
    steps: dict[str, Any] = msgspec.json.decode(run["steps"])
    answered = steps.get("answered")
    if answered is None:
        return None
    started: datetime = run["started_at"]
    return started + timedelta(milliseconds=answered)
