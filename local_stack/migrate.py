"""Apply a folder of migrations to any Supabase database, as its CLI would.

Files are named `<version>_<name>.sql` and run in the order of their versions, each in a
transaction of its own, as the role `postgres`; what ran is kept in the CLI's own table,
so that either can go on where the other stopped.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

from local_stack.statements import Statement, split

FILE_NAME = re.compile(r"(?P<version>\d+)_(?P<name>.*)\.sql")
TRANSACTION_CONTROL = re.compile(
    r"(begin|commit|end|abort|rollback|start|savepoint|release|prepare\s+transaction)\b",
    re.IGNORECASE,
)
STATEMENTS = Path(__file__).parent / "migrate_sql"


class MigrationError(Exception):
    """A migration could not be applied; nothing of it is in the database."""


@dataclass(frozen=True)
class Migration:
    """One file."""

    path: Path
    version: str
    name: str


def migrate(url: str, directory: Path) -> list[str]:
    """Apply what the database at `url` has not seen; return the names of those files.

    Raises:
        MigrationError: with the file, the line and what Postgres said. The files
            before it stay applied; of the file itself nothing does.
    """
    with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as connection:
        connection.execute(_sql("become_postgres"))
        connection.execute(_sql("prepare_history"))
        migrations = find(directory)
        _check_history(_seen(connection), migrations)
        return [
            migration.path.name
            for migration in migrations
            if _apply(connection, migration)
        ]


def pending(url: str, directory: Path) -> list[str]:
    """Return the names of the files that `migrate` would apply; nothing is changed."""
    with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as connection:
        try:
            seen = _seen(connection)
        except psycopg.errors.UndefinedTable:
            seen = set()
    return [one.path.name for one in find(directory) if one.version not in seen]


def find(directory: Path) -> list[Migration]:
    """Return a folder's migrations in order; files named otherwise are none."""
    matches = (
        (path, FILE_NAME.fullmatch(path.name))
        for path in sorted(directory.glob("*.sql"))
    )
    found = [Migration(path, m["version"], m["name"]) for path, m in matches if m]
    for one, next_one in itertools.pairwise(found):
        if one.version == next_one.version:
            raise MigrationError(
                f"{one.path.name} and {next_one.path.name} have the same version: "
                "give one of them another."
            )
    return found


def _apply(connection: psycopg.Connection, migration: Migration) -> bool:
    """Apply one file, unless somebody else has meanwhile; return whether."""
    script = migration.path.read_text(encoding="utf-8")
    statements = list(split(script))
    _check_statements(migration, statements)
    with connection.transaction():
        # The transaction's end frees it, through a pooler too.
        connection.execute(_sql("take_turn"))
        if migration.version in _seen(connection):
            return False
        for statement in statements:
            _run(connection, migration, statement)
        connection.execute(_sql("reset_session"))
        connection.execute(
            _sql("remember"),
            {
                "version": migration.version,
                "name": migration.name,
                "statements": [statement.text for statement in statements],
            },
        )
    return True


def _run(
    connection: psycopg.Connection, migration: Migration, statement: Statement
) -> None:
    try:
        connection.execute(statement.text.encode())
    except psycopg.Error as error:
        raise _explained(error, migration, statement) from error


def _explained(
    error: psycopg.Error, migration: Migration, statement: Statement
) -> MigrationError:
    said = error.diag
    position = said.statement_position
    line = statement.line_at(int(position) if position else None)
    message = f"{migration.path.name}, line {line}: {said.message_primary or error}"
    for part in (said.message_detail, said.message_hint, said.context):
        message += f"\n  {part}" if part else ""
    return MigrationError(message)


def _check_statements(migration: Migration, statements: list[Statement]) -> None:
    for statement in statements:
        if TRANSACTION_CONTROL.match(statement.code):
            raise MigrationError(
                f"{migration.path.name}, line {statement.line_at(None)}: a migration "
                "is one transaction: take out begin, commit, savepoints."
            )


def _check_history(seen: set[str], migrations: list[Migration]) -> None:
    known = {migration.version for migration in migrations}
    if strange := sorted(seen - known):
        raise MigrationError(
            "The database has seen migrations that are not here: "
            f"{', '.join(strange)}. Is it the right database, and this the newest?"
        )
    new = [m for m in migrations if m.version not in seen]
    if seen and new and new[0].version < max(seen):
        raise MigrationError(
            f"{new[0].path.name} is older than {max(seen)}, which the database has "
            "already seen: give it a later version."
        )


def _seen(connection: psycopg.Connection) -> set[str]:
    return {version for (version,) in connection.execute(_sql("versions"))}


def _sql(name: str) -> bytes:
    return (STATEMENTS / f"{name}.sql").read_bytes()
