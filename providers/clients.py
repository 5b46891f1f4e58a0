"""Which adapter makes the calls to which provider."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import httpx2

from providers.calcom.client import CalcomClient
from providers.calendly.client import CalendlyClient
from providers.google.client import GoogleClient
from providers.microsoft.client import MicrosoftClient
from providers.model import Provider
from providers.protocols import BookingClient, Client
from runtime.clock import Clock


class ClientFactory(Protocol):
    """Makes the client of one connection; all share one httpx2.AsyncClient."""

    def __call__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
        *,
        projection: bytes = b"",
        clock: Clock | None = None,
    ) -> Client: ...


CLIENTS: Mapping[Provider, ClientFactory] = {
    Provider.GOOGLE: GoogleClient,
    Provider.MICROSOFT: MicrosoftClient,
}


class BookingClientFactory(Protocol):
    """Makes the client of one connection that takes bookings."""

    def __call__(
        self,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
    ) -> BookingClient: ...


BOOKING_CLIENTS: Mapping[Provider, BookingClientFactory] = {
    Provider.CALENDLY: CalendlyClient,
    Provider.CALCOM: CalcomClient,
}
