"""Google Calendar keeps the promises of every calendar."""

import os
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.google import GoogleTwin
from providers.google.client import GoogleClient
from providers.google.receiver import GoogleReceiver
from providers.model import Notification
from runtime.sealing import Keyring
from tests.conformance.calendar_clients import At, CalendarClientPromises
from tests.conformance.conftest import LIVE
from tests.conformance.hands import GoogleHand
from tests.conformance.receivers import KEYRING, NOW, ReceiverPromises, Request

REAL = "https://www.googleapis.com/calendar/v3"


def at(http: httpx2.AsyncClient, url: str, token: str, calendar_id: str) -> At:
    def client_with(token: str) -> GoogleClient:
        async def access_token() -> str:
            return token

        return GoogleClient(http, url, access_token)

    hand = GoogleHand(http, url, token, calendar_id)
    return At(client_with(token), hand, client_with)


class TestGoogle(CalendarClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        twin = GoogleTwin()
        async with (
            twin,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http,
        ):
            account = twin.account("mira@example.org")
            url, token = "https://twin.test/calendar/v3", account.sign_in().access_token
            yield at(http, url, token, account.primary.id)


@pytest.mark.live("google")
class TestGoogleLive(CalendarClientPromises):
    """On a calendar of its own at Google, which is deleted afterwards."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        token = os.environ[LIVE["google"]]
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(timeout=30) as http:
            body = {"summary": "Supacal: conformance", "timeZone": "Europe/Berlin"}
            made = await http.post(f"{REAL}/calendars", json=body, headers=headers)
            assert made.is_success, made.text
            calendar_id = made.json()["id"]
            try:
                yield at(http, REAL, token, calendar_id)
            finally:
                await http.delete(f"{REAL}/calendars/{calendar_id}", headers=headers)


class TestGoogleReceiver(ReceiverPromises):
    """Pushes, whose token is their proof."""

    def sign(self, channel_id: UUID, keyring: Keyring) -> Request:
        headers = {
            "x-goog-channel-id": str(channel_id),
            "x-goog-channel-token": keyring.channel_token(channel_id),
            "x-goog-resource-id": "Qk3vN8sYp1wLr0TzE6dHbU2mX9A",
            "x-goog-resource-state": "exists",
            "x-goog-message-number": "481734",
        }
        return Request(headers, b"")

    def read(
        self, request: Request, channel_id: UUID, keyring: Keyring = KEYRING
    ) -> list[Notification]:
        receiver = GoogleReceiver()
        return receiver.read(request.headers, request.body, keyring=keyring, now=NOW)
