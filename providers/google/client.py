"""Calls to the Google Calendar API v3, for one connection.

Nothing is retried here: that is the queue's business, once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx2
import msgspec

from providers.errors import Gone
from providers.google import resources
from providers.google.events import ItemReader, read_event
from providers.google.failures import LIST_EVENTS, failure, unavailable
from providers.model import CalendarEntry, Channel, Event, Item, Malformed, Page
from runtime.clock import Clock, SystemClock

# Until something is heard of Google, and until a page of 3 MB is here.
SILENCE_TIMEOUT_S = 10
CALL_TIMEOUT_S = 30
PAGE_SIZE = 2500  # the most that Google gives
CALENDARS_PAGE_SIZE = 250

CHANGES: Final = {"singleEvents": "false", "maxResults": str(PAGE_SIZE)}
# Google asks for both, the header and the word, before it compresses.
HEADERS = {"User-Agent": "supacal (gzip)"}
# Items are hashed as they come, so they must always come in the same dress.
COMPACT = {"prettyPrint": "false"}

T = TypeVar("T")


class GoogleClient:
    """Google's half of an adapter that makes calls."""

    # A sync token is good only for the parameters it was made with.
    parameters: Final = "&".join(f"{name}={CHANGES[name]}" for name in sorted(CHANGES))
    looks_through_window: Final = False

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
        *,
        projection: bytes = b"",
        clock: Clock | None = None,
    ) -> None:
        """Take what is shared and what is the connection's own.

        The projection is a fingerprint of settings that a mapping depends on: when it
        differs, so do all hashes, and everything is mapped again.
        """
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._access_token = access_token
        self._reader = ItemReader(projection)
        self._clock = clock or SystemClock()

    async def list_changes(
        self,
        calendar_id: str,
        *,
        cursor: str | None,
        since: datetime | None = None,
        until: datetime | None = None,
        page_token: str | None = None,
    ) -> Page:
        # There is no need of `until`: series come as themselves, however long.
        # https://developers.google.com/workspace/calendar/api/guides/sync
        # The cursor goes with every page of a round, beside the page's token. A first
        # request may be bounded, one with a cursor must not be.
        bound = since.isoformat() if since and cursor is None else None
        parameters = CHANGES | _given(
            syncToken=cursor, timeMin=bound, pageToken=page_token
        )
        return await self._page(LIST_EVENTS, _events(calendar_id), parameters)

    async def list_window(
        self,
        calendar_id: str,
        *,
        start: datetime,
        end: datetime,
        page_token: str | None = None,
    ) -> Page:
        parameters = {"singleEvents": "true", "orderBy": "startTime"}
        parameters |= _window(start, end, page_token)
        page = await self._page(LIST_EVENTS, _events(calendar_id), parameters)
        # A token made with a window would not see what lies outside of it.
        return msgspec.structs.replace(page, cursor=None)

    async def instances(
        self,
        calendar_id: str,
        series_id: str,
        *,
        start: datetime,
        end: datetime,
        page_token: str | None = None,
    ) -> Page:
        path = f"{_events(calendar_id, series_id)}/instances"
        parameters = _window(start, end, page_token)
        page = await self._page("events.instances", path, parameters)
        return msgspec.structs.replace(page, cursor=None)

    async def get(self, calendar_id: str, event_id: str) -> Item:
        path = _events(calendar_id, event_id)
        content = await self._call("events.get", "GET", path, COMPACT)
        return _read("events.get", content, self._reader.item)

    def read_event(self, item: Item, *, expanded: bool) -> Event | Malformed:
        return read_event(item, expanded=expanded)

    async def watch(
        self,
        calendar_id: str,
        *,
        channel_id: UUID,
        token: str,
        address: str,
        ttl_s: int | None = None,
        id_prefix: str = "",
    ) -> Channel:
        # https://developers.google.com/workspace/calendar/api/guides/push
        wish: dict[str, Any] = {
            "id": f"{id_prefix}{channel_id}",
            "type": "web_hook",
            "token": token,
            "address": address,
        }
        if ttl_s is not None:
            wish["params"] = {"ttl": str(ttl_s)}
        path = f"{_events(calendar_id)}/watch"
        content = await self._call("events.watch", "POST", path, json=wish)
        granted = _read("events.watch", content, _channel_decoder.decode)
        return Channel(channel_id, granted.resource_id, granted.expires_at())

    async def stop(self, channel_id: UUID | str, resource_id: str) -> None:
        channel = {"id": str(channel_id), "resourceId": resource_id}
        try:
            await self._call("channels.stop", "POST", "/channels/stop", json=channel)
        except Gone:
            return  # stopped is stopped, whoever was first

    async def calendars(self) -> list[CalendarEntry]:
        entries: list[CalendarEntry] = []
        page_token: str | None = None
        while True:
            page = await self._calendars_page(page_token)
            entries += [_entry(item) for item in page.items if not item.deleted]
            page_token = page.next_page_token
            if page_token is None:
                return entries

    async def _calendars_page(self, page_token: str | None) -> resources.CalendarList:
        operation, path = "calendarList.list", "/users/me/calendarList"
        parameters = {"maxResults": str(CALENDARS_PAGE_SIZE)}
        parameters |= _given(pageToken=page_token)
        content = await self._call(operation, "GET", path, parameters)
        return _read(operation, content, _calendars_decoder.decode)

    async def _page(
        self, operation: str, path: str, parameters: dict[str, str]
    ) -> Page:
        content = await self._call(operation, "GET", path, parameters | COMPACT)
        return _read(operation, content, self._reader.page)

    async def _call(
        self,
        operation: str,
        method: str,
        path: str,
        parameters: dict[str, str] | None = None,
        json: object = None,
    ) -> bytes:
        """Make one request; what is not a 2xx is raised, sorted."""
        token = await self._access_token()
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                response = await self._http.request(
                    method,
                    self._base_url + path,
                    params=parameters,
                    json=json,
                    headers=HEADERS | {"Authorization": f"Bearer {token}"},
                    timeout=SILENCE_TIMEOUT_S,
                )
        except (httpx2.RequestError, TimeoutError) as problem:
            raise unavailable(operation, problem) from problem
        if not response.is_success:
            raise failure(response, operation, now=self._clock.now())
        return response.content


_channel_decoder = msgspec.json.Decoder(resources.Channel, strict=False)
_calendars_decoder = msgspec.json.Decoder(resources.CalendarList)


def _read(operation: str, content: bytes, reader: Callable[[bytes], T]) -> T:
    """Read an answer; one that makes no sense was made by something in between."""
    try:
        return reader(content)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise unavailable(operation, "unreadableAnswer") from problem


def _events(calendar_id: str, event_id: str | None = None) -> str:
    path = f"/calendars/{quote(calendar_id, safe='')}/events"
    return path if event_id is None else f"{path}/{quote(event_id, safe='')}"


def _window(start: datetime, end: datetime, page_token: str | None) -> dict[str, str]:
    return {
        "timeMin": start.isoformat(),
        "timeMax": end.isoformat(),
        "maxResults": str(PAGE_SIZE),
        **_given(pageToken=page_token),
    }


def _given(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _entry(calendar: resources.CalendarListEntry) -> CalendarEntry:
    return CalendarEntry(
        provider_calendar_id=calendar.id,
        name=calendar.summary_override or calendar.summary,
        time_zone=calendar.time_zone,
        primary=calendar.primary,
        access_role=calendar.access_role,
    )
