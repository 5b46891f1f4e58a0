"""Tasks as a worker sees them, by SQL alone."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.support.sessions import Connection

Task = asyncpg.Record

LEASE = timedelta(seconds=30)


async def request(
    connection: Connection,
    subject: UUID | None = None,
    *,
    kind: str = "pull",
    connection_id: UUID | None = None,
    lane: int = 1,
    at: datetime | None = None,
) -> UUID:
    """Ask for a task, now unless said otherwise; returns its subject."""
    subject = subject or uuid4()
    await connection.execute(
        "select sync.request_task($1, $2, $3, $4, coalesce($5, sync.clock()))",
        kind,
        subject,
        connection_id,
        lane,
        at,
    )
    return subject


async def claim(
    connection: Connection,
    *,
    limit: int = 100,
    kinds: tuple[str, ...] = ("pull", "watch", "push", "ingest", "disconnect"),
    lease: timedelta = LEASE,
    **more: Any,
) -> list[Task]:
    """Claim what is due, without the last row that tells when to look again."""
    rows, _ = await claim_and_wait(
        connection, limit=limit, kinds=kinds, lease=lease, **more
    )
    return rows


async def claim_and_wait(
    connection: Connection,
    *,
    limit: int = 100,
    kinds: tuple[str, ...] = ("pull", "watch", "push", "ingest", "disconnect"),
    lease: timedelta = LEASE,
    floor: datetime | None = None,
    per_connection: int = 8,
    busy: list[UUID] | None = None,
) -> tuple[list[Task], float | None]:
    """What was claimed, and in how many seconds to look again."""
    rows = await connection.fetch(
        """
        select * from sync.claim_tasks(
          $1, $2, $3, coalesce($4, '-infinity'::timestamptz), $5, $6
        )
        """,
        list(kinds),
        limit,
        lease,
        floor,
        per_connection,
        busy or [],
    )
    *claimed, last = rows
    assert last["task_id"] is None
    return claimed, last["wait_s"]


async def finish(connection: Connection, task: Task, *, at: datetime | None) -> None:
    """End a run well; due again at a time, or never."""
    await connection.execute(
        "select sync.finish_task($1, $2, $3)", task["task_id"], task["lease"], at
    )


async def fail(
    connection: Connection,
    task: Task,
    *,
    error: str = "it went wrong",
    retry_after: timedelta | None = None,
    attempts_before_alert: int = 8,
) -> datetime:
    """End a run badly; returns when the task is due again."""
    due: datetime = await connection.fetchval(
        "select sync.fail_task($1, $2, $3, $4, $5)",
        task["task_id"],
        task["lease"],
        error,
        retry_after,
        attempts_before_alert,
    )
    return due


async def row(database: Connection, subject: UUID) -> asyncpg.Record | None:
    """The task's row as it stands."""
    return await database.fetchrow(
        "select * from sync.tasks where subject_id = $1", subject
    )
