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
from providers.signatures import hex_digest
from runtime.sealing import Keyring
from tests.conformance.booking_clients import (
    Account,
    Booker,
    BookingClientPromises,
    ReadingPromises,
    WebhookPromises,
)
from tests.conformance.calling import calls_to, clients
from tests.conformance.conftest import LIVE, WEBHOOKS
from tests.conformance.receivers import NOW, BookingReceiverPromises, Request
from tests.support.booking_bodies import CalendlyLife


class TestCalendly(BookingClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[Booker]:
        twin = CalendlyTwin()
        async with calls_to(twin) as http:
            host = twin.host("ana@example.org")
            call = host.event_type("Planning call")
            group = host.event_type("Class", seats=3)
            yield Booker(
                client_with=clients(CalendlyClient, http, "https://twin.test"),
                token=host.personal_token(),
                twin=twin,
                email=host.email,
                book=partial(host.book, call, name="Guest"),
                book_seat=partial(host.book, group, name="Guest"),
            )


class OnARealAccount:
    """Whose key is in the environment."""

    @pytest.fixture
    async def account(self) -> AsyncIterator[Account]:
        async with httpx2.AsyncClient(timeout=30) as http:
            client_with = clients(CalendlyClient, http, "https://api.calendly.com")
            yield Account(client_with=client_with, token=os.environ[LIVE["calendly"]])


@pytest.mark.live("calendly")
class TestCalendlyLive(OnARealAccount, ReadingPromises):
    """Only read."""


@pytest.mark.live("calendly", WEBHOOKS)
class TestCalendlyLiveWebhooks(OnARealAccount, WebhookPromises):
    """Only a webhook is made, and deleted."""

    @pytest.fixture
    def hooks(self) -> str:
        return f"{os.environ[WEBHOOKS]}/webhooks/calendly"


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
