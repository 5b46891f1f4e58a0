"""Outlook keeps the promises of every calendar."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import httpx2
import msgspec
import pytest

from local_stack.twins.microsoft import Behaviour, MicrosoftTwin
from providers.microsoft.client import MicrosoftClient
from providers.microsoft.receiver import MicrosoftReceiver
from runtime.sealing import Keyring
from tests.conformance.calendar_channels import ChannelPromises, PushPromises
from tests.conformance.calendar_clients import At, AtTwin, CalendarClientPromises
from tests.conformance.calendar_troubles import CalendarTroublePromises
from tests.conformance.calling import calls_to, clients
from tests.conformance.conftest import LIVE, WEBHOOKS
from tests.conformance.hands import GraphHand, calendar_of_its_own
from tests.conformance.receivers import NO_MESSAGES, ReceiverPromises, Request

REAL = "https://graph.microsoft.com/v1.0"


@asynccontextmanager
async def in_outlook(behaviour: Behaviour | None = None) -> AsyncIterator[AtTwin]:
    twin = MicrosoftTwin(behaviour=behaviour)
    async with calls_to(twin) as http:
        calendar = twin.account("mira@example.org").primary
        token = twin.account("mira@example.org").sign_in().access_token
        url = "https://twin.test/v1.0"
        client_with = clients(MicrosoftClient, http, url)
        yield AtTwin(
            client_with(token),
            GraphHand(http, f"{url}/me/calendars", token, calendar.id),
            client_with,
            twin=twin,
            lose_cursors=calendar.expire_delta_tokens,
        )


class TestMicrosoft(CalendarClientPromises, PushPromises, CalendarTroublePromises):
    """On the twin."""

    receiver = MicrosoftReceiver()
    renews = True
    creates = "subscriptions.create"

    @pytest.fixture
    async def at(self) -> AsyncIterator[AtTwin]:
        async with in_outlook() as at:
            yield at


class TestMicrosoftThatLags(CalendarClientPromises):
    """On the twin, whose delta shows what was written a little later."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[AtTwin]:
        async with in_outlook(Behaviour(delta_lag_s=0.2)) as at:
            yield at


class InOutlook:
    """On a calendar of its own in Outlook, which is deleted afterwards."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        token, calendars = os.environ[LIVE["microsoft"]], f"{REAL}/me/calendars"
        body = {"name": "Supacal: conformance"}
        async with (
            httpx2.AsyncClient(timeout=30) as http,
            calendar_of_its_own(http, calendars, token, body) as calendar_id,
        ):
            client_with = clients(MicrosoftClient, http, REAL)
            hand = GraphHand(http, calendars, token, calendar_id)
            yield At(client_with(token), hand, client_with, patience_s=240, pause_s=5)


@pytest.mark.live("microsoft")
class TestMicrosoftLive(InOutlook, CalendarClientPromises):
    """Events are written."""


@pytest.mark.live("microsoft", WEBHOOKS)
class TestMicrosoftLiveChannels(InOutlook, ChannelPromises):
    """Channels are made, extended and stopped."""

    renews = True

    @pytest.fixture
    def hooks(self) -> str:
        return f"{os.environ[WEBHOOKS]}/webhooks/microsoft"


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
