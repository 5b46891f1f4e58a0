"""HTTP connections: uvicorn's, with a deadline for headers and errors in our words."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from webhook_api import answers
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
        super().on_headers_complete()

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
