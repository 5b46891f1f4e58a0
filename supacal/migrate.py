"""`supacal migrate`: bring a database to the newest migration."""

import argparse
import sys

from local_stack.migrate import migrate
from local_stack.stack import MIGRATIONS
from runtime.settings import DatabaseSettings, read
from supacal.commands import Commands


def add_commands(commands: Commands) -> None:
    """Add this command."""
    command = commands.add_parser(
        "migrate",
        help="apply the migrations to DATABASE_URL",
        description="Apply the migrations that the database at DATABASE_URL has not "
        "seen, each in a transaction of its own; what ran is noted as the Supabase CLI "
        "notes it, so `supabase migration up` may go on from there.",
    )
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    settings = read(DatabaseSettings)
    applied = migrate(settings.database_url.get_secret_value(), MIGRATIONS)
    for name in applied:
        sys.stdout.write(f"applied {name}\n")
    if not applied:
        sys.stdout.write("The database is up to date.\n")
    return 0
