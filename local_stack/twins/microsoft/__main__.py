"""Run the Microsoft twin alone: `python -m local_stack.twins.microsoft --port 4020`."""

import argparse
import sys

from local_stack.twins.alone import parser, run
from local_stack.twins.microsoft.behaviour import Behaviour, published_limits
from local_stack.twins.microsoft.twin import MicrosoftTwin


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line says where, as JSON."""
    options = _parser().parse_args(arguments)
    behaviour = published_limits() if options.limits else Behaviour()
    twin = MicrosoftTwin(behaviour=behaviour)
    for email in options.account:
        twin.account(email, time_zone=options.time_zone)
    return run(twin, options.port, accounts=sorted(twin.store.accounts))


def _parser() -> argparse.ArgumentParser:
    made = parser("local_stack.twins.microsoft", person="account")
    made.add_argument("--time-zone", default="Europe/Berlin")
    made.add_argument(
        "--limits", action="store_true", help="enforce the published limits"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
