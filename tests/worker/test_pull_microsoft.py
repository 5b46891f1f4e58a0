"""Promises of a pull from Outlook: what changes there is what changes in the tables."""

from collections.abc import AsyncIterator

import pytest

from tests.support.events import coming
from tests.support.outlook import OutlookWorld, assert_mirrors, make_outlook
from tests.support.sessions import Connection


@pytest.fixture
async def world(
    database: Connection, database_url: str
) -> AsyncIterator[OutlookWorld]:
    async with make_outlook(database, database_url) as made:
        yield made


async def test_the_first_pull_reads_everything_in_the_window(
    world: OutlookWorld,
) -> None:
    calendar = world.account.primary
    calendar.add("Cut and blow-dry", coming())
    calendar.add("Holiday", coming().date())
    series = calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    calendar.rename_occurrence(series, coming(2), "Dress rehearsal")
    calendar_id = await world.switch_on(calendar)

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None, ended.error
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.calendar(calendar_id))["backfill"] == "complete"
    assert ended.outcome.counts.created == len(await world.meetings(calendar_id)) > 20
    assert (await world.pull(calendar_id)).outcome.idle
