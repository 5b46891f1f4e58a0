"""One process that serves the receiver, and leaves it politely."""

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
import uvloop

from runtime import logging
from runtime.settings import ReceiverSettings, SettingsError
from webhook_api.app import Receiver, create_app
from webhook_api.connections import Connection

log = structlog.get_logger()

BACKLOG = 2048
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(uvicorn.Server):
    """uvicorn's server; signals are the business of who starts it.

    Stop it by setting ``should_exit``: it stops accepting, answers what is under way,
    stores what was taken in, and returns.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: Receiver) -> Server:
    """Make a server to be run as ``await server.serve([listen(host, port)])``."""
    config = uvicorn.Config(
        app,
        http=type("Connection", (Connection,), {"limits": app.limits}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(app.limits.drain_s),
    )
    return Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Take the port.

    Raises:
        SettingsError: it cannot be had; the message says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)  # who calls from now on waits a moment, at most
    except OSError as error:
        listener.close()
        raise SettingsError([_cannot_listen(host, port, error)]) from None
    return listener


def serve(settings: ReceiverSettings) -> None:
    """Receive until SIGTERM or SIGINT; a second SIGINT does not wait for anybody.

    Raises:
        SettingsError: the port cannot be had.
    """
    logging.configure(settings.supacal_log_format)
    listener = listen(settings.supacal_host, settings.supacal_port)
    app = create_app(settings)
    # What was made until now stays: looking through it again and again is a tenth of
    # the work of a delivery.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(app, listener))


async def _serve(app: Receiver, listener: socket.socket) -> None:
    server = make_server(app)
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, server.handle_exit, number, None)
    host, port = listener.getsockname()[:2]
    log.info("receiver.listening", host=host, port=port)
    await server.serve([listener])
    log.info("receiver.stopped")


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"SUPACAL_PORT {port} is taken: stop what listens there, or choose another "
            "(0 takes any free one)"
        )
    if error.errno == errno.EACCES:
        return f"SUPACAL_PORT {port} needs more rights: choose one above 1023"
    return f"SUPACAL_HOST {host} is no address of this machine: 127.0.0.1 always is"
