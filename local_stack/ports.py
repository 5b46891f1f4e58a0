"""Ports of the loopback interface."""

import socket

LOOPBACK = "127.0.0.1"
BACKLOG = 512


def listen(wanted: int = 0) -> socket.socket:
    """Take `wanted` if nobody else listens there, else any free port."""
    for port in (wanted, 0):
        try:
            listener = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
        except OSError:
            continue
        listener.setblocking(False)
        return listener
    raise OSError(f"no free port on {LOOPBACK}")


def url_of(listener: socket.socket) -> str:
    """Return the address of a listening socket."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def free_port(wanted: int = 0) -> int:
    """Return `wanted` if nobody listens there, else a free port."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do, else a port closed a moment ago looks taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            return number
    raise OSError(f"no free port on {LOOPBACK}")
