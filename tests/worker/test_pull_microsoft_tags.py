"""Promises of `event_tag` in Outlook, whose occurrences come without title and text."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from local_stack.twins.microsoft import Calendar
from tests.support.events import coming
from tests.support.outlook import OutlookWorld, make_outlook, synced
from tests.support.sessions import Connection

TAG = "#client"


@pytest.fixture
async def world(database: Connection, database_url: str) -> AsyncIterator[OutlookWorld]:
    async with make_outlook(database, database_url) as made:
        yield made


@pytest.fixture
def calendar(world: OutlookWorld) -> Calendar:
    return world.account.primary


def text(content: str) -> dict[str, Any]:
    return {"contentType": "html", "content": f"<html><body>{content}</body></html>"}


TAGGED = text(f"<p>Bring the <b>notes</b>.<br>{TAG}</p>")
PLAIN = text(f"<p>Bring the <a href='{TAG}'>notes</a>.</p>")


async def read(world: OutlookWorld, calendar_id: UUID) -> dict[str, UUID]:
    ended = await world.pull(calendar_id)
    assert ended.outcome, ended.error
    return await world.meetings(calendar_id)


async def statuses(world: OutlookWorld) -> set[str]:
    rows = await world.database.fetch("select status from public.meetings")
    return {row["status"] for row in rows}


async def test_the_tag_is_looked_for_in_the_text_that_stubs_do_not_have(
    world: OutlookWorld, calendar: Calendar
) -> None:
    calendar.add("Visits", coming(), recurrence="FREQ=WEEKLY;COUNT=3", body=TAGGED)
    calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=3", body=PLAIN)
    calendar.add("Check-up", coming(), body=TAGGED)
    calendar.add("Lunch", coming(), body=PLAIN)

    await synced(world, calendar, event_tag=TAG)

    rows = await world.database.fetch("select title from public.meetings")
    assert sorted(row["title"] for row in rows) == ["Check-up"] + ["Visits"] * 3


async def test_a_series_whose_tag_is_taken_off_and_put_back_is_the_same_meetings(
    world: OutlookWorld, calendar: Calendar
) -> None:
    series = calendar.add(
        "Visits", coming(), recurrence="FREQ=WEEKLY;COUNT=3", body=TAGGED
    )
    calendar_id = await synced(world, calendar, event_tag=TAG)
    before = await world.meetings(calendar_id)
    assert len(before) == 3

    calendar.change(series, body=PLAIN)
    assert await read(world, calendar_id) == {}
    assert await statuses(world) == {"confirmed"}

    calendar.change(series, body=TAGGED)
    assert await read(world, calendar_id) == before
    assert await statuses(world) == {"confirmed"}


async def test_one_occurrence_without_the_tag_is_detached_alone(
    world: OutlookWorld, calendar: Calendar
) -> None:
    series = calendar.add(
        "Visits", coming(), recurrence="FREQ=WEEKLY;COUNT=3", body=TAGGED
    )
    calendar_id = await synced(world, calendar, event_tag=TAG)
    before = await world.meetings(calendar_id)
    second = calendar.occurrences(series)[1]

    calendar.change(second, body=PLAIN)
    rest = {one: meeting for one, meeting in before.items() if one != second.id}
    assert await read(world, calendar_id) == rest

    calendar.change(second, body=TAGGED)
    assert await read(world, calendar_id) == before


async def test_a_changed_tag_is_decided_anew_for_every_occurrence(
    world: OutlookWorld, calendar: Calendar
) -> None:
    calendar.add("Visits", coming(), recurrence="FREQ=WEEKLY;COUNT=3", body=TAGGED)
    calendar.add("Choir", coming(), recurrence="FREQ=WEEKLY;COUNT=2")
    calendar_id = await synced(world, calendar)
    before = await world.meetings(calendar_id)
    assert len(before) == 5

    await world.change(calendar_id, event_tag=TAG)
    await world.work("pull")
    assert len(await world.meetings(calendar_id)) == 3

    await world.change(calendar_id, event_tag=None)
    await world.work("pull")
    assert await world.meetings(calendar_id) == before
