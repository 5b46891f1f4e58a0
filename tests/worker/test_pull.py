"""Promises of a pull: what changed at Google is what changes in the tables."""

from datetime import UTC, datetime, time, timedelta

from tests.support.events import coming
from tests.support.sync import World, assert_mirrors


async def test_the_first_pull_reads_everything_in_the_window(world: World) -> None:
    calendar = world.account.primary
    calendar.add("Cut and blow-dry", coming())
    calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY")
    calendar_id = await world.switch_on(calendar)

    ended = await world.pull(calendar_id)

    assert ended.outcome is not None
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.calendar(calendar_id))["backfill"] == "complete"
    assert ended.outcome.counts.created == len(await world.meetings(calendar_id)) > 20
