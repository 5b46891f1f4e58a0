"""Run the Google twin alone: `python -m local_stack.twins.google --port 4010`."""

import argparse
import sys

from local_stack.twins.alone import parser, run
from local_stack.twins.google.behaviour import Behaviour, published_quota
from local_stack.twins.google.twin import GoogleTwin


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line says where, as JSON."""
    options = _parser().parse_args(arguments)
    behaviour = published_quota() if options.quota else Behaviour()
    twin = GoogleTwin(behaviour=behaviour)
    for email in options.account:
        twin.account(email, time_zone=options.time_zone)
    return run(twin, options.port, accounts=sorted(twin.store.accounts))


def _parser() -> argparse.ArgumentParser:
    made = parser("local_stack.twins.google", person="account")
    made.add_argument("--time-zone", default="Europe/Berlin")
    made.add_argument(
        "--quota", action="store_true", help="enforce Google's published quotas"
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
