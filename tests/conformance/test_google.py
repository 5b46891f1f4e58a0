"""Google Calendar keeps the promises of every calendar."""

import os
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.google import GoogleTwin
from providers.google.client import GoogleClient
from providers.google.receiver import GoogleReceiver
from runtime.sealing import Keyring
from tests.conformance.calendar_clients import At, CalendarClientPromises
from tests.conformance.calling import calls_to, clients
from tests.conformance.conftest import LIVE
from tests.conformance.hands import GoogleHand, calendar_of_its_own
from tests.conformance.receivers import ReceiverPromises, Request

REAL = "https://www.googleapis.com/calendar/v3"


def at_google(http: httpx2.AsyncClient, url: str, token: str, calendar_id: str) -> At:
    client_with = clients(GoogleClient, http, url)
    hand = GoogleHand(http, f"{url}/calendars", token, calendar_id)
    return At(client_with(token), hand, client_with)


class TestGoogle(CalendarClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        twin = GoogleTwin()
        async with calls_to(twin) as http:
            account = twin.account("mira@example.org")
            token = account.sign_in().access_token
            url = "https://twin.test/calendar/v3"
            yield at_google(http, url, token, account.primary.id)


@pytest.mark.live("google")
class TestGoogleLive(CalendarClientPromises):
    """On a calendar of its own at Google, which is deleted afterwards."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        token = os.environ[LIVE["google"]]
        body = {"summary": "Supacal: conformance", "timeZone": "Europe/Berlin"}
        async with (
            httpx2.AsyncClient(timeout=30) as http,
            calendar_of_its_own(http, f"{REAL}/calendars", token, body) as calendar_id,
        ):
            yield at_google(http, REAL, token, calendar_id)


class TestGoogleReceiver(ReceiverPromises):
    """Pushes, whose token is their proof."""

    receiver = GoogleReceiver()

    def sign(self, channel_id: UUID, keyring: Keyring) -> Request:
        headers = {
            "x-goog-channel-id": str(channel_id),
            "x-goog-channel-token": keyring.channel_token(channel_id),
            "x-goog-resource-id": "Qk3vN8sYp1wLr0TzE6dHbU2mX9A",
            "x-goog-resource-state": "exists",
            "x-goog-message-number": "481734",
        }
        return Request(headers, b"")

    def nonsense(self, channel_id: UUID, keyring: Keyring) -> list[Request]:
        headers = self.sign(channel_id, keyring).headers
        told = ("resource-id", "resource-state", "message-number")
        return [
            Request({**headers, f"x-goog-{name}": odd}, b"")
            for name in told
            for odd in ("", "\x00", "7" * 300, "é")
        ]
