"""A twin of Outlook that is started again knows what it knew."""

from pathlib import Path

import pytest

from local_stack.twins.memory import Unreadable
from local_stack.twins.microsoft import MicrosoftTwin
from runtime.clock import ManualClock
from tests.twins.graph_calls import Graph, berlin

CALENDARS = Path(__file__).parent.parent / "data" / "calendars"


async def test_a_restarted_twin_of_outlook_goes_on_where_the_old_one_stopped(
    outlook: MicrosoftTwin, clock: ManualClock
) -> None:
    ada = outlook.account("ada@example.org")
    calendar = ada.primary
    calendar.import_ics(CALENDARS / "choir.ics")
    series = calendar.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=5")
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    calendar.retime_series(series, berlin(23, 10))
    calendar.cancel_occurrence(series, berlin(25, 10))
    grant = ada.sign_in()
    async with Graph(outlook, grant.access_token) as before:
        items, cursor = await before.delta()
    calendar.cancel_occurrence(series, berlin(26, 10))

    again = MicrosoftTwin(clock, outlook.behaviour)
    again.load(outlook.dump())
    async with again, Graph(again, grant.access_token) as after:
        seen, _ = await after.delta()
        news, _ = await after.delta(cursor)
    async with outlook, Graph(outlook, grant.access_token) as still:
        expected, _ = await still.delta()
        told, _ = await still.delta(cursor)

    assert seen == expected != items
    assert news == told != []


@pytest.mark.parametrize("document", [b"", b"{}", b"[1]", b"not JSON"])
def test_what_no_twin_of_outlook_wrote_is_refused_whole(
    outlook: MicrosoftTwin, document: bytes
) -> None:
    with pytest.raises(Unreadable):
        outlook.load(document)

    assert outlook.store.accounts == {}
