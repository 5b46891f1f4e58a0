"""`supacal keys`: a fresh key for SUPACAL_SECRET_KEYS."""

import argparse
import sys

from runtime.sealing import Keyring
from supacal.commands import Commands


def add_commands(commands: Commands) -> None:
    """Add this command."""
    command = commands.add_parser(
        "keys",
        help="print a fresh key for SUPACAL_SECRET_KEYS",
        description="Print a fresh key. Put it in front of those in "
        "SUPACAL_SECRET_KEYS, with a comma between; keep the old ones until nothing "
        "names them any more.",
    )
    command.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    sys.stdout.write(f"{Keyring.generate()}\n")
    return 0
