"""The database of a hosted Supabase project, as far as people's SQL relies on it."""

from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local_stack.errors import StackError

__all__ = ["PASSWORD", "SUPERUSER", "Grants", "keep_message_partitions", "lay_surface"]

FILES = Path(__file__).parent
SUPERUSER = "supabase_admin"
PASSWORD = "postgres"  # noqa: S105  # what every local Supabase uses
VERSION = "1"  # raise it with every change to the files

# "strict": what `postgres` creates in public is closed to the API's roles until it is
# granted, as in every project since 30 October 2026. "legacy": open, as before.
Grants = Literal["strict", "legacy"]


def lay_surface(
    admin_url: str,
    database: str,
    *,
    password: str | None = PASSWORD,
    grants: Grants = "strict",
) -> None:
    """Give a database, made if need be, what a hosted project's has.

    A second call changes nothing. `admin_url` is a superuser's.

    Raises:
        StackError: the database has a surface of another version.
    """
    with psycopg.connect(admin_url, autocommit=True) as server:
        _make_database(server, database)
    with psycopg.connect(_address(admin_url, database, password, grants)) as connection:
        found = _found(connection)
        if found is None:
            for file in sorted(FILES.glob("[0-9]*.sql")):
                connection.execute(file.read_bytes())
        elif found != VERSION:
            raise StackError(
                f"The database {database!r} has a Supabase surface of version {found}, "
                f"and this one is {VERSION}: start afresh with --reset."
            )
        adopt(connection)
        keep_message_partitions(connection)


def adopt(connection: psycopg.Connection) -> None:
    """Hand a database to `postgres`: what a copy of a template does not inherit."""
    connection.execute((FILES / "adopt.sql").read_bytes())


def keep_message_partitions(connection: psycopg.Connection) -> None:
    """Make realtime.messages' partitions from yesterday to three days ahead.

    Call it every hour: without today's partition every broadcast is lost.
    """
    connection.execute((FILES / "keep_message_partitions.sql").read_bytes())


def _make_database(server: psycopg.Connection, database: str) -> None:
    known = server.execute(
        (FILES / "database_exists.sql").read_bytes(), {"database": database}
    ).fetchone()
    if known is None:
        server.execute(sql.SQL("create database {}").format(sql.Identifier(database)))


def _address(
    admin_url: str, database: str, password: str | None, grants: Grants
) -> str:
    settings = {
        "supacal.grants": grants,
        "supacal.password": password or "",
        "supacal.surface_version": VERSION,
        "search_path": "",
        "client_min_messages": "warning",
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return make_conninfo(admin_url, dbname=database, options=options)


def _found(connection: psycopg.Connection) -> str | None:
    row = connection.execute((FILES / "surface_version.sql").read_bytes()).fetchone()
    return row[0] if row else None
