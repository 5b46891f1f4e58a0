"""What the dispatcher tells and asks the database."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from sql import queries
from worker.agenda import Survey
from worker.attempt import Ended
from worker.handler import Task
from worker.leases import Run


@dataclass(frozen=True, slots=True)
class Request:
    """What to claim; no slots = nothing."""

    kinds: list[str]
    slots: int
    lease_for: timedelta
    floor: datetime | None
    per_connection: int
    busy: list[UUID]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was claimed, which of the ended runs were lost, and when to look again."""

    tasks: list[Task]
    lost: set[int]
    survey: Survey


async def settle_and_claim(
    connection: asyncpg.Connection,
    ended: list[Ended],
    records: list[Ended],
    request: Request,
) -> Answer:
    """Finish runs that ended well, record these and others, and claim."""
    asked_at = time.monotonic()
    rows = [
        row
        async for row in queries.tasks.settle_and_claim(
            connection,
            task_ids=[one.task.id for one in ended],
            leases=[one.task.lease for one in ended],
            nexts=[one.outcome.next_at for one in ended if one.outcome],
            runs=_entries([*ended, *records]),
            kinds=request.kinds,
            slots=request.slots,
            lease_for=request.lease_for,
            floor=request.floor,
            per_connection=request.per_connection,
            busy=request.busy,
        )
    ]
    last = rows.pop()
    lease_ends = asked_at + request.lease_for.total_seconds()
    return Answer(
        [_task(row, lease_ends) for row in rows],
        set(last["lost"]),
        Survey(
            limit=request.slots,
            scanned=last["scanned"],
            wait_s=last["wait_s"],
            next_at=last["due_at"],
            claimed_at=last["claimed_at"],
        ),
    )


def _task(row: asyncpg.Record, lease_ends: float) -> Task:
    return Task(
        id=row["task_id"],
        kind=row["kind"],
        subject_id=row["subject_id"],
        connection_id=row["connection_id"],
        lane=row["lane"],
        attempt=row["attempt"],
        lease=row["lease"],
        due_at=row["due_at"],
        claimed_at=row["claimed_at"],
        lease_ends=lease_ends,
    )


async def fail(connection: asyncpg.Connection, ended: Ended) -> None:
    """Tell a run that ended badly.

    Raises:
        asyncpg.PostgresError: CS001, a later lease holds the task.
    """
    retry_after_s = ended.retry_after_s
    await queries.tasks.fail(
        connection,
        task_id=ended.task.id,
        lease=ended.task.lease,
        error=ended.error,
        retry_after=None if retry_after_s is None else timedelta(seconds=retry_after_s),
    )


async def renew(
    connection: asyncpg.Connection, runs: list[Run], lease_for: timedelta
) -> list[int]:
    """Extend the leases of these runs; the ids of the tasks that are still ours."""
    answer = queries.tasks.renew(
        connection,
        task_ids=[run.task.id for run in runs],
        leases=[run.task.lease for run in runs],
        lease_for=lease_for,
    )
    return [row["task_id"] async for row in answer]


async def hand_back(connection: asyncpg.Connection, runs: list[Run]) -> int:
    """Give runs back untried; how many were still ours."""
    count: int = await queries.tasks.hand_back(
        connection,
        task_ids=[run.task.id for run in runs],
        leases=[run.task.lease for run in runs],
    )
    return count


def _entries(ended: list[Ended]) -> str | None:
    """What is recorded: idle runs are not."""
    entries = [
        one.entry() for one in ended if one.outcome is None or not one.outcome.idle
    ]
    if not entries:
        return None
    return msgspec.json.encode(entries, enc_hook=str).decode()
