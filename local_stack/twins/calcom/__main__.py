"""Run the Cal.com twin alone: `python -m local_stack.twins.calcom --port 4040`."""

import sys

from local_stack.twins.alone import parser, run
from local_stack.twins.calcom.twin import CalcomTwin


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line says where, as JSON."""
    options = parser("local_stack.twins.calcom", person="host").parse_args(arguments)
    twin = CalcomTwin()
    for email in options.host:
        twin.host(email).event_type("30 min")
    return run(twin, options.port, hosts=sorted(options.host))


if __name__ == "__main__":
    sys.exit(main())
