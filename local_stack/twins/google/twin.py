"""A Google Calendar of our own: its API as an ASGI app, its people as objects."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx2
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from local_stack.twins.calls import CallLog
from local_stack.twins.fault_routes import fault_routes
from local_stack.twins.google.api import Api
from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.channels import Channels
from local_stack.twins.google.control import ControlRoutes
from local_stack.twins.google.guests import send_to_guests
from local_stack.twins.google.http import ApiRoutes
from local_stack.twins.google.listing import Lister
from local_stack.twins.google.memory import dump, load
from local_stack.twins.google.oauth import OAuth
from local_stack.twins.google.oauth_routes import OAuthRoutes
from local_stack.twins.google.people import Account, People
from local_stack.twins.google.personal_calendars import Calendar
from local_stack.twins.google.push import PushSender
from local_stack.twins.google.quota import ProjectQuota
from local_stack.twins.google.state import CalendarState, EventRecord, Store
from local_stack.twins.google.writer import Writer
from local_stack.twins.movable_clock import MovableClock
from local_stack.twins.switchboard import Switchboard
from runtime.clock import Clock, SystemClock


class GoogleTwin:
    """The twin of Google Calendar.

    Mount it in process (`httpx2.ASGITransport(twin)`) or on loopback
    (`serving(twin)`). Its state may be changed from any thread; pushes go out from
    the event loop that serves it.
    """

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        self.clock = MovableClock(clock or SystemClock())
        self.behaviour = behaviour or Behaviour()
        self.switchboard = Switchboard()
        self.store = Store(self.clock)
        self.oauth = OAuth(self.clock)
        self.channels = Channels(self.clock, self.behaviour)
        self.pushes = PushSender(self.behaviour, self.switchboard)
        self.calls = CallLog()
        self.people = People(self.store, Writer(self.store, self.behaviour), self.oauth)
        self.api = Api(
            self.store,
            self.people.writer,
            Lister(self.store, self.behaviour),
            self.channels,
            self.pushes,
        )
        self._on_change: Callable[[], None] = lambda: None
        self.store.on_change = self._announce
        self.store.on_write = self._written
        self._router = Router(
            [
                *self._api_routes().routes(),
                *OAuthRoutes(
                    self.oauth, self.store, self.switchboard, self.calls
                ).routes(),
                *fault_routes(self.switchboard),
                *ControlRoutes(self).routes(),
            ],
            lifespan=self._lifespan,
        )

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
        """Return an account with its primary calendar; a new address makes one."""
        return self.people.account(email, name=name, time_zone=time_zone)

    def calendar(self, calendar_id: str) -> Calendar:
        """Return a calendar, as its owner sees it."""
        return self.people.calendar(calendar_id)

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""
        return dump(self)

    def load(self, document: bytes) -> None:
        """Take over what another twin knew: events, tokens, cursors, channels.

        Raises:
            Unreadable: nothing was taken over.
        """
        load(self, document)

    def forget_receivers(self) -> None:
        """End every channel: who was pushed to is no longer there."""
        for channel in self.channels.by_id.values():
            channel.expires_at = self.clock.now()

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change of a calendar; it may come from any thread."""
        self._on_change = on_change

    def deliver_to(self, prefix: str, transport: httpx2.AsyncBaseTransport) -> None:
        """Send pushes below a prefix (`https://hooks.test`) through a transport."""
        self.pushes.deliver_to(prefix, transport)

    def _api_routes(self) -> ApiRoutes:
        quota = ProjectQuota(self.clock, self.behaviour)
        return ApiRoutes(
            self.api, self.oauth, quota, self.behaviour, self.switchboard, self.calls
        )

    def _announce(self, calendar: CalendarState) -> None:
        for channel in self.channels.of(calendar):
            self.pushes.post(self.pushes.message(channel, "exists"))
        self._on_change()

    def _written(self, calendar: CalendarState, record: EventRecord) -> None:
        send_to_guests(self.store, calendar, record)
        late = self.behaviour.late_etag_s
        if late is not None:
            self.pushes.later(late, lambda: self.store.touch(calendar, record))

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        async with self:
            yield
