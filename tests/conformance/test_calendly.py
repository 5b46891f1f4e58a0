"""Calendly keeps the promises of whoever takes bookings."""

import os
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.calendly import CalendlyTwin
from providers.calendly.client import CalendlyClient
from providers.calendly.receiver import CalendlyReceiver
from providers.protocols import BookingClient
from providers.signatures import hex_digest
from runtime.sealing import Keyring
from tests.conformance.booking_clients import (
    Booker,
    BookingClientPromises,
    ReadingPromises,
)
from tests.conformance.calling import calls_to, clients
from tests.conformance.conftest import LIVE
from tests.conformance.receivers import NOW, BookingReceiverPromises, Request
from tests.support.booking_bodies import CalendlyLife


class TestCalendly(BookingClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[Booker]:
        twin = CalendlyTwin()
        async with calls_to(twin) as http:
            client_with = clients(CalendlyClient, http, "https://twin.test")
            host = twin.host("ana@example.org")
            token = host.personal_token()
            book = partial(host.book, host.event_type("Planning call"), name="Guest")
            yield Booker(client_with(token), client_with, host.email, book)


@pytest.mark.live("calendly")
class TestCalendlyLive(ReadingPromises):
    """On a real account, which is only read."""

    @pytest.fixture
    async def client(self) -> AsyncIterator[BookingClient]:
        async with httpx2.AsyncClient(timeout=30) as http:
            client_with = clients(CalendlyClient, http, "https://api.calendly.com")
            yield client_with(os.environ[LIVE["calendly"]])


class TestCalendlyReceiver(BookingReceiverPromises):
    """Deliveries, signed over a time and the body."""

    receiver = CalendlyReceiver()

    def sign(
        self, channel_id: UUID, keyring: Keyring, body: bytes | None = None
    ) -> Request:
        body = CalendlyLife().book()[0].encode() if body is None else body
        time = str(int(NOW.timestamp()))
        key = keyring.signing_keys(channel_id)[0]
        digest = hex_digest(key, time.encode() + b"." + body)
        return Request({"calendly-webhook-signature": f"t={time},v1={digest}"}, body)
