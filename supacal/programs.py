"""`supacal api` and `supacal worker`: the two programs of production."""

import argparse

import uvloop

import worker.app
from runtime import logging
from runtime.settings import ReceiverSettings, WorkerSettings, read
from webhook_api import server


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
