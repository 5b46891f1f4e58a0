"""Receive: verify, store, answer; in this order, and nothing else.

Bare ASGI, for this is the route that must keep up. A delivery is answered 2xx only
after its row is committed. Verifying needs no query, so a stranger costs no database.
"""

import asyncio

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from providers.errors import InvalidNotification
from providers.model import Provider
from providers.protocols import Receiver, ShakesHands
from runtime.clock import Clock
from runtime.sealing import Keyring
from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.batcher import Batcher, TooBusy
from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits
from webhook_api.refusals import Refusals, Refused

log = structlog.get_logger()

ALLOW = "GET, HEAD, POST"
NOT_ALLOWED = answers.method_not_allowed(ALLOW)
LINGER_S = 1  # a sender that is cut off while it writes would not read our answer
NOT_STORED = {
    Outcome.UNSTORABLE: answers.UNSTORABLE,
    Outcome.UNAVAILABLE: answers.DATABASE_UNAVAILABLE,
    Outcome.LATE: answers.TOO_SLOW,
}
# After 503 a request is sent again as a whole; what is not storable stops nothing else.
WORST_FIRST = (
    Outcome.UNAVAILABLE,
    Outcome.LATE,
    Outcome.ACCEPTED,
    Outcome.UNSTORABLE,
    Outcome.IGNORED,
)


class Endpoint:
    """One provider's webhook address: POST delivers, GET says whether it would work."""

    def __init__(
        self,
        provider: Provider,
        receiver: Receiver,
        *,
        keyring: Keyring,
        clock: Clock,
        limits: Limits,
        batcher: Batcher,
        refusals: Refusals,
        self_test: Answer,
        accepted: Answer = answers.ACCEPTED,
        body_bytes: int | None = None,
    ) -> None:
        self._provider = provider
        self._receiver = receiver
        self._keyring = keyring
        self._clock = clock
        self._limits = limits
        self._batcher = batcher
        self._refusals = refusals
        self._self_test = self_test
        self._accepted = accepted
        self._body_bytes = body_bytes or limits.body_bytes
        self._shaker = receiver if isinstance(receiver, ShakesHands) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        if answer.closes:
            await self._answer_and_linger(answer, receive, send)
        else:
            await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            match scope["method"]:
                case "POST":
                    return await self._receive(scope, receive)
                case "GET" | "HEAD":
                    return self._self_test
                case _:
                    refused = Refused(NOT_ALLOWED, "method not allowed")
                    return self._refuse(scope, refused)
        except Refused as refused:
            return self._refuse(scope, refused)
        except Exception:  # the outermost loop of a request
            log.exception("request.failed", provider=self._provider.value)
            return answers.INTERNAL_ERROR

    def _refuse(self, scope: Scope, refused: Refused) -> Answer:
        return self._refusals.answer(scope, self._provider.value, refused)

    async def _receive(self, scope: Scope, receive: Receive) -> Answer:
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        body = await self._body(headers, receive)
        asked = self._asked(scope)
        if asked is not None:
            return answers.echo(asked)
        return await self._store(await self._notifications(scope, headers, body))

    async def _notifications(
        self, scope: Scope, headers: dict[str, str], body: bytes
    ) -> list[Delivery]:
        now = self._clock.now()
        try:
            notifications = self._receiver.read(
                headers, body, keyring=self._keyring, now=now
            )
        except InvalidNotification as invalid:
            answer = (
                answers.NOT_VERIFIED if invalid.status == 401 else answers.MALFORMED
            )
            raise Refused(answer, invalid.reason) from None
        if body and not _is_json(body):
            raise Refused(answers.MALFORMED, "body is not JSON")
        return [Delivery(one, now) for one in notifications]

    def _asked(self, scope: Scope) -> str | None:
        """Return what is to be answered where a provider only asks who is there."""
        if self._shaker is None or not scope["query_string"]:
            return None
        return self._shaker.handshake(scope["query_string"].decode("latin-1"))

    async def _store(self, deliveries: list[Delivery]) -> Answer:
        try:
            waiting = [self._batcher.submit(delivery) for delivery in deliveries]
        except TooBusy:
            raise Refused(answers.TOO_BUSY, "too busy") from None
        # The futures are the batcher's: a sender that leaves does not take them along.
        if len(waiting) == 1:
            outcome = await waiting[0]
        else:
            outcome = _worst([await one for one in waiting])
        if outcome is Outcome.ACCEPTED:
            is_hello = deliveries[0].notification.kind == "hello"
            return answers.VERIFIED if is_hello else self._accepted
        if outcome is Outcome.IGNORED:
            return answers.IGNORED
        raise Refused(NOT_STORED[outcome], outcome.value)

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            return b""
        if length is not None and _size(length) > self._body_bytes:
            raise Refused(answers.BODY_TOO_LARGE, "body too large")
        if length == "0":
            return b""
        try:
            async with asyncio.timeout(self._limits.body_read_s):
                return await self._read(receive)
        except TimeoutError:
            raise Refused(answers.BODY_TOO_SLOW, "body too slow") from None

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(answers.BODY_TOO_SLOW, "sender left")
            body += message.get("body", b"")
            if len(body) > self._body_bytes:
                raise Refused(answers.BODY_TOO_LARGE, "body too large")
            if not message.get("more_body", False):
                return bytes(body)

    async def _answer_and_linger(
        self, answer: Answer, receive: Receive, send: Send
    ) -> None:
        await answer.begin(send)
        try:
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        await answer.end(send)


def _size(length: str) -> int:
    return int(length) if length.isascii() and length.isdigit() else 0


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _worst(outcomes: list[Outcome]) -> Outcome:
    """Of several notifications in one request the worst is answered."""
    return next((one for one in WORST_FIRST if one in outcomes), Outcome.IGNORED)
