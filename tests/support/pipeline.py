"""Clients, their meetings, and where they stand."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection

DATABASE = UUID(int=0)
KINDS = ["advance"]
HOUR = timedelta(hours=1)


async def make_client(
    database: Connection, organization_id: UUID, **columns: Any
) -> UUID:
    """Somebody whom the organization meets."""
    columns = {"id": uuid4(), "organization_id": organization_id, **columns}
    await insert(database, "public.clients", columns)
    made: UUID = columns["id"]
    return made


async def make_meeting(
    database: Connection,
    organization_id: UUID,
    starts_at: datetime,
    **columns: Any,
) -> UUID:
    """An hour with somebody, confirmed unless said otherwise."""
    columns = {
        "id": uuid4(),
        "organization_id": organization_id,
        "starts_at": starts_at,
        "ends_at": starts_at + HOUR,
        "status": "confirmed",
        **columns,
    }
    await insert(database, "public.meetings", columns)
    made: UUID = columns["id"]
    return made


async def insert(database: Connection, table: str, columns: dict[str, Any]) -> None:
    places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    await database.execute(
        f"insert into {table} ({', '.join(columns)}) values ({places})",
        *columns.values(),
    )


async def change(database: Connection, meeting_id: UUID, **columns: Any) -> None:
    """Change a meeting as a user does."""
    names = ", ".join(
        f"{name} = ${place}" for place, name in enumerate(columns, start=2)
    )
    await database.execute(
        f"update public.meetings set {names} where id = $1",
        meeting_id,
        *columns.values(),
    )


async def place_of(database: Connection, client_id: UUID) -> asyncpg.Record:
    """Where a client stands."""
    row = await database.fetchrow(
        "select * from public.pipeline where client_id = $1", client_id
    )
    assert row is not None
    return row


async def stage_of(database: Connection, client_id: UUID) -> str:
    stage: str = (await place_of(database, client_id))["stage"]
    return stage


async def advance_task(database: Connection) -> asyncpg.Record | None:
    """The task that waits for time to pass."""
    return await database.fetchrow(
        "select * from sync.tasks where kind = 'advance' and subject_id = $1", DATABASE
    )


async def advance(worker: Connection, *, limit: int = 5000) -> asyncpg.Record | None:
    """Do what is due, as a worker does: claim, run, finish. None: nothing was due."""
    claimed = await worker.fetchrow(
        "select * from sync.claim_tasks($1, 1, '1 minute') where task_id is not null",
        KINDS,
    )
    if claimed is None:
        return None
    done = await worker.fetchrow(
        "select * from sync.advance($1, $2, $3)",
        claimed["task_id"],
        claimed["lease"],
        limit,
    )
    assert done is not None
    await worker.execute(
        "select sync.finish_task($1, $2, $3)",
        claimed["task_id"],
        claimed["lease"],
        done["next_at"],
    )
    return done


async def pass_time(
    database: Connection, worker: Connection, clock: DatabaseClock, to: datetime
) -> None:
    """Let time pass, with a worker that does what falls due when it does."""
    while True:
        task = await advance_task(database)
        if task is None or task["run_at"] > to:
            break
        await clock.set(max(task["run_at"], clock.now))
        assert await advance(worker)
    await clock.set(to)


# What last and next meeting are, asked of the meetings alone.
TRUTH = """
select
  client.id as client_id,
  (
    select max(starts_at) from public.meetings
    where client_id = client.id and merged_into is null and deleted_at is null
      and (
        status = 'completed'
        or (status in ('scheduled', 'confirmed') and starts_at <= sync.clock())
      )
  ) as last_meeting_at,
  (
    select min(starts_at) from public.meetings
    where client_id = client.id and merged_into is null and deleted_at is null
      and status in ('scheduled', 'confirmed', 'tentative')
      and starts_at > sync.clock()
  ) as next_meeting_at
from public.clients as client
order by client.id
"""
SHOWN = """
select client_id, last_meeting_at, next_meeting_at from public.pipeline
order by client_id
"""


async def assert_true(database: Connection) -> None:
    """The pipeline says what the meetings say, and none that is over still stands."""
    assert await database.fetch(SHOWN) == await database.fetch(TRUTH)


async def over_but_standing(database: Connection) -> int:
    count: int = await database.fetchval(
        """
        select count(*) from public.meetings
        where status in ('scheduled', 'confirmed') and ends_at <= sync.clock()
          and merged_into is null and deleted_at is null
        """
    )
    return count
