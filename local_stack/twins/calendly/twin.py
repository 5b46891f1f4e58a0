"""A Calendly of our own: its API as an ASGI app, its people as objects."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx2
import msgspec
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from local_stack.twins.calendly.actions import Actions
from local_stack.twins.calendly.api import Api
from local_stack.twins.calendly.behaviour import Behaviour
from local_stack.twins.calendly.control import HostRoutes
from local_stack.twins.calendly.oauth import OAuth
from local_stack.twins.calendly.people import Host
from local_stack.twins.calendly.state import (
    Known,
    Store,
    User,
    invalid,
    new_id,
    refusal,
)
from local_stack.twins.calendly.webhooks import Webhooks
from local_stack.twins.calls import CallLog
from local_stack.twins.control_routes import ControlRoutes
from local_stack.twins.fault_routes import fault_routes
from local_stack.twins.memory import Unreadable
from local_stack.twins.movable_clock import MovableClock
from local_stack.twins.outbox import Outbox
from local_stack.twins.posts import Poster
from local_stack.twins.quota import Quota
from local_stack.twins.rest import Refusal, Rest
from local_stack.twins.switchboard import Fault, Switchboard
from runtime.clock import Clock, SystemClock

NO_LIMIT = 1_000_000


class CalendlyTwin:
    """The twin of Calendly: API at `/`, OAuth at `/oauth`.

    Mount it in process (`httpx2.ASGITransport(twin)`) or on loopback
    (`local_stack.twins.serve.serving(twin)`). Its people may act from any thread;
    webhooks go out from the event loop that serves it.
    """

    def __init__(
        self, clock: Clock | None = None, behaviour: Behaviour | None = None
    ) -> None:
        self.clock = MovableClock(clock or SystemClock())
        self.behaviour = behaviour or Behaviour()
        self.switchboard = Switchboard()
        self.outbox = Outbox()
        self.calls = CallLog()
        self.store = Store(self.clock)
        self.oauth = OAuth(self.store, self.behaviour)
        self.webhooks = Webhooks(
            self.store, self.behaviour, self.outbox, self.switchboard
        )
        self.actions = Actions(self)
        self._quota = Quota(self.clock)
        rest = Rest(
            self.switchboard,
            self.calls,
            self.outbox,
            authenticate=self.oauth.who,
            spend=self._spend,
            ordered=_ordered,
            revoke=self.oauth.revoke_account,
            malformed=lambda: invalid("The body could not be read"),
        )
        control = ControlRoutes(
            clock=self.clock,
            behaviour=self.behaviour,
            outbox=self.outbox,
            poster=self.pushes,
            calls=self.calls,
        )
        self._router = Router(
            [
                *Api(self).routes(rest),
                *self.oauth.routes(rest),
                *fault_routes(self.switchboard),
                *HostRoutes(self, control).routes(),
            ],
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._router(scope, receive, send)

    async def __aenter__(self) -> Self:
        self.outbox.use_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.outbox.aclose()

    @property
    def pushes(self) -> Poster:
        """What was posted, and who listens to it."""
        return self.webhooks.poster

    def host(
        self,
        email: str,
        *,
        name: str | None = None,
        time_zone: str = "Europe/Berlin",
        colleague_of: str | None = None,
        has_webhooks: bool = True,
    ) -> Host:
        """Return somebody who can be booked; a new address makes an account.

        Everybody has an organization of their own, unless they share a colleague's.
        """
        with self.store.exclusive() as known:
            if email not in known.users:
                organization = (
                    known.users[colleague_of].organization_id
                    if colleague_of
                    else new_id()
                )
                known.users[email] = User(
                    new_id(),
                    email,
                    name or email.partition("@")[0],
                    time_zone,
                    organization,
                    has_webhooks,
                )
        return Host(self, email)

    def dump(self) -> bytes:
        """Return everything the twin knows, for `load` after a restart."""
        with self.store.at_rest() as known:
            return msgspec.json.encode(known)

    def load(self, document: bytes) -> None:
        """Take over what another twin knew.

        Raises:
            Unreadable: nothing was taken over.
        """
        try:
            known = msgspec.json.decode(document, type=Known)
        except msgspec.MsgspecError as problem:
            raise Unreadable(f"this is no twin's memory: {problem}") from problem
        with self.store.exclusive():
            self.store.known = known

    def forget_receivers(self) -> None:
        """Remove every webhook: who was posted to is no longer there."""
        with self.store.exclusive() as known:
            known.subscriptions.clear()

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change; it may come from any thread."""
        self.store.on_change = on_change

    def deliver_to(self, prefix: str, transport: httpx2.AsyncBaseTransport) -> None:
        """Post below a prefix (`https://hooks.test`) through a transport."""
        self.outbox.deliver_to(prefix, transport)

    def _spend(self, _: str, who: str) -> dict[str, str]:
        limit = self.behaviour.requests_per_minute or NO_LIMIT
        left, reset_s = self._quota.spend(who, limit)
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, left)),
            "X-RateLimit-Reset": str(reset_s),
        }
        if left < 0:
            raise refusal(429, "Too Many Requests", "Rate limit exceeded", headers)
        return headers

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        async with self:
            yield


def _ordered(fault: Fault) -> Refusal:
    headers = {}
    if fault.status == 429:
        headers["X-RateLimit-Reset"] = str(round(fault.retry_after_s or 60))
    title = fault.reason or (
        "Internal Server Error" if fault.status >= 500 else "Error"
    )
    return refusal(fault.status, title, title, headers)
