"""Cutting a connection, so that the client never learns what became of its call."""

import httpx2
from starlette.types import Receive, Send


class ConnectionCut(httpx2.RemoteProtocolError):
    """The server went away. In process it reaches the client as the network's error."""


async def cut_connection(receive: Receive, send: Send) -> None:
    """Close the socket below an ASGI call without sending a byte of an answer."""
    # uvicorn hands over a bound method of the object that owns the socket; in process
    # there is no socket, and the exception travels to the client instead.
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionCut("the twin cut the connection, as its switchboard asked")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
