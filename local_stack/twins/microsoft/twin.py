"""An Outlook of our own: Microsoft Graph's calendars as an ASGI app."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx2
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from local_stack.twins.calls import CallLog
from local_stack.twins.fault_routes import fault_routes
from local_stack.twins.microsoft.api import Api
from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.control import ControlRoutes
from local_stack.twins.microsoft.delta import Deltas
from local_stack.twins.microsoft.guests import send_to_guests
from local_stack.twins.microsoft.http import ApiRoutes
from local_stack.twins.microsoft.memory import dump, load
from local_stack.twins.microsoft.oauth import OAuth
from local_stack.twins.microsoft.oauth_routes import OAuthRoutes
from local_stack.twins.microsoft.people import Account, People
from local_stack.twins.microsoft.personal_calendars import Calendar
from local_stack.twins.microsoft.push import PushSender
from local_stack.twins.microsoft.quota import MailboxQuota
from local_stack.twins.microsoft.state import (
    CalendarState,
    Change,
    EventRecord,
    Store,
)
from local_stack.twins.microsoft.subscription_api import SubscriptionApi
from local_stack.twins.microsoft.subscriptions import Subscription, Subscriptions
from local_stack.twins.microsoft.writer import Writer
from local_stack.twins.movable_clock import MovableClock
from local_stack.twins.switchboard import Switchboard
from runtime.clock import Clock, SystemClock


class MicrosoftTwin:
    """The twin of Microsoft Graph's calendars and of its OAuth server.

    Mount it in process (`httpx2.ASGITransport(twin)`) or on loopback
    (`serving(twin)`). Its state may be changed from any thread; notifications go out
    from the event loop that serves it.
    """

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        self.clock = MovableClock(clock or SystemClock())
        self.behaviour = behaviour or Behaviour()
        self.switchboard = Switchboard()
        self.store = Store(self.clock)
        self.oauth = OAuth(self.clock)
        self.subscriptions = Subscriptions(self.clock, self.store, self.behaviour)
        self.pushes = PushSender(
            self.behaviour, self.switchboard, self.store.accounts.__getitem__
        )
        self.calls = CallLog()
        writer = Writer(self.store, self.behaviour)
        self.people = People(self.store, writer, self.oauth)
        self.api = Api(
            self.store, writer, Deltas(self.store, self.behaviour), self.behaviour
        )
        self._on_change: Callable[[], None] = lambda: None
        self.store.on_changes = self._announce
        self.store.on_write = self._written
        self._router = Router(self._routes(), lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._router(scope, receive, send)

    async def __aenter__(self) -> Self:
        self.pushes.use_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop sending."""
        await self.pushes.aclose()

    def account(
        self, email: str, *, name: str | None = None, time_zone: str = "Europe/Berlin"
    ) -> Account:
        """Return an account with its default calendar; a new address makes one."""
        return self.people.account(email, name=name, time_zone=time_zone)

    def calendar(self, calendar_id: str) -> Calendar:
        """Return a calendar, as its owner sees it."""
        return self.people.calendar(calendar_id)

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""
        return dump(self)

    def load(self, document: bytes) -> None:
        """Take over what another twin knew: events, tokens, cursors, subscriptions.

        Raises:
            Unreadable: nothing was taken over.
        """
        load(self, document)

    def forget_receivers(self) -> None:
        """End every subscription: who was notified is no longer there."""
        with self.store.exclusive():
            self.subscriptions.by_id.clear()

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change of a calendar; it may come from any thread."""
        self._on_change = on_change

    def deliver_to(self, prefix: str, transport: httpx2.AsyncBaseTransport) -> None:
        """Send notifications below a prefix through a transport."""
        self.pushes.deliver_to(prefix, transport)

    def ask_to_reauthorize(self, subscription_id: str) -> bool:
        """Say `reauthorizationRequired`; False where no lifecycle URL was given."""
        return self.pushes.tell_lifecycle(
            self._subscription(subscription_id), "reauthorizationRequired"
        )

    def remove_subscription(self, subscription_id: str) -> bool:
        """Take a subscription away, and say `subscriptionRemoved`."""
        subscription = self._subscription(subscription_id)
        self.subscriptions.remove(subscription_id)
        return self.pushes.tell_lifecycle(subscription, "subscriptionRemoved")

    def say_missed(self, subscription_id: str) -> bool:
        """Say that notifications were not delivered."""
        return self.pushes.tell_lifecycle(self._subscription(subscription_id), "missed")

    def say_all_missed(self) -> int:
        """Say so to everybody whose items were discarded; returns to how many."""
        told = 0
        for health in self.pushes.hosts.by_name.values():
            missed, health.missed = health.missed, set()
            live = (self.subscriptions.by_id.get(one) for one in sorted(missed))
            told += sum(
                self.pushes.tell_lifecycle(one, "missed") for one in live if one
            )
        return told

    def _subscription(self, subscription_id: str) -> Subscription:
        return self.subscriptions.by_id[subscription_id]

    def _routes(self) -> list[Any]:
        routes = ApiRoutes(
            self.store,
            self.oauth,
            MailboxQuota(self.clock, self.behaviour),
            self.switchboard,
            self.calls,
            self.pushes.use_running_loop,
        )
        others = SubscriptionApi(self.subscriptions, self.pushes).operations()
        sign_in = OAuthRoutes(self.oauth, self.store, self.switchboard, self.calls)
        return [
            *routes.routes(self.api.operations(), others),
            *fault_routes(self.switchboard),
            *ControlRoutes(self).routes(),
            *sign_in.routes(),
        ]

    def _announce(self, changes: list[Change]) -> None:
        for change in changes:
            for subscription in self.subscriptions.hearing(change.calendar):
                self.pushes.tell(subscription, change)
        self._on_change()

    def _written(self, calendar: CalendarState, record: EventRecord) -> None:
        send_to_guests(self.store, calendar, record)

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        async with self:
            yield
