"""A plain client of Graph's calendars, and a plain receiver of its notifications."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import httpx2
import msgspec
from starlette.types import Receive, Scope, Send

from local_stack.twins.microsoft import MicrosoftTwin

BERLIN = ZoneInfo("Europe/Berlin")
IMMUTABLE = 'IdType="ImmutableId"'
NOVEMBER = {
    "startDateTime": "2026-11-01T00:00:00Z",
    "endDateTime": "2026-12-01T00:00:00Z",
}
DELTA = "/me/calendarView/delta"


def berlin(day: int, hour: int, minute: int = 0, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN)


def timed(day: int, hour: int, *, hours: int = 1) -> dict[str, Any]:
    """Return start and end of an event, as a client writes them."""

    def at(when: datetime) -> dict[str, str]:
        wall = when.replace(tzinfo=None).isoformat()
        return {"dateTime": wall, "timeZone": "W. Europe Standard Time"}

    start = berlin(day, hour)
    return {"start": at(start), "end": at(start + timedelta(hours=hours))}


class Graph:
    """Calls on one account's behalf."""

    def __init__(self, twin: MicrosoftTwin, access_token: str) -> None:
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(twin),
            base_url="http://graph.test/v1.0",
            headers={"Authorization": f"Bearer {access_token}", "Prefer": IMMUTABLE},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def page(
        self, url: str, params: dict[str, str] | None = None, *, prefer: str = IMMUTABLE
    ) -> dict[str, Any]:
        answer = await self.http.get(url, params=params, headers={"Prefer": prefer})
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def all(
        self, url: str, params: dict[str, str] | None = None, *, prefer: str = IMMUTABLE
    ) -> list[dict[str, Any]]:
        """Return the items of every page."""
        items, _ = await self._read(url, params, prefer)
        return items

    async def delta(
        self, url: str = DELTA, *, prefer: str = IMMUTABLE, **window: str
    ) -> tuple[list[dict[str, Any]], str]:
        """Read a round to its end: its items and the link of the next one."""
        params = None if "$deltatoken" in url else NOVEMBER | window
        items, link = await self._read(url, params, prefer)
        assert link is not None
        return items, link

    async def _read(
        self, url: str, params: dict[str, str] | None, prefer: str
    ) -> tuple[list[dict[str, Any]], str | None]:
        items: list[dict[str, Any]] = []
        while True:
            page = await self.page(url, params, prefer=prefer)
            items += page["value"]
            if "@odata.nextLink" not in page:
                return items, page.get("@odata.deltaLink")
            url, params = page["@odata.nextLink"], None

    async def create(self, path: str = "/me/events", **body: Any) -> dict[str, Any]:
        answer = await self.http.post(path, json={**timed(24, 10), **body})
        assert answer.status_code == 201, answer.text
        event: dict[str, Any] = answer.json()
        return event

    async def subscribe(self, **body: Any) -> httpx2.Response:
        wish = {
            "changeType": "created,updated,deleted",
            "notificationUrl": "https://hooks.test/ms?channel=1",
            "resource": "me/events",
            "expirationDateTime": "2026-11-25T12:00:00Z",
            "clientState": "secret",
        }
        return await self.http.post("/subscriptions", json=wish | body)


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Return what an error envelope says: status and code."""
    error = answer.json()["error"]
    assert error["message"]
    assert set(error["innerError"]) == {"date", "request-id", "client-request-id"}
    assert answer.headers["request-id"] == error["innerError"]["request-id"]
    return answer.status_code, error["code"]


def ids(items: list[dict[str, Any]], *, removed: bool = False) -> list[str]:
    return [item["id"] for item in items if ("@removed" in item) is removed]


class Endpoint:
    """Takes what Graph posts, answers what it was told to, 202 otherwise."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.requests: list[list[dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.handshakes: list[str] = []
        self.answers: list[int] = []
        self.handshake: tuple[int, bytes, bytes | None] = (200, b"text/plain", None)
        self.delay_s = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")
        query = parse_qs(scope["query_string"].decode())
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if "validationToken" in query:
            token = query["validationToken"][0].encode()
            self.handshakes.append(scope["path"])
            status, kind, text = self.handshake
            await _answer(send, status, kind, token if text is None else text)
            return
        self.paths.append(f"{scope['path']}?{scope['query_string'].decode()}")
        self.bodies.append(body)
        self.requests.append(msgspec.json.decode(body)["value"])
        status = self.answers.pop(0) if self.answers else 202
        await _answer(send, status, b"application/json", b"")

    @property
    def items(self) -> list[dict[str, Any]]:
        return [item for request in self.requests for item in request]

    def kinds(self) -> list[str]:
        return [item.get("changeType") or item["lifecycleEvent"] for item in self.items]


async def _answer(send: Send, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
