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
from runtime.sealing import Keyring
from tests.conformance.calendar_clients import At, CalendarClientPromises
from tests.conformance.calling import calls_to, clients
from tests.conformance.conftest import LIVE
from tests.conformance.hands import GraphHand, calendar_of_its_own
from tests.conformance.receivers import NO_MESSAGES, ReceiverPromises, Request

REAL = "https://graph.microsoft.com/v1.0"


def in_outlook(http: httpx2.AsyncClient, url: str, token: str, calendar_id: str) -> At:
    client_with = clients(MicrosoftClient, http, url)
    hand = GraphHand(http, f"{url}/me/calendars", token, calendar_id)
    return At(client_with(token), hand, client_with)


class TestMicrosoft(CalendarClientPromises):
    """On the twin."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        twin = MicrosoftTwin()
        async with calls_to(twin) as http:
            account = twin.account("mira@example.org")
            token = account.sign_in().access_token
            url = "https://twin.test/v1.0"
            yield in_outlook(http, url, token, account.primary.id)


@pytest.mark.live("microsoft")
class TestMicrosoftLive(CalendarClientPromises):
    """On a calendar of its own in Outlook, which is deleted afterwards."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        token, calendars = os.environ[LIVE["microsoft"]], f"{REAL}/me/calendars"
        body = {"name": "Supacal: conformance"}
        async with (
            httpx2.AsyncClient(timeout=30) as http,
            calendar_of_its_own(http, calendars, token, body) as calendar_id,
        ):
            yield in_outlook(http, REAL, token, calendar_id)


class TestMicrosoftReceiver(ReceiverPromises):
    """Notifications, whose clientState is their proof."""

    receiver = MicrosoftReceiver()
    nonsense_is = 401

    def sign(self, channel_id: UUID, keyring: Keyring, **told: object) -> Request:
        item = {
            "subscriptionId": "7f105c7d-2dc5-4530-97cd-4e7ae6534c07",
            "clientState": keyring.channel_token(channel_id),
            "changeType": "updated",
            "resource": "Users/u/Events/e",
        }
        return Request({}, msgspec.json.encode({"value": [item | told]}))

    def nonsense(self, channel_id: UUID, keyring: Keyring) -> list[Request]:
        ids = (None, 7, "", "../me", "é", "7" * 300)
        return [
            *(Request({}, body) for body in NO_MESSAGES),
            *(self.sign(channel_id, keyring, subscriptionId=one) for one in ids),
        ]
