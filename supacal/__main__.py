"""`supacal`: run the parts of the system, or all of it on this machine."""

import sys
from collections.abc import Sequence
from importlib import import_module

from runtime.settings import SettingsError
from supacal.commands import make_parser
from supacal.exit_codes import BAD_SETTINGS, INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Exit codes: 0 well done; 1 it did not work, the message says what to do; 2 wrong
    settings or arguments; 130 interrupted.
    """
    given = make_parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n\ndocs/settings.md explains each setting.\n")
        return BAD_SETTINGS
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        # Loaded late: the receiver and the worker start without what it knows.
        sentence = import_module("supacal.failures").explain(error)
        if sentence is None:
            raise
        sys.stderr.write(f"{sentence}\n")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
