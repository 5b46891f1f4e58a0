"""Broadcasts over HTTP: many at once, or one named by its path."""

import re
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from local_stack.gateway.authorization import (
    Authorization,
    MissingPartition,
    NoDatabase,
    Visitor,
)
from local_stack.gateway.frames import ENCODING_BINARY, ENCODING_JSON, UserPayload
from local_stack.gateway.http_messages import HttpAnswer, HttpRequest
from local_stack.gateway.rooms import RoomName, Rooms, Said
from local_stack.gateway.tokens import Claims, TokenRefused, Tokens

BLANK: Final = "can't be blank"
INVALID: Final = "is invalid"
ACCEPTED: Final = HttpAnswer(202)
NOT_FOUND: Final = HttpAnswer(404, "Not Found")
BAD_REQUEST: Final = HttpAnswer(400, "Bad Request")
UNAUTHORIZED: Final = HttpAnswer(401, {"message": "Unauthorized"})
FORBIDDEN: Final = HttpAnswer(403, {"message": "Unauthorized"})
TOO_LARGE: Final = HttpAnswer(422, {"errors": {"payload": ["is too large"]}})
UNSUPPORTED: Final = HttpAnswer(
    415,
    {
        "error": "Unsupported Media Type. "
        "Use application/json or application/octet-stream"
    },
)
_MANY: Final = re.compile(r"(?:/realtime/v1)?/api/broadcast/?")
_ONE: Final = re.compile(r"(?:/realtime/v1)?/api/broadcast/([^/]+)/events/([^/]+)/?")
_HEALTH: Final = frozenset({"/healthz", "/realtime/v1/api/health"})


class HttpApi:
    """Answers requests that are no sockets."""

    def __init__(
        self,
        tokens: Tokens,
        authorization: Authorization,
        rooms: Rooms,
        *,
        payload_bytes: int,
    ):
        self._tokens = tokens
        self._authorization = authorization
        self._rooms = rooms
        self._payload_bytes = payload_bytes

    async def answer(self, request: HttpRequest) -> HttpAnswer:
        path = request.raw_path
        if request.method == "GET" and path in _HEALTH:
            return HttpAnswer(200, {"status": "ok"})
        if request.method == "POST" and _MANY.fullmatch(path):
            return await self._many(request)
        if request.method == "POST" and (named := _ONE.fullmatch(path)):
            return await self._one(request, unquote(named[1]), unquote(named[2]))
        return NOT_FOUND

    async def _many(self, request: HttpRequest) -> HttpAnswer:
        try:
            body = msgspec.json.decode(request.body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return BAD_REQUEST
        claims = self._claims(request)
        if claims is None:
            return UNAUTHORIZED
        messages = body.get("messages") if isinstance(body, dict) else None
        if problem := _problem(messages):
            return HttpAnswer(422, {"errors": {"messages": problem}})
        allowed: dict[str, bool] = {}
        for message in messages or []:
            topic, private = message["topic"], _flag(message.get("private"))
            if private and topic not in allowed:
                allowed[topic] = await self._may_write(request, claims, topic)
            if private and not allowed[topic]:
                continue  # as on the real server: 202, and nothing is sent
            payload = {
                "type": "broadcast",
                "event": message["event"],
                "payload": message["payload"],
            }
            said = Said(msgspec.Raw(msgspec.json.encode(payload)))
            self._rooms.say(RoomName(topic, private), said)
        return ACCEPTED

    async def _one(self, request: HttpRequest, topic: str, event: str) -> HttpAnswer:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/octet-stream":
            user = UserPayload(event, ENCODING_BINARY, request.body)
        elif kind == "application/json":
            try:
                body = msgspec.json.decode(request.body or b"{}")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return BAD_REQUEST
            data = request.body or b"{}"
            if not isinstance(body, dict):
                data = b'{"_json":' + data + b"}"
            user = UserPayload(event, ENCODING_JSON, data)
        else:
            return UNSUPPORTED
        claims = self._claims(request)
        if claims is None:
            return UNAUTHORIZED
        if len(user.data) > self._payload_bytes:
            return TOO_LARGE
        private = request.parameters.get("private") == "true"
        if private and not await self._may_write(request, claims, topic):
            return FORBIDDEN
        self._rooms.say(RoomName(topic, private), Said(user))
        return ACCEPTED

    def _claims(self, request: HttpRequest) -> Claims | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            token = request.headers.get("x-api-key") or request.headers.get(
                "apikey", ""
            )
        try:
            return self._tokens.verify(token.strip())
        except TokenRefused:
            return None

    async def _may_write(
        self, request: HttpRequest, claims: Claims, topic: str
    ) -> bool:
        visitor = Visitor(claims, visible_headers(request))
        try:
            return await self._authorization.may_write(visitor, topic, "broadcast")
        except (NoDatabase, MissingPartition):
            return False


def visible_headers(request: HttpRequest) -> dict[str, str]:
    """Return the headers that policies may look at, as the real server has it."""
    return {
        name: value for name, value in request.headers.items() if name.startswith("x-")
    }


def _problem(messages: Any) -> list[Any] | None:
    if messages is None or messages == []:
        return [BLANK]
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return [INVALID]
    problems = [_message_problem(message) for message in messages]
    return problems if any(problems) else None


def _message_problem(message: dict[str, Any]) -> dict[str, list[str]]:
    problem = {}
    for name, kind in (("topic", str), ("payload", dict), ("event", str)):
        value = message.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            problem[name] = [BLANK]
        elif not isinstance(value, kind):
            problem[name] = [INVALID]
    if message.get("private") not in {None, True, False, "true", "false", "1", "0"}:
        problem["private"] = [INVALID]
    return problem


def _flag(value: object) -> bool:
    return value is True or value in {"true", "1"}
