"""Graph's subscriptions: the channels of Outlook.

https://learn.microsoft.com/graph/api/resources/subscription
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import msgspec

from providers.calls import BearerCalls
from providers.errors import Gone, Rejected
from providers.microsoft import resources
from providers.microsoft.failures import SUBSCRIBE
from providers.microsoft.links import tail
from providers.model import Channel, Provider
from providers.reading import Unreadable, instant
from runtime.clock import Clock

PATH: Final = "/subscriptions"
# A little below 10,080 minutes: Graph counts by its own clock.
LONGEST_S: Final = 10_050 * 60
# What clouds and tenants that still hold the older limit of 4,230 minutes take.
OLDER_LONGEST_S: Final = 4_200 * 60
LONGEST_CLIENT_STATE: Final = 128
CHANGE_TYPES: Final = "created,updated,deleted"
# Refused because the address did not answer, not because of the time asked for.
UNANSWERED: Final = "ValidationError"
# The ids in notifications are of the kind that is asked for here.
HEADERS: Final[Mapping[str, str]] = MappingProxyType({"Prefer": 'IdType="ImmutableId"'})

_decoder = msgspec.json.Decoder(resources.Subscription)
_list_decoder = msgspec.json.Decoder(resources.SubscriptionList)


class Subscriptions:
    """Makes, renews, finds and ends subscriptions of one connection."""

    def __init__(self, call: BearerCalls, clock: Clock) -> None:
        self._call = call
        self._clock = clock

    async def create(
        self,
        resource: str,
        *,
        channel_id: UUID,
        token: str,
        address: str,
        ttl_s: int | None,
    ) -> Channel:
        """Make a subscription, or adopt the one that there is."""
        if len(token) > LONGEST_CLIENT_STATE:
            raise Rejected(Provider.MICROSOFT, SUBSCRIBE, reason="clientStateTooLong")
        wish = {
            "changeType": CHANGE_TYPES,
            "notificationUrl": f"{address}?channel={channel_id}",
            "lifecycleNotificationUrl": f"{address}/lifecycle?channel={channel_id}",
            "resource": resource,
            "clientState": token,
        }
        try:
            made = await self._ask(SUBSCRIBE, "POST", PATH, wish, ttl_s)
        except Rejected as rejected:
            known = rejected.status == 409 and await self._find(resource, address)
            if not known:
                raise
            return known
        return _channel(channel_id, made)

    async def renew(
        self, channel_id: UUID, resource_id: str, *, ttl_s: int | None
    ) -> Channel:
        operation, path = "subscriptions.update", f"{PATH}/{_id(resource_id)}"
        made = await self._ask(operation, "PATCH", path, {}, ttl_s)
        return _channel(channel_id, made)

    async def delete(self, resource_id: str) -> None:
        path = f"{PATH}/{_id(resource_id)}"
        try:
            await self._call("subscriptions.delete", "DELETE", path)
        except Gone:
            return  # stopped is stopped, whoever was first

    async def _ask(
        self,
        operation: str,
        method: str,
        path: str,
        wish: dict[str, Any],
        ttl_s: int | None,
    ) -> resources.Subscription:
        """Ask for as long a life as we may have: the longest differs by cloud."""
        wanted_s = min(ttl_s or LONGEST_S, LONGEST_S)
        try:
            return await self._ask_for(operation, method, path, wish, wanted_s)
        except Rejected as rejected:
            too_long = rejected.status == 400 and rejected.reason != UNANSWERED
            if not too_long or wanted_s <= OLDER_LONGEST_S:
                raise
        return await self._ask_for(operation, method, path, wish, OLDER_LONGEST_S)

    async def _ask_for(
        self,
        operation: str,
        method: str,
        path: str,
        wish: dict[str, Any],
        life_s: int,
    ) -> resources.Subscription:
        ends_at = self._clock.now() + timedelta(seconds=life_s)
        body = wish | {
            "expirationDateTime": f"{ends_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        }
        content = await self._call(operation, method, path, json=body, headers=HEADERS)
        return self._call.read(operation, content, _decoder.decode)

    async def _find(self, resource: str, address: str) -> Channel | None:
        """Look for a subscription of ours by the channel id in its address."""
        operation = "subscriptions.list"
        path: str | None = PATH
        while path is not None:
            content = await self._call(operation, "GET", path)
            page = self._call.read(operation, content, _list_decoder.decode)
            for one in page.value:
                channel_id = _ours(one, address)
                same = (one.resource or "").lstrip("/") == resource
                if channel_id is not None and same:
                    return _channel(channel_id, one)
            path = tail(page.next_link, operation)
        return None


def _ours(subscription: resources.Subscription, address: str) -> UUID | None:
    """Return the channel that a subscription to our address was made for."""
    url = subscription.notification_url or ""
    if url.partition("?")[0] != address:
        return None
    named = parse_qs(urlsplit(url).query).get("channel", ())
    try:
        return UUID(next(iter(named), ""))
    except ValueError:
        return None


def _channel(channel_id: UUID, made: resources.Subscription) -> Channel:
    """Read back what was granted: it may be more or less than asked for."""
    try:
        expires_at: datetime | None = instant(
            made.expiration_date_time, "expirationDateTime"
        )
    except Unreadable:
        expires_at = None
    return Channel(channel_id, made.id, expires_at)


def _id(resource_id: str) -> str:
    """Return an id that can stand in a path: Graph's are UUIDs."""
    if not all(one.isalnum() or one == "-" for one in resource_id):
        raise Rejected(Provider.MICROSOFT, "subscriptions", reason="notASubscriptionId")
    return resource_id
