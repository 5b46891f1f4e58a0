"""What a person does at a provider, over its API: on a twin, and on the real one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote

import httpx2

AN_HOUR = timedelta(hours=1)


class Hand(Protocol):
    """Writes to one calendar; what it returns are the provider's ids."""

    calendar_id: str

    async def add(self, title: str, start: datetime, *, weeks: int = 0) -> str:
        """Make an event of an hour; with weeks, a weekly series of so many."""

    async def add_day(self, title: str, day: date) -> str:
        """Make an event of a whole day."""

    async def rename(self, event_id: str, title: str) -> None: ...

    async def move(self, event_id: str, start: datetime) -> None: ...

    async def delete(self, event_id: str) -> None: ...


@asynccontextmanager
async def calendar_of_its_own(
    http: httpx2.AsyncClient, calendars_url: str, token: str, body: Mapping[str, str]
) -> AsyncIterator[str]:
    """Make a calendar, tell its id, and delete it afterwards."""
    headers = {"Authorization": f"Bearer {token}"}
    made = await http.post(calendars_url, json=body, headers=headers)
    assert made.is_success, made.text
    calendar_id = str(made.json()["id"])
    try:
        yield calendar_id
    finally:
        url = f"{calendars_url}/{quote(calendar_id, safe='')}"
        await http.delete(url, headers=headers)


class _Rest:
    def __init__(
        self, http: httpx2.AsyncClient, calendars_url: str, token: str, calendar_id: str
    ) -> None:
        self._http = http
        self._events_url = f"{calendars_url}/{quote(calendar_id, safe='')}/events"
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Prefer": 'IdType="ImmutableId"',
        }
        self.calendar_id = calendar_id

    async def _send(
        self, method: str, url: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = await self._http.request(method, url, json=body, headers=self._headers)
        assert answer.is_success, (method, url, answer.text)
        return answer.json() if answer.content else {}

    def _event_url(self, event_id: str) -> str:
        return f"{self._events_url}/{quote(event_id, safe='')}"

    async def _add(self, body: Mapping[str, Any]) -> str:
        made = await self._send("POST", self._events_url, body)
        return str(made["id"])

    async def _patch(self, event_id: str, body: Mapping[str, Any]) -> None:
        await self._send("PATCH", self._event_url(event_id), body)

    async def delete(self, event_id: str) -> None:
        await self._send("DELETE", self._event_url(event_id))


class GoogleHand(_Rest):
    """On Google Calendar."""

    async def add(self, title: str, start: datetime, *, weeks: int = 0) -> str:
        rule = {"recurrence": [f"RRULE:FREQ=WEEKLY;COUNT={weeks}"]} if weeks else {}
        return await self._add({"summary": title, **self._at(start), **rule})

    async def add_day(self, title: str, day: date) -> str:
        end = day + timedelta(days=1)
        span = {"start": {"date": str(day)}, "end": {"date": str(end)}}
        return await self._add({"summary": title, **span})

    async def rename(self, event_id: str, title: str) -> None:
        await self._patch(event_id, {"summary": title})

    async def move(self, event_id: str, start: datetime) -> None:
        await self._patch(event_id, self._at(start))

    def _at(self, start: datetime) -> dict[str, Any]:
        zone = str(start.tzinfo)
        end = start + AN_HOUR
        return {
            "start": {"dateTime": start.isoformat(), "timeZone": zone},
            "end": {"dateTime": end.isoformat(), "timeZone": zone},
        }


class GraphHand(_Rest):
    """In Outlook."""

    async def add(self, title: str, start: datetime, *, weeks: int = 0) -> str:
        return await self._add(
            {"subject": title, **self._at(start), **self._weekly(start, weeks)}
        )

    async def add_day(self, title: str, day: date) -> str:
        def midnight(day: date) -> dict[str, str]:
            return {"dateTime": f"{day}T00:00:00", "timeZone": "Europe/Berlin"}

        span = {"start": midnight(day), "end": midnight(day + timedelta(days=1))}
        return await self._add({"subject": title, "isAllDay": True, **span})

    async def rename(self, event_id: str, title: str) -> None:
        await self._patch(event_id, {"subject": title})

    async def move(self, event_id: str, start: datetime) -> None:
        await self._patch(event_id, self._at(start))

    def _at(self, start: datetime) -> dict[str, Any]:
        def local(when: datetime) -> dict[str, str]:
            wall = when.replace(tzinfo=None)
            return {"dateTime": wall.isoformat(), "timeZone": str(when.tzinfo)}

        return {"start": local(start), "end": local(start + AN_HOUR)}

    def _weekly(self, start: datetime, weeks: int) -> dict[str, Any]:
        if not weeks:
            return {}
        days = [f"{start:%A}".lower()]
        pattern = {"type": "weekly", "interval": 1, "daysOfWeek": days}
        span = {
            "type": "numbered",
            "startDate": f"{start:%Y-%m-%d}",
            "numberOfOccurrences": weeks,
        }
        return {"recurrence": {"pattern": pattern, "range": span}}
