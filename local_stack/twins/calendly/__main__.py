"""Run the Calendly twin alone: `python -m local_stack.twins.calendly --port 4030`."""

import sys

from local_stack.twins.alone import parser, run
from local_stack.twins.calendly.twin import CalendlyTwin


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the first line says where, as JSON."""
    options = parser("local_stack.twins.calendly", person="host").parse_args(arguments)
    twin = CalendlyTwin()
    for email in options.host:
        twin.host(email).event_type("30 minutes")
    return run(twin, options.port, hosts=sorted(options.host))


if __name__ == "__main__":
    sys.exit(main())
