from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest

from local_stack.twins import microsoft
from local_stack.twins.google import Account, Behaviour, Calendar, GoogleTwin
from runtime.clock import ManualClock
from tests.twins.google_calls import Calls, Inbox
from tests.twins.graph_calls import Endpoint, Graph

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)  # a Saturday


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
async def google(clock: ManualClock) -> AsyncIterator[GoogleTwin]:
    behaviour = Behaviour(linger_after_stop_s=0, retry_first_s=0.01)
    async with GoogleTwin(clock, behaviour) as twin:
        yield twin


@pytest.fixture
def ada(google: GoogleTwin) -> Account:
    return google.account("ada@example.org")


@pytest.fixture
def calendar(ada: Account) -> Calendar:
    return ada.primary


@pytest.fixture
async def calls(google: GoogleTwin, ada: Account) -> AsyncIterator[Calls]:
    """Ada's program, calling the twin in process."""
    async with Calls(google, ada.sign_in().access_token) as calls:
        yield calls


@pytest.fixture
def inbox(google: GoogleTwin) -> Inbox:
    """A receiver at https://hooks.test."""
    inbox = Inbox()
    google.deliver_to("https://hooks.test", httpx2.ASGITransport(inbox))
    return inbox


@pytest.fixture
async def outlook(clock: ManualClock) -> AsyncIterator[microsoft.MicrosoftTwin]:
    behaviour = microsoft.Behaviour(notifications_per_change=1, retry_first_s=0.01)
    async with microsoft.MicrosoftTwin(clock, behaviour) as twin:
        yield twin


@pytest.fixture
def mira(outlook: microsoft.MicrosoftTwin) -> microsoft.Account:
    return outlook.account("mira@example.org")


@pytest.fixture
def agenda(mira: microsoft.Account) -> microsoft.Calendar:
    """Mira's calendar."""
    return mira.primary


@pytest.fixture
async def graph(
    outlook: microsoft.MicrosoftTwin, mira: microsoft.Account
) -> AsyncIterator[Graph]:
    """Mira's program, calling the twin in process."""
    async with Graph(outlook, mira.sign_in().access_token) as graph:
        yield graph


@pytest.fixture
def endpoint(outlook: microsoft.MicrosoftTwin) -> Endpoint:
    """A receiver at https://hooks.test."""
    endpoint = Endpoint()
    outlook.deliver_to("https://hooks.test", httpx2.ASGITransport(endpoint))
    return endpoint
