"""Calls to the Cal.com API v2, for one connection.

https://cal.com/docs/api-reference/v2
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import httpx2
import msgspec

from providers.bookings import Booking, BookingAccount, BookingPage, Webhook
from providers.calcom import resources
from providers.calcom.bookings import TRIGGERS
from providers.calcom.failures import WATCH, failure
from providers.calcom.fetched import read_fetched
from providers.calls import BearerCalls
from providers.errors import Gone, ProviderError, Rejected
from providers.model import Channel, Malformed, Provider
from providers.reading import Unreadable, instant, storable
from runtime.clock import Clock, SystemClock

# Without it an older shape is answered, silently.
VERSION: Final = {"cal-api-version": "2024-08-13"}
PAGE_SIZE: Final = 100
WEBHOOKS_PAGE_SIZE: Final = 250  # the most that Cal.com gives
EVERY_STATUS: Final = "upcoming,recurring,past,cancelled,unconfirmed"
TEMPLATE: Final = (
    "it has a custom payload template: remove the template in Cal.com's settings, "
    "under Developer, Webhooks"
)
# Whether the bound counts itself is not said; what comes twice does no harm.
OVERLAP: Final = timedelta(milliseconds=1)

_answer_decoder = msgspec.json.Decoder(resources.Answer)
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_webhook_decoder = msgspec.json.Decoder(resources.Webhook)
_webhooks_decoder = msgspec.json.Decoder(list[resources.Webhook])
_me_decoder = msgspec.json.Decoder(resources.Me)
_fetched_decoder = msgspec.json.Decoder(resources.Fetched)


class CalcomClient:
    """Cal.com's half of an adapter that makes calls."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
        *,
        clock: Clock | None = None,
    ) -> None:
        now = (clock or SystemClock()).now

        def sorted_failure(response: httpx2.Response, operation: str) -> ProviderError:
            return failure(response, operation, now=now())

        self._call = BearerCalls(
            Provider.CALCOM, http, base_url, access_token, failure=sorted_failure
        )

    async def account(self) -> BookingAccount:
        content = await self._data("me.get", "/me")
        me = self._call.read("me.get", content, _me_decoder.decode)
        return BookingAccount(
            provider_id=str(me.id),
            email=me.email,
            name=me.name or me.username or "",
            time_zone=me.time_zone,
            organization_id=str(me.organization_id) if me.organization_id else None,
        )

    async def sweep(
        self,
        *,
        updated_since: datetime,
        starting_from: datetime,
        until: datetime,
        page_token: str | None = None,
    ) -> BookingPage:
        """Return a part of what was changed since, oldest change first.

        The window of starts is not used. Pages go on from the last change seen: an
        offset would step over what is changed while one reads.
        """
        since, skipped = _position(page_token) or (updated_since, 0)
        parameters = {
            "status": EVERY_STATUS,
            "afterUpdatedAt": _utc(since),
            "sortUpdatedAt": "asc",
            "take": str(PAGE_SIZE),
            "skip": str(skipped),
        }
        operation = "bookings.list"
        content = await self._data(operation, "/bookings", parameters, VERSION)
        items = self._call.read(operation, content, _items_decoder.decode)
        bookings: list[Booking | Malformed] = []
        for item in items:
            bookings += _several(read_fetched(bytes(item)))
        return BookingPage(bookings, _next_position(items, since, skipped))

    async def get(self, provider_id: str) -> list[Booking | Malformed]:
        """Read a booking, with its ids in the host's calendars, or all of a series."""
        operation, path = "bookings.get", _booking(provider_id)
        content = await self._data(operation, path, headers=VERSION)
        is_series = content.lstrip().startswith(b"[")
        items = (
            self._call.read(operation, content, _items_decoder.decode)
            if is_series
            else [content]
        )
        found: list[Booking | Malformed] = []
        for item in items:
            known = None if is_series else await self._references(provider_id)
            found += _several(read_fetched(bytes(item), known))
        return found

    async def cancel(
        self, provider_id: str, *, reason: str, seat_id: str | None = None
    ) -> None:
        """Cancel a booking; of a seated one the seat, or everybody would be cancelled.

        Cal.com wants a host's reason; without one it refuses.
        """
        operation, path = "bookings.cancel", f"{_booking(provider_id)}/cancel"
        body = {"cancellationReason": reason or "Cancelled"}
        body |= {} if seat_id is None else {"seatUid": seat_id}
        try:
            await self._call(operation, "POST", path, json=body, headers=VERSION)
        except Rejected as rejected:
            if rejected.reason != "alreadyCancelled":
                raise

    async def watch(
        self, *, channel_id: UUID, address: str, signing_key: str | None
    ) -> Channel:
        """Have the account's bookings posted to the address, used only once, signed."""
        if not signing_key:
            raise Rejected(Provider.CALCOM, WATCH, reason="secretMissing")
        body = {
            "subscriberUrl": address,
            "triggers": sorted(TRIGGERS),
            "active": True,
            "secret": signing_key,
        }
        try:
            content = await self._call(WATCH, "POST", "/webhooks", json=body)
        except Rejected:
            # One address, one webhook: ours may have landed before.
            existing = await self._at(address)
            if existing is None:
                raise
            return Channel(channel_id, existing, None)
        made = self._call.read(WATCH, self._unwrapped(WATCH, content), _webhook)
        if made.problem:
            raise Rejected(Provider.CALCOM, WATCH, reason="customTemplate")
        return Channel(channel_id, made.resource_id, None)

    async def rekey(self, resource_id: str, signing_key: str) -> None:
        """Have a webhook signed with another key from now on."""
        path = f"/webhooks/{quote(resource_id, safe='')}"
        await self._call("webhooks.update", "PATCH", path, json={"secret": signing_key})

    async def webhooks(self) -> list[Webhook]:
        """List the account's webhooks; a problem says what to mend."""
        operation = "webhooks.list"
        found: list[Webhook] = []
        while True:
            parameters = {"take": str(WEBHOOKS_PAGE_SIZE), "skip": str(len(found))}
            content = await self._data(operation, "/webhooks", parameters)
            page = self._call.read(operation, content, _webhooks_decoder.decode)
            found += [_told(one) for one in page]
            if len(page) < WEBHOOKS_PAGE_SIZE:
                return found

    async def stop(self, resource_id: str) -> None:
        """End a webhook; one that is gone already is as good."""
        path = f"/webhooks/{quote(resource_id, safe='')}"
        try:
            await self._call("webhooks.delete", "DELETE", path)
        except Gone:
            return  # stopped is stopped, whoever was first

    async def _at(self, address: str) -> str | None:
        known = {one.address: one.resource_id for one in await self.webhooks()}
        return known.get(address)

    async def _references(self, uid: str) -> bytes | None:
        path = f"{_booking(uid)}/references"
        try:
            return await self._data("bookings.references", path, headers=VERSION)
        except (Gone, Rejected):
            return None  # a self-hosted Cal.com may be older than this call

    async def _data(
        self,
        operation: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        content = await self._call(
            operation, "GET", path, params=parameters, headers=headers or {}
        )
        return self._unwrapped(operation, content)

    def _unwrapped(self, operation: str, content: bytes) -> bytes:
        answer = self._call.read(operation, storable(content), _answer_decoder.decode)
        return bytes(answer.data)


def _webhook(content: bytes) -> Webhook:
    return _told(_webhook_decoder.decode(content))


def _told(webhook: resources.Webhook) -> Webhook:
    problem = TEMPLATE if webhook.payload_template else None
    if not webhook.active:
        problem = "it is switched off"
    return Webhook(str(webhook.id), webhook.subscriber_url, webhook.active, problem)


def _several(found: list[Booking] | Malformed) -> list[Any]:
    return [found] if isinstance(found, Malformed) else list(found)


def _booking(uid: str) -> str:
    return f"/bookings/{quote(uid, safe='')}"


def _position(page_token: str | None) -> tuple[datetime, int] | None:
    if page_token is None:
        return None
    since, _, skipped = page_token.partition("|")
    return datetime.fromisoformat(since), int(skipped)


def _next_position(
    items: list[msgspec.Raw], since: datetime, skipped: int
) -> str | None:
    """Go on from the last change; only where a whole page shares one, by counting."""
    if len(items) < PAGE_SIZE:
        return None
    reached = _updated_at(items[-1])
    onwards = since if reached is None else reached - OVERLAP
    if onwards > since:
        return f"{onwards.isoformat()}|0"
    return f"{since.isoformat()}|{skipped + len(items)}"


def _updated_at(item: msgspec.Raw) -> datetime | None:
    try:
        return instant(_fetched_decoder.decode(item).updated_at, "updatedAt")
    except (msgspec.DecodeError, Unreadable):
        return None


def _utc(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
