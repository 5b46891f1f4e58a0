"""The web application: where each path leads, and what runs beside the requests."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TypedDict

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from providers.model import Provider
from providers.receivers import booking_receivers, calendar_receivers
from runtime.clock import Clock, SystemClock
from runtime.settings import ReceiverSettings
from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.batcher import Batcher
from webhook_api.bookings import BookingEndpoint
from webhook_api.handshakes import self_test
from webhook_api.journal import Journal
from webhook_api.limits import Limits
from webhook_api.metrics import Metrics
from webhook_api.operations import get, operations
from webhook_api.receive import Endpoint
from webhook_api.refusals import ClientAddresses, Refusals
from webhook_api.store import Store

# The first of each is the one that new channels get; the others serve registrations
# made by older systems.
PATHS: Mapping[Provider, tuple[str, ...]] = {
    Provider.GOOGLE: (
        "/webhooks/google",
        "/webhooks/calendar/google",
        "/api/calendar/webhook",
    ),
    Provider.MICROSOFT: ("/webhooks/microsoft", "/webhooks/microsoft/lifecycle"),
}
# New webhooks get the first of each; the others are for those made by hand.
BOOKING_PATHS: Mapping[Provider, tuple[str, ...]] = {
    Provider.CALENDLY: (
        "/webhooks/calendly/{channel_id}",
        "/webhooks/calendly",
        "/api/calendly/webhook",
    ),
    Provider.CALCOM: (
        "/webhooks/calcom/{channel_id}",
        "/webhooks/calcom",
        "/api/webhooks/calcom",
    ),
}
TEST_PATHS: Mapping[Provider, str] = {
    Provider.GOOGLE: "/api/calendar/webhook/test",
    Provider.CALENDLY: "/api/calendly/webhook/test",
}


class Particulars(TypedDict, total=False):
    """In what a provider's endpoint differs from the others."""

    accepted: Answer
    body_bytes: int


class Receiver(Starlette):
    """Starlette, with a short cut to the routes that must keep up.

    Its middleware and router would cost a third of what a delivery costs.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        *,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.metrics = Metrics()
        self.store = Store(settings.database, limits=limits)
        self.limits = limits
        self.batcher = Batcher(
            self.store.store,
            limits=limits,
            ready=self.store.connected,
            flushed=Journal(self.metrics).flushed,
        )
        self.refusals = Refusals(
            self.metrics,
            addresses=ClientAddresses(settings.supacal_trusted_proxies),
            per_minute=settings.supacal_rate_refused_per_minute,
            limits=limits,
        )
        self._watch()
        self._endpoints = self._deliveries(settings, clock)
        super().__init__(
            routes=[
                *(Route(path, app) for path, app in self._endpoints.items()),
                *self._booking_routes(settings, clock),
                *(
                    get(path, self_test(provider, settings, path=_address(provider)))
                    for provider, path in TEST_PATHS.items()
                ),
                *operations(self.store, self.metrics),
            ],
            exception_handlers={HTTPException: self._refuse, Exception: _broken},
            lifespan=_lifespan,
        )
        self.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope.get("path", ""))
        if endpoint is not None and scope["type"] == "http":
            await endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _deliveries(
        self, settings: ReceiverSettings, clock: Clock
    ) -> dict[str, ASGIApp]:
        receivers = calendar_receivers(adopted=self.store.adopted)
        endpoints = {
            provider: Endpoint(
                provider,
                receivers[provider],
                keyring=settings.keyring,
                clock=clock,
                limits=self.limits,
                batcher=self.batcher,
                refusals=self.refusals,
                self_test=self_test(provider, settings, path=paths[0]),
                **self._particulars(provider),
            )
            for provider, paths in PATHS.items()
        }
        return {
            path: endpoints[provider]
            for provider, paths in PATHS.items()
            for path in paths
        }

    def _booking_routes(self, settings: ReceiverSettings, clock: Clock) -> list[Route]:
        receivers = booking_receivers(
            calendly_key=_told(settings.calendly_webhook_signing_key),
            calendly_tolerance=settings.signature_tolerance,
            calcom_secret=_told(settings.calcom_webhook_secret),
        )
        routes: list[Route] = []
        self.booking_endpoints: list[BookingEndpoint] = []
        for provider, paths in BOOKING_PATHS.items():
            never_again = provider is Provider.CALCOM
            endpoint = BookingEndpoint(
                provider,
                receivers[provider],
                keyring=settings.keyring,
                clock=clock,
                limits=self.limits,
                batcher=self.batcher,
                refusals=self.refusals,
                self_test=self_test(provider, settings, path=_address(provider)),
                patience_s=self.limits.patience_s if never_again else 0,
            )
            self.booking_endpoints.append(endpoint)
            routes += [Route(path, endpoint) for path in paths]
        return routes

    def _particulars(self, provider: Provider) -> Particulars:
        if provider is not Provider.MICROSOFT:
            return {}
        return {"accepted": answers.QUEUED, "body_bytes": self.limits.batch_bytes}

    def _watch(self) -> None:
        self.metrics.watch(
            "supacal_deliveries_waiting",
            "Deliveries that wait for a flush.",
            lambda: len(self.batcher),
        )
        self.metrics.watch(
            "supacal_database_connected",
            "1 while there is a connection to the database.",
            lambda: self.store.is_connected,
        )

    def _refuse(self, _: Request, error: Exception) -> Response:
        headers = getattr(error, "headers", None) or {}
        if "Allow" in headers:
            self.metrics.refused.add("none", "method not allowed")
            return answers.method_not_allowed(headers["Allow"])
        self.metrics.refused.add("none", "not found")
        return answers.NOT_FOUND


def create_app(
    settings: ReceiverSettings,
    *,
    clock: Clock | None = None,
    limits: Limits | None = None,
) -> Receiver:
    """Make the receiver; whoever serves it must run its lifespan."""
    return Receiver(settings, clock=clock or SystemClock(), limits=limits or Limits())


def _address(provider: Provider) -> str:
    """Return the path that a provider is given, if by hand."""
    if provider in PATHS:
        return PATHS[provider][0]
    return BOOKING_PATHS[provider][1]


def _told(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _broken(_: Request, __: Exception) -> Response:
    return answers.INTERNAL_ERROR


@asynccontextmanager
async def _lifespan(app: Receiver) -> AsyncIterator[None]:
    """Keep the database connected; at the end, store what was taken in."""
    keeper = asyncio.create_task(app.store.keep_connected())
    try:
        yield
    finally:
        await app.batcher.drain(app.limits.drain_s)
        for endpoint in app.booking_endpoints:
            await endpoint.close()
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await app.store.close()
