"""One TCP connection: a WebSocket or a few HTTP requests, on the same port.

The `websockets` server answers GET only, and Realtime's HTTP broadcast is a POST to the
port of its sockets. So a connection is read here: `websockets` (its I/O-free part)
speaks WebSocket, `httptools` parses the rest. Frames are written straight to the
transport: no task and no queue lie between a broadcast and the kernel, and the
transport's buffer is the only place where a slow client's frames can pile up, so
that is what is bounded.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol, cast

import httptools
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from local_stack.gateway.http_messages import HttpAnswer, HttpRequest
from local_stack.gateway.pace import PATIENCE_S, Pace

HEAD_BYTES: Final = 64 * 1024
REQUEST_LIMIT_S: Final = 60.0  # for a request to be complete, or for the next to come
BODY_BYTES: Final = 8 * 1024 * 1024
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[ \t]*websocket", re.IGNORECASE)
_END_OF_HEAD: Final = b"\r\n\r\n"

# `websockets` writes request lines, and with them API keys, to its debug log.
_quiet = logging.getLogger("local_stack.gateway.websockets")
_quiet.setLevel(logging.WARNING)


class Listener(Protocol):
    """What a WebSocket's messages go to."""

    def received(self, data: bytes, *, binary: bool) -> None: ...
    def lost(self) -> None: ...


class Application(Protocol):
    """The gateway, as its connections see it."""

    def connected(self, connection: "Connection") -> None: ...
    def disconnected(self, connection: "Connection") -> None: ...

    def open_socket(
        self, connection: "Connection", request: HttpRequest
    ) -> Listener | HttpAnswer: ...
    async def answer(self, request: HttpRequest) -> HttpAnswer: ...


class Connection(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(
        self,
        application: Application,
        pace: Pace,
        *,
        frame_bytes: int,
        send_buffer_bytes: int,
    ):
        self._pace = pace
        self._application = application
        self._frame_bytes = frame_bytes
        self._send_buffer_bytes = send_buffer_bytes
        self._head = b""
        self._read: Callable[[bytes], None] = self._read_head
        self._websocket: ServerProtocol | None = None
        self._listener: Listener | None = None
        self._fragments: list[bytes] = []
        self._fragments_binary = False
        self._request = HttpRequest()
        self._answering: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport
        self.dropped_as_slow = False
        self.patience_s = PATIENCE_S

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by class.
        self.transport = cast(asyncio.Transport, transport)
        self._application.connected(self)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._application.disconnected(self)
        self._drop_deadline()
        if self._listener is not None:
            self._listener.lost()
            self._listener = None
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._read(data)

    def _set_deadline(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(
            REQUEST_LIMIT_S, self.transport.abort
        )

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- the first bytes decide

    def _read_head(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(_END_OF_HEAD)
        if end < 0:
            if len(self._head) > HEAD_BYTES:
                self.transport.abort()
            return
        head, self._head = self._head, b""
        if _UPGRADE.search(head, 0, end + 2):
            self._websocket = ServerProtocol(max_size=self._frame_bytes, logger=_quiet)
            self._read = self._read_websocket
        else:
            self._start_http()
        self._read(head)

    # -- WebSocket

    def send(self, frame: bytes) -> None:
        """Write a finished frame; a client that does not keep up is cut off."""
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(frame)
        self._pace.count(len(frame))
        waiting = transport.get_write_buffer_size()
        if waiting == 0:
            self.patience_s = PATIENCE_S
        elif waiting > self._send_buffer_bytes:
            self.dropped_as_slow = True
            transport.abort()
        elif waiting > self._send_buffer_bytes // 2:
            self._pace.fell_behind(self)

    @property
    def may_catch_up(self) -> bool:
        """Whether this client is behind, and still worth waiting for."""
        waiting = self.transport.get_write_buffer_size()
        behind = waiting > self._send_buffer_bytes // 2
        return behind and self.patience_s > 0 and not self.transport.is_closing()

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye, as far as the client still listens, and close."""
        if self._websocket is not None and self._websocket.state is State.OPEN:
            self._websocket.send_close(code, reason)
            self._flush(self._websocket)
        self.transport.close()

    def _flush(self, websocket: ServerProtocol) -> None:
        for data in websocket.data_to_send():
            if data:
                self.transport.write(data)
            else:  # the protocol's sign for "close the connection"
                self.transport.close()

    def _read_websocket(self, data: bytes) -> None:
        websocket = self._websocket
        assert websocket is not None  # noqa: S101 - for the types
        websocket.receive_data(data)
        for event in websocket.events_received():
            if isinstance(event, Request):
                self._handshake(websocket, event)
            elif isinstance(event, Frame):
                self._read_frame(event)
        self._flush(websocket)
        if websocket.state in {State.CLOSING, State.CLOSED}:
            self.transport.close()

    def _handshake(self, websocket: ServerProtocol, request: Request) -> None:
        response = websocket.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            opened = self._application.open_socket(self, _http_request(request))
            if isinstance(opened, HttpAnswer):
                response = _refusal(opened)
            else:
                self._listener = opened
                self._drop_deadline()
        websocket.send_response(response)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._flush(websocket)
            self.transport.close()

    def _read_frame(self, frame: Frame) -> None:
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY}:
            self._fragments_binary = frame.opcode is Opcode.BINARY
            self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._fragments.append(bytes(frame.data))
        else:
            return  # ping, pong and close are the protocol's own business
        if frame.fin and self._listener is not None:
            message, self._fragments = b"".join(self._fragments), []
            self._listener.received(message, binary=self._fragments_binary)

    # -- HTTP

    def _start_http(self) -> None:
        parser = httptools.HttpRequestParser(self)
        self._request = HttpRequest()
        self._parser = parser
        self._read = self._read_http

    def _read_http(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._write_answer(HttpAnswer(400, "Bad Request"), keep_alive=False)

    def on_url(self, url: bytes) -> None:
        self._request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._request.body += body
        if len(self._request.body) > BODY_BYTES:
            self._write_answer(
                HttpAnswer(413, "Request Entity Too Large"), keep_alive=False
            )

    def on_message_complete(self) -> None:
        request, self._request = self._request, HttpRequest()
        request.method = self._parser.get_method().decode()
        if self.transport.is_closing():
            return
        # one request at a time: the next is read when this one is answered
        self.transport.pause_reading()
        self._drop_deadline()
        keep_alive = self._parser.should_keep_alive()
        self._answering = asyncio.get_running_loop().create_task(
            self._answer(request, keep_alive=keep_alive)
        )

    async def _answer(self, request: HttpRequest, *, keep_alive: bool) -> None:
        answer = await self._application.answer(request)
        self._write_answer(answer, keep_alive=keep_alive)
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self._set_deadline()

    def _write_answer(self, answer: HttpAnswer, *, keep_alive: bool) -> None:
        if self.transport.is_closing():
            return
        body, content_type = answer.encoded()
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"content-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n"
            f"connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n"
        )
        self.transport.write(head.encode("latin-1") + body)
        if not keep_alive:
            self.transport.close()


def _http_request(request: Request) -> HttpRequest:
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    return HttpRequest("GET", request.path, headers)


def _refusal(answer: HttpAnswer) -> Response:
    body, content_type = answer.encoded()
    status = HTTPStatus(answer.status)
    headers = Headers(
        [
            ("Connection", "close"),
            ("Content-Length", str(len(body))),
            ("Content-Type", content_type),
        ]
    )
    return Response(status.value, status.phrase, headers, body)
