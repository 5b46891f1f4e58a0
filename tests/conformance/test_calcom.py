"""Cal.com keeps the promises of whoever takes bookings."""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.calcom import Behaviour, Booked, CalcomTwin
from providers.calcom.client import CalcomClient
from providers.calcom.receiver import CalcomReceiver
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
from tests.support.booking_bodies import CalcomLife


def client_of(http: httpx2.AsyncClient, url: str, token: str) -> CalcomClient:
    async def access_token() -> str:
        return token

    return CalcomClient(http, url, access_token)


class TestCalcom(BookingClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[Booker]:
        # Its API shows a cancellation late, which is no promise broken.
        twin = CalcomTwin(behaviour=Behaviour(row_lags_s=0))
        url = "https://twin.test/v2"
        async with (
            twin,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
        ):
            host = twin.host("ana@example.org")
            kind = host.event_type("Planning call")

            def book(start: datetime, email: str) -> Booked:
                return host.book(kind, start, email=email, name="Guest")

            yield Booker(
                client_of(http, url, host.api_key()),
                lambda token: client_of(http, url, token),
                host.email,
                book,
            )


@pytest.mark.live("calcom")
class TestCalcomLive(ReadingPromises):
    """On a real account, which is only read."""

    @pytest.fixture
    async def client(self) -> AsyncIterator[BookingClient]:
        async with httpx2.AsyncClient(timeout=30) as http:
            token = os.environ[LIVE["calcom"]]
            yield client_of(http, "https://api.cal.com/v2", token)


class TestCalcomReceiver(ReceiverPromises):
    """Deliveries, signed over the body."""

    signs_the_body = True

    def sign(self, channel_id: UUID, keyring: Keyring) -> Request:
        body = CalcomLife().book()[0].encode()
        key = keyring.signing_keys(channel_id)[0]
        return Request({"x-cal-signature-256": hex_digest(key, body)}, body)

    def read(
        self, request: Request, channel_id: UUID, keyring: Keyring = KEYRING
    ) -> list[Notification]:
        return CalcomReceiver().read(
            request.headers,
            request.body,
            keyring=keyring,
            now=NOW,
            channel_id=channel_id,
        )
