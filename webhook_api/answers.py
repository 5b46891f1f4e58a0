"""Answers as they go over the wire, made once: the hot route only picks one.

Every refusal is ``{"error": {"code": …, "message": …}}``; docs/webhooks.md lists the
codes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
# What follows an unread body is not worth reading: the connection ends.
CLOSE: Final = {"connection": "close"}
NO_SNIFFING: Final = {"x-content-type-options": "nosniff"}
RETRY_SOON: Final = {"retry-after": "2"}
# Beside what ASGI says of a head: all that follows the server's own headers, as bytes.
WHOLE: Final = "supacal.whole"


class Answer(Response):
    """A whole response, to be sent as often as needed: JSON, if it is not bytes."""

    def __init__(
        self,
        status: int,
        content: object,
        headers: Mapping[str, str] = NO_HEADERS,
        media_type: str = "application/json",
    ) -> None:
        body = content if isinstance(content, bytes) else msgspec.json.encode(content)
        super().__init__(body, status, headers, media_type)
        self.closes = headers.get("connection") == "close"
        self._start: Message = {
            "type": "http.response.start",
            "status": status,
            "headers": self.raw_headers,
        }
        if not self.closes:
            own = b"".join(b"%b: %b\r\n" % header for header in self.raw_headers)
            self._start[WHOLE] = own + b"\r\n" + bytes(self.body)
        self._body: Message = {"type": "http.response.body", "body": self.body}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self._start)
        await send(self._body)

    async def begin(self, send: Send) -> None:
        """Send all of it, but do not end the response yet."""
        await send(self._start)
        await send({**self._body, "more_body": True})

    async def end(self, send: Send) -> None:
        """End what ``begin`` began."""
        await send({"type": "http.response.body", "body": b""})


def refusal(
    status: int, code: str, message: str, headers: Mapping[str, str] = NO_HEADERS
) -> Answer:
    """Make the answer to something that is not done."""
    return Answer(status, {"error": {"code": code, "message": message}}, headers)


def echo(text: str) -> Answer:
    """Answer a provider's question with its own words, which no browser may render."""
    return Answer(200, text.encode(), NO_SNIFFING, "text/plain")


VERIFIED = Answer(200, {"status": "verified"})
ACCEPTED = Answer(200, {"status": "accepted"})
# For those to whom 200 would say that the work is done, too.
QUEUED = Answer(202, {"status": "accepted"})
IGNORED = Answer(200, {"status": "ignored"})

BAD_REQUEST = refusal(400, "bad_request", "This is not an HTTP request.", CLOSE)
MALFORMED = refusal(
    400, "malformed", "The delivery is signed, but it is not what its provider sends."
)
UNSTORABLE = refusal(
    400, "unstorable", "The database cannot hold this body: it is not valid JSON text."
)
CUSTOM_TEMPLATE = refusal(
    400,
    "custom_template",
    "This webhook has a custom payload template. Remove it: in Cal.com's settings, "
    "under Developer, Webhooks, choose the default payload.",
)
STALE = refusal(
    401, "stale", "The signature is right, but too old; the account is read instead."
)
NOT_VERIFIED = refusal(
    401, "not_verified", "The delivery lacks the secret of one of our channels."
)
NOT_FOUND = refusal(
    404, "not_found", "There is nothing here: /openapi.json lists the routes.", CLOSE
)
BODY_TOO_SLOW = refusal(408, "body_too_slow", "The body did not arrive in time.", CLOSE)
BODY_TOO_LARGE = refusal(
    413, "body_too_large", "The body is larger than any delivery.", CLOSE
)
INTERNAL_ERROR = refusal(
    500, "internal_error", "Something is wrong here; the log says what.", CLOSE
)
DATABASE_UNAVAILABLE = refusal(
    503, "database_unavailable", "It could not be stored; send it again.", RETRY_SOON
)
TOO_SLOW = refusal(
    503, "too_slow", "Storing it took too long; send it again.", RETRY_SOON
)
TOO_BUSY = refusal(
    503, "too_busy", "Too many deliveries wait already; send it again.", RETRY_SOON
)


def method_not_allowed(allow: str) -> Answer:
    """Refuse a method, and name those that work."""
    return refusal(
        405,
        "method_not_allowed",
        f"This route answers {allow}.",
        {"allow": allow, **CLOSE},
    )


def rate_limited(retry_after_s: int) -> Answer:
    """Refuse who was refused too often."""
    return refusal(
        429,
        "rate_limited",
        "Too many requests from this address failed verification.",
        {"retry-after": str(retry_after_s)},
    )
