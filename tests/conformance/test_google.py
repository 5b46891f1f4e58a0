"""Google Calendar keeps the promises of every calendar."""

import os
from collections.abc import AsyncIterator
from uuid import UUID

import httpx2
import pytest

from local_stack.twins.google import Behaviour, GoogleTwin
from providers.google.client import GoogleClient
from providers.google.receiver import GoogleReceiver
from runtime.sealing import Keyring
from tests.conformance.calendar_channels import ChannelPromises, PushPromises
from tests.conformance.calendar_clients import At, AtTwin, CalendarClientPromises
from tests.conformance.calendar_troubles import CalendarTroublePromises
from tests.conformance.calling import calls_to, clients
from tests.conformance.conftest import LIVE, WEBHOOKS
from tests.conformance.hands import GoogleHand, calendar_of_its_own
from tests.conformance.receivers import ReceiverPromises, Request

REAL = "https://www.googleapis.com/calendar/v3"


class TestGoogle(CalendarClientPromises, PushPromises, CalendarTroublePromises):
    """On the twin."""

    receiver = GoogleReceiver()
    renews = False
    creates = "events.watch"

    @pytest.fixture
    async def at(self) -> AsyncIterator[AtTwin]:
        # Pushes go on for a moment after a stop, which is no promise broken.
        twin = GoogleTwin(behaviour=Behaviour(linger_after_stop_s=0))
        async with calls_to(twin) as http:
            calendar = twin.account("mira@example.org").primary
            token = twin.account("mira@example.org").sign_in().access_token
            url = "https://twin.test/calendar/v3"
            client_with = clients(GoogleClient, http, url)
            yield AtTwin(
                client_with(token),
                GoogleHand(http, f"{url}/calendars", token, calendar.id),
                client_with,
                twin=twin,
                lose_cursors=calendar.expire_sync_tokens,
            )


class AtGoogle:
    """On a calendar of its own at Google, which is deleted afterwards."""

    @pytest.fixture
    async def at(self) -> AsyncIterator[At]:
        token = os.environ[LIVE["google"]]
        body = {"summary": "Supacal: conformance", "timeZone": "Europe/Berlin"}
        async with (
            httpx2.AsyncClient(timeout=30) as http,
            calendar_of_its_own(http, f"{REAL}/calendars", token, body) as calendar_id,
        ):
            client_with = clients(GoogleClient, http, REAL)
            hand = GoogleHand(http, f"{REAL}/calendars", token, calendar_id)
            yield At(client_with(token), hand, client_with, patience_s=60, pause_s=2)


@pytest.mark.live("google")
class TestGoogleLive(AtGoogle, CalendarClientPromises):
    """Events are written."""


@pytest.mark.live("google", WEBHOOKS)
class TestGoogleLiveChannels(AtGoogle, ChannelPromises):
    """Channels are made, and stopped."""

    renews = False

    @pytest.fixture
    def hooks(self) -> str:
        return f"{os.environ[WEBHOOKS]}/webhooks/google"


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
