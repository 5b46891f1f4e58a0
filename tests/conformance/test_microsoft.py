"""Outlook keeps the promises of every calendar."""

import os
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import msgspec
import pytest

from local_stack.twins.microsoft import MicrosoftTwin
from providers.microsoft.client import MicrosoftClient
from providers.microsoft.receiver import MicrosoftReceiver
from providers.model import Notification
from runtime.sealing import Keyring
from tests.conformance.calendar_clients import At, CalendarClientPromises
from tests.conformance.conftest import LIVE
from tests.conformance.hands import GraphHand
from tests.conformance.receivers import KEYRING, NOW, ReceiverPromises, Request

REAL = "https://graph.microsoft.com/v1.0"


def at(http: httpx2.AsyncClient, url: str, token: str, calendar_id: str) -> At:
    def client_with(token: str) -> MicrosoftClient:
        async def access_token() -> str:
            return token

        return MicrosoftClient(http, url, access_token)

    hand = GraphHand(http, url, token, calendar_id)
    return At(client_with(token), hand, client_with)


class TestMicrosoft(CalendarClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        twin = MicrosoftTwin()
        async with (
            twin,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
        ):
            account = twin.account("mira@example.org")
            url, token = "https://twin.test/v1.0", account.sign_in().access_token
            yield at(http, url, token, account.primary.id)


@pytest.mark.live("microsoft")
class TestMicrosoftLive(CalendarClientPromises):
    """On a calendar of its own in Outlook, which is deleted afterwards."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        token = os.environ[LIVE["microsoft"]]
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(timeout=30) as http:
            body = {"name": "Supacal: conformance"}
            made = await http.post(f"{REAL}/me/calendars", json=body, headers=headers)
            assert made.is_success, made.text
            calendar_id = made.json()["id"]
            try:
                yield at(http, REAL, token, calendar_id)
            finally:
                await http.delete(f"{REAL}/me/calendars/{calendar_id}", headers=headers)


class TestMicrosoftReceiver(ReceiverPromises):
    """Notifications, whose clientState is their proof."""

    def sign(self, channel_id: UUID, keyring: Keyring) -> Request:
        item = {
            "subscriptionId": "7f105c7d-2dc5-4530-97cd-4e7ae6534c07",
            "clientState": keyring.channel_token(channel_id),
            "changeType": "updated",
            "resource": "Users/u/Events/e",
        }
        return Request({}, msgspec.json.encode({"value": [item]}))

    def read(
        self, request: Request, channel_id: UUID, keyring: Keyring = KEYRING
    ) -> list[Notification]:
        receiver = MicrosoftReceiver()
        return receiver.read(request.headers, request.body, keyring=keyring, now=NOW)
