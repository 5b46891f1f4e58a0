"""`supacal api` and `supacal worker`: the two programs of production."""

import argparse

import uvloop

import worker.app
from runtime import logging
from runtime.settings import ReceiverSettings, WorkerSettings, read
from supacal.commands import Commands
from webhook_api import server


def add_commands(commands: Commands) -> None:
    """Add this command."""
    api = commands.add_parser(
        "api",
        help="receive webhooks",
        description="Receive the providers' webhooks and store them in the queue; "
        "answers are sent after commit. Stops at SIGTERM, with all answered.",
    )
    api.set_defaults(run=run_api)
    worker_command = commands.add_parser(
        "worker",
        help="work on what is due",
        description="Wait for due tasks and work on them: pull calendars, keep their "
        "channels. Any number may run. Stops at SIGTERM within 10 s.",
    )
    worker_command.set_defaults(run=run_worker)


def run_api(_: argparse.Namespace) -> int:
    """Receive webhooks until told to stop."""
    server.serve(read(ReceiverSettings))
    return 0


def run_worker(_: argparse.Namespace) -> int:
    """Work until told to stop."""
    settings = read(WorkerSettings)
    logging.configure(settings.supacal_log_format)
    uvloop.run(worker.app.serve(settings))
    return 0
