"""`supacal migrate`: bring a database to the newest migration."""

import argparse
import sys

from local_stack.migrate import migrate
from local_stack.supabase import MIGRATIONS
from runtime.settings import DatabaseSettings, read


def run(_: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    settings = read(DatabaseSettings)
    applied = migrate(settings.database_url.get_secret_value(), MIGRATIONS)
    for name in applied:
        sys.stdout.write(f"applied {name}\n")
    if not applied:
        sys.stdout.write("The database is up to date.\n")
    return 0
