from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx2
import pytest

from local_stack.twins.google import Account, Behaviour, Calendar, GoogleTwin
from runtime.clock import ManualClock
from tests.twins.google_calls import Calls, Inbox

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
