"""Postgres crashes: what was answered stands, what was claimed is claimed again."""

import os
import signal
from collections.abc import Iterator
from uuid import UUID

import asyncpg
import psycopg
import pytest

from local_stack.postgres import Postgres
from tests.support.cluster import apply_migrations, scratch_directory
from tests.support.eventually import eventually


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server that keeps what it has committed, and writes the rest late."""
    with scratch_directory() as directory:
        postgres = Postgres(directory / "crashing", port=0, password=None)
        with postgres:
            postgres.install_surface()
            apply_migrations(host="127.0.0.1", port=postgres.port, dbname="postgres")
            with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
                admin.execute("alter system set wal_writer_delay = '10s'")
                admin.execute("select pg_reload_conf()")
            yield postgres


async def connect(server: Postgres) -> asyncpg.Connection:
    return await asyncpg.connect(server.url)


async def crash(server: Postgres) -> None:
    """End all of its processes in the midst of what they do, and start it again."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGQUIT)
    await eventually(lambda: server.pid is None)
    server.stop()
    server.start()


async def ask_for_a_pull(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "select sync.request_task('pull', gen_random_uuid(), null, 1::smallint, now())"
    )


async def claim(connection: asyncpg.Connection) -> asyncpg.Record:
    rows = await connection.fetch(
        "select * from sync.settle_and_claim("
        " '{}', '{}', '{}', null, array['pull'], 1, interval '1 second')"
    )
    return rows[0]


async def hold(connection: asyncpg.Connection, task: asyncpg.Record) -> None:
    await connection.execute(
        "select sync.hold_task($1, $2)", task["task_id"], task["lease"]
    )


async def test_a_claim_that_a_crash_forgets_is_made_again_and_the_first_is_refused(
    server: Postgres,
) -> None:
    before = await connect(server)
    await ask_for_a_pull(before)
    forgotten = await claim(before)
    assert forgotten["task_id"] is not None
    before.terminate()

    await crash(server)

    after = await connect(server)
    again: asyncpg.Record | None = None

    async def is_claimed() -> bool:
        nonlocal again
        again = await claim(after)
        return again["task_id"] is not None

    await eventually(is_claimed)
    assert again is not None
    assert again["task_id"] == forgotten["task_id"]
    await hold(after, again)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await hold(after, forgotten)
    assert refused.value.sqlstate == "CS001"
    await after.close()


async def test_what_was_built_upon_a_claim_keeps_the_claim(server: Postgres) -> None:
    before = await connect(server)
    await ask_for_a_pull(before)
    task = await claim(before)
    calendar = UUID(int=1)
    # As a handler does before it writes to a provider: fenced, and waited for.
    async with before.transaction():
        await hold(before, task)
        await before.execute("insert into sync.seen_events values ($1, 'x')", calendar)
        await before.execute(
            "insert into public.sync_alerts (kind, subject_id, message, remedy)"
            " values ('test', $1, 'built upon it', '')",
            calendar,
        )
    before.terminate()

    await crash(server)

    after = await connect(server)
    lease = await after.fetchval("select lease from sync.tasks where kind = 'pull'")
    built = await after.fetchval("select message from public.sync_alerts")
    assert (lease, built) == (task["lease"], "built upon it")
    await after.close()
