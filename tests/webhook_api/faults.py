"""What can happen to the receiver's connection."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from tests.support.sessions import Connection
from webhook_api.store import APPLICATION_NAME

Connect: TypeAlias = Callable[..., Awaitable[Connection]]

KILL = f"""
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = '{APPLICATION_NAME}' and datname = current_database()
"""
STUCK = f"""
select count(*) from pg_stat_activity
where application_name = '{APPLICATION_NAME}' and datname = current_database()
  and wait_event_type = 'Lock'
"""


@asynccontextmanager
async def stuck(connect: Connect) -> AsyncIterator[None]:
    """Nobody can store while this lasts: somebody else holds the table."""
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    await other.execute("lock table sync.webhook_deliveries in access exclusive mode")
    try:
        yield
    finally:
        await transaction.rollback()
