"""A twin that is started again knows what it knew."""

from pathlib import Path

import pytest

from local_stack.twins.google import (
    Account,
    Behaviour,
    Calendar,
    GoogleTwin,
    Unreadable,
)
from runtime.clock import ManualClock
from tests.twins.google_calls import EVENTS, Calls, Inbox, berlin, refusal

CALENDARS = Path(__file__).parent.parent / "data" / "calendars"


async def test_a_restarted_twin_goes_on_where_the_old_one_stopped(
    google: GoogleTwin, ada: Account, calendar: Calendar, clock: ManualClock
) -> None:
    calendar.import_ics(CALENDARS / "choir.ics")
    series = calendar.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=5")
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    grant = ada.sign_in()
    async with Calls(google, grant.access_token) as before:
        items = await before.items()
        token = await before.sync_token()
        channel = (await before.watch()).json()
    calendar.cancel_occurrence(series, berlin(25, 9))

    async with GoogleTwin(clock, Behaviour(linger_after_stop_s=0)) as again:
        again.load(google.dump())
        async with Calls(again, grant.access_token) as after:
            delta = await after.items(syncToken=token)
            seen = {item["id"]: item for item in await after.items()}
            reused = await after.watch(id=channel["id"])
        event = again.calendar(ada.email).event(series.id)
        again.calendar(ada.email).rename(event, "Seminar")
        await again.pushes.drain()
        numbers = [r.message_number for r in again.pushes.log]

    assert [item["status"] for item in delta] == ["cancelled"]
    assert {item["id"]: item for item in items}.items() <= seen.items()
    assert refusal(reused)[1] == "channelIdNotUnique"
    assert len(numbers) == 1
    assert numbers[0] > 1
    assert event.etag > series.etag


async def test_its_refresh_tokens_live_on(
    google: GoogleTwin, ada: Account, clock: ManualClock, inbox: Inbox
) -> None:
    grant = ada.sign_in()
    again = GoogleTwin(clock)
    again.load(google.dump())

    form = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token}
    renewed = again.oauth.exchange(form)

    async with Calls(again, str(renewed["access_token"])) as calls:
        assert (await calls.http.get(EVENTS)).status_code == 200


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", b"not JSON"])
async def test_what_no_twin_wrote_is_refused_whole(
    google: GoogleTwin, document: bytes
) -> None:
    with pytest.raises(Unreadable):
        google.load(document)

    assert google.store.accounts == {}
