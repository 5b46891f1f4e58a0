"""Promises of the SQL that the dispatcher leans on, where workers and requests meet."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg

from tests.support.builders import make_connection, make_organization
from tests.support.sessions import Connection
from tests.worker.support import make_due, request

Connect = Callable[..., Awaitable[Connection]]


async def claim(
    database: Connection, limit: int, *, busy: list[UUID] | None = None
) -> list[asyncpg.Record]:
    return await database.fetch(
        "select * from sync.settle_and_claim('{}', '{}', '{}', null, '{pull}', $1, "
        "'1 minute', p_per_connection => 3, p_busy => $2)",
        limit,
        busy or [],
    )


async def finish(
    database: Connection, tasks: list[asyncpg.Record], *, limit: int = 0
) -> list[asyncpg.Record]:
    now = await database.fetchval("select sync.clock()")
    return await database.fetch(
        "select * from sync.settle_and_claim($1, $2, $3, null, '{pull}', $4, "
        "'1 minute')",
        [task["task_id"] for task in tasks],
        [task["lease"] for task in tasks],
        [now + timedelta(hours=1)] * len(tasks),
        limit,
    )


async def test_finishes_and_requests_of_the_same_tasks_do_not_deadlock(
    database: Connection, connect: Connect
) -> None:
    # Asked for one by one: so the order of ids is not that of the subjects.
    subjects = [uuid4() for _ in range(200)]
    for subject in subjects:
        await request(database, subject)
    asking, finishing = await connect(), await connect()

    async def ask() -> None:
        for _ in range(60):
            await request(asking, *random.sample(subjects, 150))

    async def work() -> None:
        for _ in range(60):
            *tasks, _last = await claim(finishing, 150)
            await finish(finishing, tasks)

    await asyncio.gather(ask(), work())


async def test_what_was_asked_for_during_a_run_is_not_due_before_the_run_ended(
    database: Connection,
) -> None:
    (subject,) = await make_due(database, 1)
    task, _ = await claim(database, 1)
    await request(database, subject)
    ended_at = await database.fetchval("select sync.clock()")
    await finish(database, [task])
    run_at = await database.fetchval(
        "select run_at from sync.tasks where subject_id = $1", subject
    )
    # Below, it would hide from a worker whose floor has risen meanwhile.
    assert run_at >= ended_at


async def test_running_tasks_count_towards_the_share_of_their_connection(
    database: Connection,
) -> None:
    connection = await make_connection(database, await make_organization(database))
    await make_due(database, 5, connection_id=connection)
    *tasks, last = await claim(database, 10, busy=[connection, connection])
    assert len(tasks) == 1
    assert last["scanned"] == 5


async def test_the_last_row_tells_a_full_batch_from_rows_in_other_hands(
    database: Connection, connect: Connect
) -> None:
    await make_due(database, 3)
    *tasks, last = await claim(database, 2)
    assert (len(tasks), last["scanned"], last["wait_s"]) == (2, 2, 0)
    other = await connect()
    async with other.transaction():
        await other.execute("select from sync.tasks where lease is null for update")
        (last,) = await claim(database, 2)
        assert (last["scanned"], last["wait_s"]) == (0, 0)


async def test_where_nothing_is_ever_due_the_last_row_names_no_time(
    database: Connection,
) -> None:
    (last,) = await claim(database, 1)
    assert (last["due_at"], last["wait_s"]) == (None, None)
    await make_due(database, 1)
    await database.execute("update sync.tasks set run_at = 'infinity'")
    (last,) = await claim(database, 1)
    assert (last["due_at"], last["wait_s"]) == (None, None)


async def test_a_finish_without_its_lease_is_named_and_not_recorded(
    database: Connection,
) -> None:
    await make_due(database, 2)
    one, two, _ = await claim(database, 2)
    zombie = dict(one) | {"lease": uuid4()}
    (last,) = await finish(database, [zombie, two])  # type: ignore[list-item]
    assert last["lost"] == [one["task_id"]]
    still = await database.fetchval(
        "select lease from sync.tasks where id = $1", one["task_id"]
    )
    assert still == one["lease"]


async def test_what_ended_and_what_comes_next_are_one_transaction(
    database: Connection,
) -> None:
    (subject,) = await make_due(database, 1)
    task, _ = await claim(database, 1)
    await request(database, subject)
    again, last = await finish(database, [task], limit=1)
    assert again["subject_id"] == subject
    assert again["lease"] != task["lease"]
    assert last["lost"] == []
