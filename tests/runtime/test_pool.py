import asyncpg
import pytest

from runtime.pool import connect, open_pool
from tests.support.sessions import Sessions


async def test_every_connection_of_a_pool_has_taken_the_role(
    sessions: Sessions,
) -> None:
    pool = await open_pool(
        sessions.url,
        role="sync_worker",
        min_size=2,
        max_size=2,
        application_name="supacal test",
    )
    async with pool, pool.acquire() as one, pool.acquire() as two:
        for connection in (one, two):
            assert await connection.fetchval("select current_user") == "sync_worker"
            name = await connection.fetchval("show application_name")
            assert name == "supacal test"


async def test_a_connection_that_comes_back_still_has_the_role_and_no_transaction(
    sessions: Sessions,
) -> None:
    pool = await open_pool(
        sessions.url,
        role="webhook_ingest",
        min_size=1,
        max_size=1,
        application_name="supacal test",
    )
    async with pool:
        connection = await pool.acquire()
        await connection.execute("begin")
        await pool.release(connection)
        async with pool.acquire() as again:
            assert not again.is_in_transaction()
            assert await again.fetchval("select current_user") == "webhook_ingest"


async def test_jsonb_is_text_in_both_directions(sessions: Sessions) -> None:
    connection = await connect(sessions.url, role=None, application_name="supacal")
    text = '{"a": [1, null]}'
    assert await connection.fetchval("select $1::jsonb", text) == text
    await connection.close()


async def test_a_single_connection_takes_the_role_too(sessions: Sessions) -> None:
    connection = await connect(
        sessions.url, role="sync_worker", application_name="supacal listener"
    )
    assert await connection.fetchval("select current_user") == "sync_worker"
    await connection.close()


async def test_a_role_that_is_not_there_opens_nothing(sessions: Sessions) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await connect(sessions.url, role="nobody_here", application_name="supacal")


async def test_a_role_is_a_plain_name() -> None:
    with pytest.raises(ValueError, match="no name of a role"):
        await connect("postgresql://x", role='a"; drop', application_name="supacal")
