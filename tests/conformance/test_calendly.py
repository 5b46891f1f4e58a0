"""Calendly keeps the promises of whoever takes bookings."""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.calendly import Booking, CalendlyTwin
from providers.calendly.client import CalendlyClient
from providers.calendly.receiver import CalendlyReceiver
from providers.model import Notification
from providers.protocols import BookingClient
from providers.signatures import hex_digest
from runtime.sealing import Keyring
from tests.conformance.booking_clients import (
    Booker,
    BookingClientPromises,
    ReadingPromises,
)
from tests.conformance.conftest import LIVE
from tests.conformance.receivers import KEYRING, NOW, ReceiverPromises, Request
from tests.support.booking_bodies import CalendlyLife


def client_of(http: httpx2.AsyncClient, url: str, token: str) -> CalendlyClient:
    async def access_token() -> str:
        return token

    return CalendlyClient(http, url, access_token)


class TestCalendly(BookingClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[Booker]:
        twin, url = CalendlyTwin(), "https://twin.test"
        async with (
            twin,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
        ):
            host = twin.host("ana@example.org")
            kind = host.event_type("Planning call")

            def book(start: datetime, email: str) -> Booking:
                return host.book(kind, start, email=email, name="Guest")

            yield Booker(
                client_of(http, url, host.personal_token()),
                lambda token: client_of(http, url, token),
                host.email,
                book,
            )


@pytest.mark.live("calendly")
class TestCalendlyLive(ReadingPromises):
    """On a real account, which is only read."""

    @pytest.fixture
    async def client(self) -> AsyncIterator[BookingClient]:
        async with httpx2.AsyncClient(timeout=30) as http:
            token = os.environ[LIVE["calendly"]]
            yield client_of(http, "https://api.calendly.com", token)


class TestCalendlyReceiver(ReceiverPromises):
    """Deliveries, signed over a time and the body."""

    signs_the_body = True

    def sign(self, channel_id: UUID, keyring: Keyring) -> Request:
        body = CalendlyLife().book()[0].encode()
        time = str(int(NOW.timestamp()))
        key = keyring.signing_keys(channel_id)[0]
        digest = hex_digest(key, time.encode() + b"." + body)
        return Request({"calendly-webhook-signature": f"t={time},v1={digest}"}, body)

    def read(
        self, request: Request, channel_id: UUID, keyring: Keyring = KEYRING
    ) -> list[Notification]:
        return CalendlyReceiver().read(
            request.headers,
            request.body,
            keyring=keyring,
            now=NOW,
            channel_id=channel_id,
        )
