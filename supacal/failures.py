"""Failures that have a sentence for whoever typed the command, and no traceback."""

import asyncpg
import psycopg

from local_stack.errors import StackError
from local_stack.migrate import MigrationError

UNREACHABLE = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    psycopg.OperationalError,
)


def explain(error: Exception) -> str | None:
    """Return what to say; None where only a traceback helps."""
    if isinstance(error, StackError | MigrationError):
        return str(error)
    if isinstance(error, UNREACHABLE):
        return f"The database at DATABASE_URL can't be used: {_first_line(error)}"
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError):
        return (
            f"The database at DATABASE_URL is not Supacal's yet: {_first_line(error)}; "
            "run `supacal migrate` first."
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return f"The database at DATABASE_URL does not answer: {_first_line(error)}"
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
