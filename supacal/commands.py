"""What can be asked of `supacal`. Each command is loaded when it runs, not before.

The receiver and the worker have no use for a local stack in their memory.
"""

import argparse
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import TypeAlias
from uuid import UUID

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; `run` of what it reads is what to call with it."""
    parser = argparse.ArgumentParser(
        prog="supacal",
        description="Calendar sync for Supabase: what changes in calendars reaches "
        "your tables. Settings come from the environment or .env (docs/settings.md).",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in ADD:
        add(commands)
    return parser


def _add_dev(commands: Commands) -> None:
    command = commands.add_parser(
        "dev",
        help="run everything on this machine, without Docker and without accounts",
        description="Start Postgres, REST, Auth, Realtime, a double of each provider, "
        "the webhook receiver and the worker on this machine, and serve until Ctrl-C. "
        "Where DATABASE_URL and SUPABASE_… name a Supabase, that one is used instead "
        "of one of its own. State is kept in .supacal/ between runs.",
    )
    command.add_argument(
        "--tour",
        action="store_true",
        help="walk through one sync first, in the terminal",
    )
    command.add_argument(
        "--exit",
        action="store_true",
        help="end when started (and toured); exit code 1 if the tour missed something",
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="print where everything is as one line of JSON; all else goes to stderr",
    )
    command.add_argument(
        "--reset",
        action="store_true",
        help="forget what earlier runs left in .supacal/",
    )
    command.set_defaults(run=_later("supacal.dev", "run"))


def _add_programs(commands: Commands) -> None:
    api = commands.add_parser(
        "api",
        help="receive webhooks",
        description="Receive the providers' webhooks and store them in the queue; "
        "answers are sent after commit. Stops at SIGTERM, with all answered.",
    )
    api.set_defaults(run=_later("supacal.programs", "run_api"))
    worker = commands.add_parser(
        "worker",
        help="work on what is due",
        description="Wait for due tasks and work on them: pull calendars, keep their "
        "channels. Any number may run. Stops at SIGTERM within 10 s.",
    )
    worker.set_defaults(run=_later("supacal.programs", "run_worker"))


def _add_migrate(commands: Commands) -> None:
    command = commands.add_parser(
        "migrate",
        help="apply the migrations to DATABASE_URL",
        description="Apply the migrations that the database at DATABASE_URL has not "
        "seen, each in a transaction of its own; what ran is noted as the Supabase CLI "
        "notes it, so `supabase migration up` may go on from there.",
    )
    command.set_defaults(run=_later("supacal.migrate", "run"))


def _add_doctor(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor",
        help="say what is wrong, and what to do about it",
        description="Look at settings, database, keys, endpoints, alerts and coverage, "
        "and say of each whether it is well. Exit code 1 where something is not. With "
        "--send-test or --calendar it does that instead.",
    )
    one = command.add_mutually_exclusive_group()
    one.add_argument(
        "--send-test",
        choices=("google", "microsoft", "calendly", "calcom"),
        metavar="PROVIDER",
        help="post signed test deliveries to SUPACAL_PUBLIC_URL, as google, microsoft, "
        "calendly or calcom would; they mean nothing to the worker",
    )
    one.add_argument(
        "--calendar",
        type=UUID,
        metavar="ID",
        help="say of the events of a calendar (calendars.id) why they are no meetings",
    )
    command.add_argument(
        "--event",
        metavar="ID",
        help="with --calendar: of this event only (the provider's id of it)",
    )
    command.set_defaults(run=_later("supacal.doctor", "run"))


def _add_tail(commands: Commands) -> None:
    command = commands.add_parser(
        "tail",
        help="follow deliveries and runs",
        description="Print what is received and what the workers do, as it happens: "
        "one line each, with how long it waited and took. Ctrl-C ends it. Without "
        "DATABASE_URL it follows the local stack that runs here.",
    )
    command.add_argument(
        "--since",
        default="0 minutes",
        metavar="INTERVAL",
        help="begin so long ago, for example '10 minutes'",
    )
    command.set_defaults(run=_later("supacal.tail", "run"))


def _add_keys(commands: Commands) -> None:
    command = commands.add_parser(
        "keys",
        help="print a fresh key for SUPACAL_SECRET_KEYS",
        description="Print a fresh key. Put it in front of those in "
        "SUPACAL_SECRET_KEYS, with a comma between; keep the old ones until nothing "
        "names them any more.",
    )
    command.set_defaults(run=_later("supacal.keys", "run"))


def _add_replay(commands: Commands) -> None:
    command = commands.add_parser(
        "replay",
        help="have deliveries of bookings processed once more",
        description="Have stored deliveries of Calendly and Cal.com processed once "
        "more: those with the given ids, else those that failed or are dead and fit "
        "every filter. Nothing doubles: what was told already is told. Exit code 1 "
        "where none fits.",
    )
    command.add_argument(
        "ids", nargs="*", type=int, metavar="ID", help="webhook_logs.id"
    )
    for name, what in (("since", "at this time or later"), ("until", "before it")):
        command.add_argument(
            f"--{name}",
            type=_moment,
            metavar="TIME",
            help=f"received {what}, for example 2026-11-21T10:00+01:00",
        )
    command.add_argument("--provider", choices=("calendly", "calcom"))
    command.add_argument(
        "--connection", type=UUID, metavar="ID", help="calendar_connections.id"
    )
    command.add_argument(
        "--state",
        action="append",
        choices=("received", "done", "ignored", "failed", "dead"),
        help="in this state; may be given several times (failed and dead)",
    )
    command.set_defaults(run=_later("supacal.replay", "run"))


ADD = (
    _add_dev,
    _add_programs,
    _add_migrate,
    _add_doctor,
    _add_tail,
    _add_replay,
    _add_keys,
)


def _moment(text: str) -> datetime:
    """Read a time that says in which zone it is meant."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time with a zone; write it as 2026-11-21T10:00+01:00"
        )
    return read


def _later(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    def run(given: argparse.Namespace) -> int:
        code: int = getattr(import_module(module), name)(given)
        return code

    return run
