"""A plain client of the Calendar API, and a plain receiver of its pushes."""

from datetime import datetime
from typing import Any, Self
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx2
from starlette.types import Receive, Scope, Send

from local_stack.twins.google import GoogleTwin

BERLIN = ZoneInfo("Europe/Berlin")
EVENTS = "/calendars/primary/events"


def berlin(day: int, hour: int, minute: int = 0, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=BERLIN)


def timed(day: int, hour: int, *, hours: int = 1, month: int = 11) -> dict[str, Any]:
    """Return start and end of an event, as a client writes them."""
    start = berlin(day, hour, month=month)
    end = berlin(day, hour + hours, month=month)
    return {
        "start": {"dateTime": start.isoformat(), "timeZone": "Europe/Berlin"},
        "end": {"dateTime": end.isoformat(), "timeZone": "Europe/Berlin"},
    }


class Calls:
    """Calls on one account's behalf."""

    def __init__(self, google: GoogleTwin, access_token: str) -> None:
        self.http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(google),
            base_url="http://google.test/calendar/v3",
            headers={"Authorization": f"Bearer {access_token}"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def page(self, path: str = EVENTS, **params: Any) -> dict[str, Any]:
        """Return one page."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def items(self, path: str = EVENTS, **params: Any) -> list[dict[str, Any]]:
        """Return the items of every page."""
        items: list[dict[str, Any]] = []
        token: str | None = None
        while True:
            more = {} if token is None else {"pageToken": token}
            page = await self.page(path, **params, **more)
            items += page["items"]
            token = page.get("nextPageToken")
            if token is None:
                return items

    async def sync_token(self, **params: Any) -> str:
        return str((await self.page(maxResults=2500, **params))["nextSyncToken"])

    async def insert(self, **body: Any) -> dict[str, Any]:
        answer = await self.http.post(EVENTS, json={**timed(24, 10), **body})
        assert answer.status_code == 200, answer.text
        event: dict[str, Any] = answer.json()
        return event

    async def watch(
        self, path: str = EVENTS, *, address: str = "https://hooks.test/g", **body: Any
    ) -> httpx2.Response:
        channel = {"id": str(uuid4()), "type": "web_hook", "address": address}
        return await self.http.post(f"{path}/watch", json=channel | body)


def refusal(answer: httpx2.Response) -> tuple[int, str, str]:
    """Return what an error envelope says: status, reason, domain."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["message"] == error["errors"][0]["message"]
    return error["code"], error["errors"][0]["reason"], error["errors"][0]["domain"]


class Inbox:
    """Takes every push, answers what it was told to, 200 otherwise."""

    def __init__(self) -> None:
        self.received: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answers: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.received.append(headers)
        self.bodies.append((await receive()).get("body", b""))
        status = self.answers.pop(0) if self.answers else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def states(self, channel_id: str | None = None) -> list[str]:
        return [
            headers["x-goog-resource-state"]
            for headers in self.received
            if channel_id in {None, headers["x-goog-channel-id"]}
        ]

    def numbers(self) -> list[int]:
        return [int(headers["x-goog-message-number"]) for headers in self.received]
