"""HTTP connections: uvicorn's, with a deadline for headers and errors in our words.

And with fewer system calls: an answer that is there whole leaves in one write. uvicorn
writes head and body apart, and two writes are a third of what a delivery costs.
"""

import asyncio

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from webhook_api import answers
from webhook_api.answers import WHOLE
from webhook_api.limits import Limits

BAD_REQUEST = b"".join(
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"content-type: application/json\r\n",
        b"content-length: %d\r\n" % len(answers.BAD_REQUEST.body),
        b"connection: close\r\n\r\n",
        answers.BAD_REQUEST.body,
    ]
)


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    _is_answered_whole = False

    async def send(self, message: Message) -> None:  # type: ignore[override]
        if self._is_answered_whole:
            return  # the body, which left with the head
        whole: bytes | None = message.get(WHOLE)
        if whole is None or not self._may_answer_whole():
            await super().send(message)  # type: ignore[arg-type]
        else:
            self._answer_whole(message["status"], whole)

    def _may_answer_whole(self) -> bool:
        return (
            self.keep_alive
            and not self.disconnected
            and not self.flow.write_paused
            and self.scope["method"] != "HEAD"
        )

    def _answer_whole(self, status: int, whole: bytes) -> None:
        self._is_answered_whole = True
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        head = [STATUS_LINE[status]]
        for name, value in self.default_headers:
            head += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join([*head, whole]))
        self.message_event.set()
        self.on_response()


class Connection(HttpToolsProtocol):
    """uvicorn itself would wait for the rest of the headers for ever."""

    limits = Limits()

    _in_headers = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Most requests come in one piece: no timer is made for them.
        if not self._in_headers:
            self._clear_deadline()
        elif self._deadline is None:
            self._set_deadline()

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not None and self.cycle is not before:
            # uvicorn lets nobody choose the class; nothing has run of it yet.
            self.cycle.__class__ = Cycle

    def send_400_response(self, msg: str) -> None:
        self.transport.write(BAD_REQUEST)
        self.transport.close()

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(
            self.limits.headers_read_s, self.transport.close
        )

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
