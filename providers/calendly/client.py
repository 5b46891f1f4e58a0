"""Calls to the Calendly API v2, for one connection.

There is no "updated since" and no change token: what webhooks missed is found by
sweeping a window of start times.

https://developer.calendly.com/api-docs
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx2
import msgspec

from providers.bookings import Booking, BookingAccount, BookingPage, Webhook
from providers.calendly import resources
from providers.calendly.bookings import read_fetched
from providers.calendly.failures import WATCH, failure
from providers.calls import BearerCalls, given
from providers.errors import Gone, Rejected
from providers.model import Channel, Malformed, Provider
from providers.reading import storable

# Each event costs one more call for its invitees, of 500 a minute.
EVENTS_PAGE_SIZE: Final = 20
PAGE_SIZE: Final = 100  # the most that Calendly gives
EVENTS: Final = (
    "invitee.created",
    "invitee.canceled",
    "invitee_no_show.created",
    "invitee_no_show.deleted",
)
SUBSCRIPTIONS: Final = "/webhook_subscriptions"
# URIs come from deliveries and answers: only paths of these forms are asked for.
ID: Final = "[A-Za-z0-9_-]+"
INVITEE: Final = re.compile(rf"/scheduled_events/{ID}/invitees/{ID}")
EVENT: Final = re.compile(rf"/scheduled_events/{ID}")
SUBSCRIPTION: Final = re.compile(rf"/webhook_subscriptions/{ID}")

_single_decoder = msgspec.json.Decoder(resources.Single)
_collection_decoder = msgspec.json.Decoder(resources.Collection)
_user_decoder = msgspec.json.Decoder(resources.User)
_event_decoder = msgspec.json.Decoder(resources.ScheduledEvent)
_subscription_decoder = msgspec.json.Decoder(resources.WebhookSubscription)


class CalendlyClient:
    """Calendly's half of an adapter that makes calls."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
    ) -> None:
        self._call = BearerCalls(
            Provider.CALENDLY, http, base_url, access_token, failure=failure
        )
        self._me: resources.User | None = None

    async def account(self) -> BookingAccount:
        me = await self._user()
        return BookingAccount(
            provider_id=me.uri,
            email=me.email,
            name=me.name,
            time_zone=me.timezone,
            organization_id=me.current_organization,
        )

    async def sweep(
        self,
        *,
        updated_since: datetime,
        starting_from: datetime,
        until: datetime,
        page_token: str | None = None,
    ) -> BookingPage:
        """Return a part of what starts in the window, live or not; the rest is unused.

        Canceled events are listed too, with their canceled invitees.
        """
        me = await self._user()
        parameters = {
            "user": me.uri,
            "min_start_time": _utc(starting_from),
            "max_start_time": _utc(until),
            "sort": "start_time:asc",
            "count": str(EVENTS_PAGE_SIZE),
            **given(page_token=page_token),
        }
        operation = "scheduled_events.list"
        page = await self._page(operation, "/scheduled_events", parameters)
        bookings: list[Booking | Malformed] = []
        for event in page.collection:
            bookings += await self._invitees(bytes(event))
        return BookingPage(bookings, page.pagination.next_page_token)

    async def get(self, provider_id: str) -> list[Booking | Malformed]:
        path = _path(provider_id, INVITEE, "invitees.get")
        invitee = await self._single("invitees.get", path)
        event = await self._event(path.partition("/invitees/")[0])
        return [read_fetched(invitee, event)]

    async def cancel(
        self, provider_id: str, *, reason: str, seat_id: str | None = None
    ) -> None:
        """Cancel the invitee's event, if nobody else is in it.

        Raises:
            Rejected: `severalInvitees`: Calendly can only cancel them all.
        """
        operation = "scheduled_events.cancel"
        path = _path(provider_id, INVITEE, operation).partition("/invitees/")[0]
        content = await self._event(path)
        event = self._call.read(operation, content, _event_decoder.decode)
        counter = event.invitees_counter
        if counter is not None and (counter.active or 0) > 1:
            raise Rejected(Provider.CALENDLY, operation, reason="severalInvitees")
        body = {"reason": reason[:10_000]}
        try:
            await self._call(operation, "POST", f"{path}/cancellation", json=body)
        except Rejected as rejected:
            if rejected.reason != "alreadyCanceled":
                raise

    async def watch(
        self, *, channel_id: UUID, address: str, signing_key: str | None
    ) -> Channel:
        """Have this user's bookings posted to the address, which is used only once.

        With an OAuth app there is no signing key: Calendly uses the app's own.

        Raises:
            Unwatchable: the plan has no webhooks, or this member may make none.
        """
        me = await self._user()
        body = {
            "url": address,
            "events": list(EVENTS),
            "organization": me.current_organization,
            "user": me.uri,
            "scope": "user",
            **given(signing_key=signing_key),
        }
        try:
            content = await self._call(WATCH, "POST", SUBSCRIPTIONS, json=body)
        except Rejected as rejected:
            # Ours landed before, and its answer was lost.
            existing = rejected.status == 409 and await self._at(address)
            if not existing:
                raise
            return Channel(channel_id, existing, None)
        made = self._call.read(WATCH, content, _read_subscription)
        return Channel(channel_id, made.uri, None)

    async def webhooks(self) -> list[Webhook]:
        """List this user's webhooks; one that is disabled is to be made anew."""
        operation = "webhook_subscriptions.list"
        me = await self._user()
        parameters = {
            **given(organization=me.current_organization),
            "user": me.uri,
            "scope": "user",
            "count": str(PAGE_SIZE),
        }
        found: list[Webhook] = []
        page_token: str | None = None
        while True:
            page = await self._page(
                operation,
                SUBSCRIPTIONS,
                parameters | given(page_token=page_token),
            )
            read = _subscription_decoder.decode
            found += [
                _webhook(self._call.read(operation, bytes(one), read))
                for one in page.collection
            ]
            page_token = page.pagination.next_page_token
            if page_token is None:
                return found

    async def stop(self, resource_id: str) -> None:
        """End a webhook; one that is gone already is as good."""
        operation = "webhook_subscriptions.delete"
        try:
            await self._call(
                operation, "DELETE", _path(resource_id, SUBSCRIPTION, operation)
            )
        except Gone:
            return  # stopped is stopped, whoever was first

    async def _user(self) -> resources.User:
        if self._me is None:
            content = await self._single("users.me", "/users/me")
            self._me = self._call.read("users.me", content, _user_decoder.decode)
        return self._me

    async def _at(self, address: str) -> str | None:
        known = {one.address: one.resource_id for one in await self.webhooks()}
        return known.get(address)

    async def _event(self, path: str) -> bytes:
        return await self._single("scheduled_events.get", path)

    async def _invitees(self, event: bytes) -> list[Booking | Malformed]:
        operation = "invitees.list"
        uri = self._call.read(operation, event, _event_decoder.decode).uri
        path = f"{_path(uri, EVENT, operation)}/invitees"
        found: list[Booking | Malformed] = []
        page_token: str | None = None
        while True:
            parameters = {"count": str(PAGE_SIZE), **given(page_token=page_token)}
            page = await self._page(operation, path, parameters)
            found += [read_fetched(bytes(one), event) for one in page.collection]
            page_token = page.pagination.next_page_token
            if page_token is None:
                return found

    async def _single(self, operation: str, path: str) -> bytes:
        content = storable(await self._call(operation, "GET", path))
        answer = self._call.read(operation, content, _single_decoder.decode)
        return bytes(answer.resource)

    async def _page(
        self, operation: str, path: str, parameters: dict[str, str]
    ) -> resources.Collection:
        content = await self._call(operation, "GET", path, params=parameters)
        return self._call.read(operation, storable(content), _collection_decoder.decode)


def _read_subscription(content: bytes) -> resources.WebhookSubscription:
    return _subscription_decoder.decode(_single_decoder.decode(content).resource)


def _webhook(subscription: resources.WebhookSubscription) -> Webhook:
    active = subscription.state == "active"
    return Webhook(
        subscription.uri,
        subscription.callback_url,
        active,
        None if active else "disabled after a day of failures: make it anew",
    )


def _path(uri: str, form: re.Pattern[str], operation: str) -> str:
    """Return the path of a URI; its host is not asked, whatever it is."""
    path = urlsplit(uri).path
    if not form.fullmatch(path):
        raise Rejected(Provider.CALENDLY, operation, reason="notAUriOfCalendly")
    return path


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
