"""A Cal.com of our own: its API as an ASGI app, its people as objects."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx2
import msgspec
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from local_stack.twins.calcom.actions import Actions
from local_stack.twins.calcom.api import Api
from local_stack.twins.calcom.behaviour import Behaviour
from local_stack.twins.calcom.bodies import Bodies
from local_stack.twins.calcom.control import HostRoutes
from local_stack.twins.calcom.people import Host
from local_stack.twins.calcom.state import Known, Store, User, bad_request, refusal
from local_stack.twins.calcom.webhooks import Webhooks
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
CODES = {
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    429: "TooManyRequestsException",
}


class CalcomTwin:
    """The twin of Cal.com: its API v2 below `/v2`.

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
        self.bodies = Bodies(self.store)
        self.webhooks = Webhooks(
            self.store, self.behaviour, self.outbox, self.switchboard
        )
        self.actions = Actions(self)
        self._quota = Quota(self.clock)
        rest = Rest(
            self.switchboard,
            self.calls,
            self.outbox,
            authenticate=self._who,
            spend=self._spend,
            ordered=_ordered,
            revoke=self.revoke,
            malformed=lambda: bad_request("The body could not be read"),
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
        self, email: str, *, name: str | None = None, time_zone: str = "Europe/Berlin"
    ) -> Host:
        """Return somebody who can be booked; a new address makes an account."""
        with self.store.exclusive() as known:
            if email not in known.users:
                called = name or email.partition("@")[0]
                made = User(self.store.new_id(), email, called, time_zone)
                known.users[email] = made
        return Host(self, email)

    def revoke(self, email: str) -> None:
        """Delete every key of an account."""
        with self.store.exclusive() as known:
            for key in [key for key, whose in known.keys.items() if whose == email]:
                del known.keys[key]

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
            known.webhooks.clear()

    def follow(self, on_change: Callable[[], None]) -> None:
        """Call this after every change; it may come from any thread."""
        self.store.on_change = on_change

    def deliver_to(self, prefix: str, transport: httpx2.AsyncBaseTransport) -> None:
        """Post below a prefix (`https://hooks.test`) through a transport."""
        self.outbox.deliver_to(prefix, transport)

    def _who(self, key: str) -> str:
        email = self.store.known.keys.get(key)
        if email is None:
            raise refusal(401, CODES[401], "Invalid API key")
        return email

    def _spend(self, _: str, who: str) -> dict[str, str]:
        limit = self.behaviour.requests_per_minute or NO_LIMIT
        left, reset_s = self._quota.spend(who, limit)
        resets_at = int(self.clock.now().timestamp()) + reset_s
        headers = {
            "X-RateLimit-Limit-Default": str(limit),
            "X-RateLimit-Remaining-Default": str(max(0, left)),
            "X-RateLimit-Reset-Default": str(resets_at),
        }
        if left < 0:
            raise refusal(429, CODES[429], "Too many requests", headers)
        return headers

    @asynccontextmanager
    async def _lifespan(self, _: Any) -> AsyncIterator[None]:
        async with self:
            yield


def _ordered(fault: Fault) -> Refusal:
    headers = {}
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(round(fault.retry_after_s))
    code = CODES.get(fault.status, "InternalServerErrorException")
    return refusal(fault.status, code, fault.reason or "Refused", headers)
