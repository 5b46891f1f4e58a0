"""The way of a change, from a provider to a frontend, and when it was where."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from sql import queries
from supacal.stages import Stage


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

    stage: Stage
    database: asyncpg.Connection
    began: datetime

    async def run(self) -> asyncpg.Record | None:
        """The first run since that read the calendar, once it is recorded."""
        found: asyncpg.Record | None = await queries.tour.run_after(
            self.database,
            kind=self.stage.task_kind,
            subject_id=self.stage.subject_id,
            since=self.began,
        )
        return found

    async def hops(
        self, committed: Sequence[datetime | None], heard_at: datetime | None
    ) -> list[Hop]:
        """Return every hop, in order; `committed` is about the meetings that fit."""
        delivery = await queries.tour.first_delivery(
            self.database, calendar_id=self.stage.calendar_id, since=self.began
        )
        run = await self.run()
        times = [at for at in committed if at is not None]
        return [
            _seen(self.stage.speaks, self.stage.sent_at(self.began)),
            Hop(
                "webhook_api has stored it",
                delivery["committed_at"] if delivery else None,
                happened=delivery is not None,
            ),
            _seen("a worker has claimed the task", run["started_at"] if run else None),
            *self._answered(run),
            Hop(
                "Postgres has committed the meetings",
                max(times, default=None),
                happened=bool(committed),
            ),
            _seen("the frontend has been called back", heard_at),
        ]

    def _answered(self, run: asyncpg.Record | None) -> list[Hop]:
        name = self.stage.answers
        return [] if name is None else [_seen(name, _answered_at(run))]


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
