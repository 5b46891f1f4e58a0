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
from tests.conformance.receivers import BookingReceiverPromises, Request
from tests.support.booking_bodies import CalcomLife


class TestCalcom(BookingClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[Booker]:
        # Its API shows a cancellation late, which is no promise broken.
        twin = CalcomTwin(behaviour=Behaviour(row_lags_s=0))
        async with calls_to(twin) as http:
            host = twin.host("ana@example.org")
            call = host.event_type("Planning call")
            group = host.event_type("Class", seats=3)
            yield Booker(
                client_with=clients(CalcomClient, http, "https://twin.test/v2"),
                token=host.api_key(),
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
            client_with = clients(CalcomClient, http, "https://api.cal.com/v2")
            yield Account(client_with=client_with, token=os.environ[LIVE["calcom"]])


@pytest.mark.live("calcom")
class TestCalcomLive(OnARealAccount, ReadingPromises):
    """Only read."""


@pytest.mark.live("calcom", WEBHOOKS)
class TestCalcomLiveWebhooks(OnARealAccount, WebhookPromises):
    """Only a webhook is made, and deleted."""

    @pytest.fixture
    def hooks(self) -> str:
        return f"{os.environ[WEBHOOKS]}/webhooks/calcom"


class TestCalcomReceiver(BookingReceiverPromises):
    """Deliveries, signed over the body."""

    receiver = CalcomReceiver()

    def sign(
        self, channel_id: UUID, keyring: Keyring, body: bytes | None = None
    ) -> Request:
        body = CalcomLife().book()[0].encode() if body is None else body
        key = keyring.signing_keys(channel_id)[0]
        return Request({"x-cal-signature-256": hex_digest(key, body)}, body)
