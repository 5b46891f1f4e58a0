"""Plays a recording's steps to a gateway, and keeps what its subscribers get."""

import asyncio
import base64
import json
import struct
import time
from collections.abc import Mapping
from typing import Any

import asyncpg
import httpx2
import jwt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.sessions import Connection

SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
SETTLE_S = 0.03
UNKNOWN_SETTLE_S = 0.3
SILENCE_S = 0.25
WAIT_S = 12.0


def make_token(spec: Mapping[str, Any]) -> str:
    """Sign a recording's claims; times are relative to now."""
    if "literal" in spec:
        return str(spec["literal"])
    claims = dict(spec["claims"])
    if isinstance(claims.get("exp"), str):
        claims["exp"] = int(time.time()) + int(claims["exp"].removeprefix("now"))
    key = "another secret of at least thirty-two characters"
    return jwt.encode(claims, SECRET if spec.get("sign") != "bad" else key, "HS256")


class Replay:
    """One run of one recording."""

    def __init__(self, url: str, recording: Mapping[str, Any], database: Connection):
        self._url = url
        self._recording = recording
        self._database = database
        self._tokens = {
            name: make_token(spec) for name, spec in recording["tokens"].items()
        }
        self._subscribers = {s["name"]: s for s in recording["subscribers"]}
        self._sockets: dict[str, ClientConnection] = {}
        self._readers: list[asyncio.Task[None]] = []
        self.frames: dict[str, list[Any]] = {name: [] for name in self._subscribers}
        # the step under way when each frame came
        self.places: dict[str, list[int]] = {name: [] for name in self._subscribers}
        self.results: dict[int, Any] = {}
        self._place = 0
        self._heard_at_s = time.monotonic()

    async def run(self) -> None:
        try:
            for place, step in enumerate(self._recording["steps"]):
                self._place = place
                result = await getattr(self, f"_{step['do']}")(step, place)
                if result is not None:
                    self.results[place] = result
            await self._silence(SILENCE_S)
        finally:
            # what the others hear of these goodbyes is no part of the scenario
            for reader in self._readers:
                reader.cancel()
            await asyncio.gather(*self._readers, return_exceptions=True)
            await asyncio.gather(*(s.close() for s in self._sockets.values()))

    # -- steps

    async def _connect(self, step: Mapping[str, Any], place: int) -> None:
        name = step["who"]
        subscriber = self._subscribers[name]
        token = subscriber["token"]
        key = f"&apikey={self._tokens[token]}" if token else ""
        url = self._url.replace("http", "ws", 1)
        address = f"{url}/realtime/v1/websocket?vsn={subscriber['vsn']}{key}"
        try:
            socket = await connect(address, max_size=None, compression=None, proxy=None)
        except InvalidStatus as error:
            answer = error.response
            body = json.loads(answer.body or b"null")
            handshake = {"status": answer.status_code, "body": body}
            self.frames[name].append({"$handshake": handshake})
            return
        self._sockets[name] = socket
        self._readers.append(asyncio.create_task(self._read(name, socket)))

    async def _read(self, name: str, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                self._heard_at_s = time.monotonic()
                if isinstance(message, bytes):
                    self.frames[name].append(read_binary(message))
                else:
                    self.frames[name].append(json.loads(message))
                self.places[name].append(self._place)
        except ConnectionClosed:
            pass

    async def _send(self, step: Mapping[str, Any], place: int) -> None:
        socket = self._sockets[step["who"]]
        if "text" in step:
            await socket.send(step["text"])
        elif "kind3" in step:
            await socket.send(write_kind_3(step["kind3"]))
        else:
            await socket.send(json.dumps(self._filled(step["frame"])))

    def _filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            if "$token" in value:
                return self._tokens[value["$token"]]
            if "$repeat" in value:
                text, count = value["$repeat"]
                return text * count
            return {key: self._filled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._filled(inner) for inner in value]
        return value

    async def _wait(self, step: Mapping[str, Any], place: int) -> Any:
        frames, count = self.frames[step["who"]], step.get("count", 1)

        def arrived() -> bool:
            return sum(_fits(frame, step["match"]) for frame in frames) >= count

        if not await _until(arrived, step.get("timeout_s", WAIT_S)):
            return "timed_out"
        return None

    async def _sql(self, step: Mapping[str, Any], place: int) -> Any:
        statements = step["sql"] if isinstance(step["sql"], list) else [step["sql"]]
        transaction = self._database.transaction()
        await transaction.start()
        try:
            if step.get("as"):
                await self._become(step["as"])
            for statement in statements:
                await self._database.execute(statement)
        except asyncpg.PostgresError as error:
            await transaction.rollback()
            return {"sqlstate": error.sqlstate, "message": error.args[0]}
        if step.get("rollback"):
            await transaction.rollback()
        else:
            await transaction.commit()
        return None

    async def _become(self, token: str) -> None:
        claims = self._recording["tokens"][token]["claims"]
        await self._database.execute(
            "select set_config('role', $1, true), "
            "set_config('request.jwt.claims', $2, true)",
            claims["role"],
            json.dumps(claims),
        )

    async def _http(self, step: Mapping[str, Any], place: int) -> Any:
        headers = dict(step.get("headers", {}))
        if step.get("bearer"):
            token = self._tokens[step["bearer"]]
            headers |= {"apikey": token, "Authorization": f"Bearer {token}"}
        if "body_base64" in step:
            content = base64.b64decode(step["body_base64"])
        else:
            body = step.get("body")
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.request(
                step.get("method", "POST"),
                self._url + step["path"],
                content=content,
                headers=headers,
            )
        try:
            shown = answer.json()
        except ValueError:
            shown = answer.text
        return {"status": answer.status_code, "body": shown}

    async def _pause(self, step: Mapping[str, Any], place: int) -> None:
        """Wait until what was recorded so far is here, but not longer than recorded.

        Where a recording does not say when a frame came, silence has to do.
        """
        recorded = self._recording["frames"]
        known = all("step" in frame for frames in recorded.values() for frame in frames)
        wanted = {
            name: sum(frame.get("step", place + 1) <= place for frame in frames)
            for name, frames in recorded.items()
        }

        def complete() -> bool:
            return all(len(self.frames[name]) >= n for name, n in wanted.items())

        await _until(complete, step["s"])
        await self._silence(SETTLE_S if known else min(step["s"], UNKNOWN_SETTLE_S))

    async def _close(self, step: Mapping[str, Any], place: int) -> None:
        await self._sockets[step["who"]].close()

    async def _silence(self, seconds: float) -> None:
        started = time.monotonic()
        await _until(
            lambda: time.monotonic() - max(started, self._heard_at_s) > seconds, 10
        )


async def _until(check: Any, within_s: float) -> bool:
    give_up_at = time.monotonic() + within_s
    while not check():
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(0.002)
    return True


def _fits(frame: Any, match: Mapping[str, Any]) -> bool:
    if isinstance(frame, list):
        found = {"ref": frame[1], "topic": frame[2], "event": frame[3]}
    elif "$binary" in frame:
        found = {"topic": frame["$binary"]["topic"], "event": "broadcast"}
    else:
        found = frame
    return all(bool(found.get(key) == value) for key, value in match.items())


def write_kind_3(fields: Mapping[str, Any]) -> bytes:
    """The user broadcast of vsn 2.0.0, as a client sends it."""
    names = ("join_ref", "ref", "topic", "event", "metadata")
    strings = [fields[name].encode() for name in names]
    if "payload_base64" in fields:
        payload = base64.b64decode(fields["payload_base64"])
    else:
        payload = json.dumps(fields["payload"]).encode()
    head = struct.pack("!7B", 3, *map(len, strings), fields["encoding"])
    return head + b"".join(strings) + payload


def read_binary(data: bytes) -> Any:
    """A kind 4 frame, taken apart."""
    kind, topic, event, metadata, encoding = data[:5]
    parts, place = [], 5
    for length in (topic, event, metadata):
        parts.append(data[place : place + length].decode())
        place += length
    body: dict[str, Any] = {
        "kind": kind,
        "topic": parts[0],
        "event": parts[1],
        "metadata": json.loads(parts[2]) if parts[2] else "",
        "encoding": encoding,
    }
    if encoding == 1:
        body["payload"] = json.loads(data[place:])
    else:
        body["payload_base64"] = base64.b64encode(data[place:]).decode()
    return {"$binary": body}
