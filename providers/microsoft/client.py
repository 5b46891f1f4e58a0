"""Calls to Microsoft Graph's calendars, for one connection."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx2
import msgspec

from providers.calls import BearerCalls
from providers.errors import AccessLost, CursorExpired, Gone, Rejected
from providers.microsoft import resources
from providers.microsoft.events import ItemReader, head, read_event
from providers.microsoft.failures import DELTA, VIEW, failure
from providers.microsoft.links import tail
from providers.microsoft.subscriptions import Subscriptions
from providers.model import (
    CalendarEntry,
    Channel,
    Event,
    Item,
    Malformed,
    Page,
    Provider,
)
from providers.reading import storable
from runtime.clock import Clock, SystemClock

PAGE_SIZE: Final = 200
CALENDARS_PAGE_SIZE: Final = 100
MOST_TRANSLATED: Final = 1000
# Nothing of it is remembered from one request to the next: it goes with each.
PREFER: Final = (
    f'IdType="ImmutableId", outlook.timezone="UTC", odata.maxpagesize={PAGE_SIZE}'
)
# A delta looks through a window; this one is for callers that have none.
BEFORE: Final = timedelta(days=90)
AFTER: Final = timedelta(days=400)
# Whole days lie in a window by the midnights of a zone that is not told.
MARGIN: Final = timedelta(days=1)
ME: Final = "/me"
FORBIDDEN: Final = 403


class MicrosoftClient:
    """Microsoft's half of an adapter that makes calls."""

    parameters: Final = "calendarView/delta;ids=immutable;zone=UTC"
    looks_through_window: Final = True

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
        *,
        projection: bytes = b"",
        clock: Clock | None = None,
    ) -> None:
        """Take what is shared and what is the connection's own, as Google's does."""
        self._clock = clock or SystemClock()
        self._reader = ItemReader(projection)
        self._call = BearerCalls(
            Provider.MICROSOFT,
            http,
            base_url,
            access_token,
            failure=lambda response, operation: failure(
                response, operation, now=self._clock.now()
            ),
        )
        self._subscriptions = Subscriptions(self._call, self._clock)

    async def list_changes(
        self,
        calendar_id: str,
        *,
        cursor: str | None,
        since: datetime | None = None,
        until: datetime | None = None,
        page_token: str | None = None,
    ) -> Page:
        """Return a page of what changed; the window is frozen into the cursor.

        Stubs of occurrences are left out: the series they belong to are named.
        """
        # https://learn.microsoft.com/graph/delta-query-events
        path = page_token or cursor
        if path is None:
            now = self._clock.now()
            window = _window(since or now - BEFORE, until or now + AFTER)
            path = f"{_calendar(calendar_id)}/calendarView/delta?{window}"
        elif not path.startswith(f"{ME}/"):
            raise CursorExpired(Provider.MICROSOFT, DELTA, reason="notOurCursor")
        answer = await self._list(DELTA, path)
        return self._delta_page(answer)

    async def list_window(
        self,
        calendar_id: str,
        *,
        start: datetime,
        end: datetime,
        page_token: str | None = None,
    ) -> Page:
        order = f"$orderby=start/dateTime&$top={PAGE_SIZE}"
        first = f"{_calendar(calendar_id)}/calendarView?{_window(start, end)}&{order}"
        return self._page(await self._list(VIEW, page_token or first), VIEW)

    async def instances(
        self,
        calendar_id: str,
        series_id: str,
        *,
        start: datetime,
        end: datetime,
        page_token: str | None = None,
    ) -> Page:
        operation = "events.instances"
        first = f"{_event(calendar_id, series_id)}/instances?{_window(start, end)}"
        return self._page(await self._list(operation, page_token or first), operation)

    async def get(self, calendar_id: str, event_id: str) -> Item:
        # Below its calendar: a shared calendar's events are not found elsewhere.
        operation, path = "events.get", _event(calendar_id, event_id)
        content = await self._call(operation, "GET", path, headers=_headers())
        return self._call.read(operation, content, self._reader.answer)

    def read_event(self, item: Item, *, expanded: bool) -> Event | Malformed:
        return read_event(item)  # an item says itself what it is

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
        """Subscribe to one calendar; the address is asked while this call waits.

        Where this app has a subscription to it already, that one is answered, under
        the channel id it was made with.
        """
        return await self._subscriptions.create(
            f"{_calendar(calendar_id)}/events".removeprefix("/"),
            channel_id=channel_id,
            token=token,
            address=address,
            ttl_s=ttl_s,
        )

    async def renew(
        self, channel_id: UUID, resource_id: str, *, ttl_s: int | None = None
    ) -> Channel:
        """Extend a channel, and confirm that we may still have it.

        Raises:
            Gone: it is dead: make a new one.
        """
        return await self._subscriptions.renew(channel_id, resource_id, ttl_s=ttl_s)

    async def stop(self, channel_id: UUID | str, resource_id: str) -> None:
        await self._subscriptions.delete(resource_id)

    async def calendars(self) -> list[CalendarEntry]:
        operation = "calendars.list"
        path: str | None = f"{ME}/calendars?$top={CALENDARS_PAGE_SIZE}"
        entries: list[CalendarEntry] = []
        while path is not None:
            content = await self._call(operation, "GET", path)
            page = self._call.read(operation, content, _calendars_decoder.decode)
            entries += [_entry(calendar) for calendar in page.value]
            path = tail(page.next_link, operation)
        return entries

    async def immutable_ids(self, event_ids: Sequence[str]) -> dict[str, str]:
        """Translate ids that others hold, which change whenever an event is moved.

        What is not known any more is left out.
        """
        operation, path = "ids.translate", f"{ME}/translateExchangeIds"
        found: dict[str, str] = {}
        for some in _portions(event_ids, MOST_TRANSLATED):
            wish = {
                "inputIds": some,
                "sourceIdType": "restId",
                "targetIdType": "restImmutableEntryId",
            }
            content = await self._call(operation, "POST", path, json=wish)
            answer = self._call.read(operation, content, _ids_decoder.decode)
            found |= {
                one.source_id: one.target_id
                for one in answer.value
                if one.target_id and one.target_id != one.source_id
            }
        return found

    async def _list(self, operation: str, path: str) -> resources.EventList:
        try:
            content = await self._call(operation, "GET", path, headers=_headers())
        except Gone as gone:
            if gone.status == FORBIDDEN:
                await self._require_access(gone)
            raise
        return self._call.read(operation, storable(content), _events_decoder.decode)

    async def _require_access(self, gone: Gone) -> None:
        """Tell a calendar that is not for us from a sign-in that reads none.

        Graph says the same of both: an account that may list its calendars has a
        sign-in that is good for reading them.
        """
        try:
            await self._call("calendars.list", "GET", f"{ME}/calendars?$top=1")
        except (Gone, Rejected) as refused:
            raise AccessLost(
                Provider.MICROSOFT,
                gone.operation,
                status=refused.status,
                reason=refused.reason,
                request_id=refused.request_id,
            ) from refused

    def _page(self, answer: resources.EventList, operation: str) -> Page:
        items = [self._reader.item(raw, head(raw).id) for raw in answer.value]
        return Page(items, tail(answer.next_link, operation), None, None)

    def _delta_page(self, answer: resources.EventList) -> Page:
        items: dict[str, Item] = {}  # the same one may come twice: the last one counts
        nameless: list[Item] = []
        vanished: list[str] = []
        touched: dict[str, None] = {}
        for raw in answer.value:
            known = head(raw)
            if known.series_master_id:
                touched[known.series_master_id] = None
            if known.removed is not None:
                vanished.append(known.id)
                items.pop(known.id, None)
            elif not known.id:
                nameless.append(self._reader.item(raw, ""))
            elif known.type != "occurrence":
                if known.type == "seriesMaster":
                    touched[known.id] = None  # its occurrences go without a word
                items.pop(known.id, None)
                items[known.id] = self._reader.item(raw, known.id)
        return Page(
            items=[*items.values(), *nameless],
            next_page_token=tail(answer.next_link, DELTA),
            cursor=tail(answer.delta_link, DELTA),
            time_zone=None,
            vanished=[one for one in vanished if one not in items],
            touched_series=[*touched],
        )


_events_decoder = msgspec.json.Decoder(resources.EventList)
_calendars_decoder = msgspec.json.Decoder(resources.CalendarList)
_ids_decoder = msgspec.json.Decoder(resources.TranslatedIds)


def _headers() -> dict[str, str]:
    return {"Prefer": PREFER}


def _calendar(calendar_id: str) -> str:
    return f"{ME}/calendars/{quote(calendar_id, safe='')}"


def _event(calendar_id: str, event_id: str) -> str:
    return f"{_calendar(calendar_id)}/events/{quote(event_id, safe='')}"


def _window(start: datetime, end: datetime) -> str:
    return urlencode(
        {"startDateTime": _utc(start - MARGIN), "endDateTime": _utc(end + MARGIN)}
    )


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _portions(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for begin in range(0, len(ids), size):
        yield list(ids[begin : begin + size])


def _entry(calendar: resources.Calendar) -> CalendarEntry:
    role = "writer" if calendar.can_edit else "reader"
    return CalendarEntry(
        provider_calendar_id=calendar.id,
        name=calendar.name or "",
        time_zone=None,  # an Outlook calendar has none
        primary=bool(calendar.is_default_calendar),
        access_role="owner" if calendar.can_edit and calendar.can_share else role,
    )
