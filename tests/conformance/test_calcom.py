"""Cal.com keeps the promises of whoever takes bookings."""

import os
from collections.abc import AsyncIterator
from functools import partial
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.calcom import Behaviour, CalcomTwin
from providers.calcom.client import CalcomClient
from providers.calcom.receiver import CalcomReceiver
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
from tests.conformance.receivers import BookingReceiverPromises, Request
from tests.support.booking_bodies import CalcomLife


class TestCalcom(BookingClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[Booker]:
        # Its API shows a cancellation late, which is no promise broken.
        twin = CalcomTwin(behaviour=Behaviour(row_lags_s=0))
        async with calls_to(twin) as http:
            client_with = clients(CalcomClient, http, "https://twin.test/v2")
            host = twin.host("ana@example.org")
            book = partial(host.book, host.event_type("Planning call"), name="Guest")
            yield Booker(client_with(host.api_key()), client_with, host.email, book)


@pytest.mark.live("calcom")
class TestCalcomLive(ReadingPromises):
    """On a real account, which is only read."""

    @pytest.fixture
    async def client(self) -> AsyncIterator[BookingClient]:
        async with httpx2.AsyncClient(timeout=30) as http:
            client_with = clients(CalcomClient, http, "https://api.cal.com/v2")
            yield client_with(os.environ[LIVE["calcom"]])


class TestCalcomReceiver(BookingReceiverPromises):
    """Deliveries, signed over the body."""

    receiver = CalcomReceiver()

    def sign(
        self, channel_id: UUID, keyring: Keyring, body: bytes | None = None
    ) -> Request:
        body = CalcomLife().book()[0].encode() if body is None else body
        key = keyring.signing_keys(channel_id)[0]
        return Request({"x-cal-signature-256": hex_digest(key, body)}, body)
