"""`supacal`: run the parts of the system, or all of it on this machine."""

import argparse
import sys
from collections.abc import Sequence

from local_stack.errors import StackError
from local_stack.migrate import MigrationError
from runtime.settings import SettingsError
from supacal import dev, keys, migrate, programs, tail

BAD_SETTINGS = 2
INTERRUPTED = 130


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `run` of the answer is what to call with it."""
    parser = argparse.ArgumentParser(
        prog="supacal",
        description="Calendar sync for Supabase: calendars and tables, both kept the "
        "same. Settings come from the environment or .env (docs/settings.md).",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (dev, programs, migrate, tail, keys):
        module.add_commands(commands)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Exit codes: 0 well done; 1 it did not work, the message says what to do; 2 wrong
    settings or arguments; 130 interrupted.
    """
    given = read_arguments(arguments)
    try:
        code: int = given.run(given)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n\ndocs/settings.md explains each setting.\n")
        return BAD_SETTINGS
    except (StackError, MigrationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
