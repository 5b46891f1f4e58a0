"""Whatever anybody does in a calendar, in whatever order: the tables mirror it.

People, Google and accidents take turns, as Hypothesis deals them. After each pull that
works, the meetings are those that Google shows, one each, and an event that was there
before has the meeting it had.
"""

import asyncio
import os
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_postgresql.executors import NoopExecutor

from local_stack.postgres import Postgres
from local_stack.twins.google import Calendar
from tests.support.busy import Numbers
from tests.support.cluster import copy_of
from tests.support.google_people import GooglePerson
from tests.support.sessions import Sessions
from tests.support.stories import ANYTHING, CALENDARS
from tests.support.sync import World, assert_mirrors, make_world, new_address

FILES = [None, *CALENDARS]
# Some page, or some series, fails. Where that is not reached, the pull works.
FAILURES = ("fail", "throttle", "cut")

number = st.integers(0, 1000)
# What happens after a deed: mostly nothing, or a pull, or one that meets with trouble.
then = st.sampled_from(["", "", "", "pull", "pull", "pull", *FAILURES, "expire"])
numbers = st.tuples(number, number, number)
step = st.tuples(st.sampled_from(GooglePerson.deeds), numbers, then)
series_step = st.tuples(st.sampled_from(GooglePerson.series_deeds), numbers, then)
Story = list[tuple[str, Numbers, str]]


@pytest.mark.parametrize("page_size", [None, 3])
@given(story=st.lists(step, min_size=8, max_size=30))
@settings(ANYTHING, max_examples=int(os.environ.get("EXAMPLES", "30")))
def test_whatever_happens_is_mirrored(
    cluster: Postgres, migrated: NoopExecutor, page_size: int | None, story: Story
) -> None:
    with copy_of(migrated.template_dbname, cluster) as name:
        asyncio.run(live_through(cluster, name, story, page_size=page_size))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name if file else "empty")
@given(story=st.lists(st.one_of(series_step, step), min_size=10, max_size=20))
@settings(ANYTHING, max_examples=4)
def test_whatever_happens_in_a_calendar_that_somebody_kept_is_mirrored(
    cluster: Postgres, migrated: NoopExecutor, file: Path | None, story: Story
) -> None:
    with copy_of(migrated.template_dbname, cluster) as name:
        asyncio.run(live_through(cluster, name, story, file=file))


async def live_through(
    cluster: Postgres,
    name: str,
    story: Story,
    *,
    page_size: int | None = None,
    file: Path | None = None,
) -> None:
    """Let a story happen to a calendar of its own database."""
    sessions = Sessions(cluster, name)
    try:
        database = await sessions.connect()
        async with make_world(database, sessions.url, page_size=page_size) as world:
            calendar = world.account.primary
            if file is not None:
                calendar.import_ics(file, into_present=True)
            await _live_through(world, calendar, story)
    finally:
        await sessions.close()


async def _live_through(world: World, calendar: Calendar, story: Story) -> None:
    busy = GooglePerson(world.twin, calendar, world.twin.account(new_address()))
    calendar_id = await world.switch_on(calendar)
    done: list[str] = []
    for deed, numbers, then in story:
        done.append(busy.do(deed, numbers))
        if then:
            done.append(then)
            await _pull(world, calendar_id, calendar, then, done)
    await _pull(world, calendar_id, calendar, "pull", done)
    ended = await world.pull(calendar_id)
    assert ended.outcome, done
    assert ended.outcome.idle, done


async def _pull(
    world: World, calendar_id: UUID, calendar: Calendar, how: str, done: list[str]
) -> None:
    switchboard = world.twin.switchboard
    if how == "expire":
        calendar.expire_sync_tokens()
    if how in FAILURES:
        fault = {
            "fail": lambda: switchboard.answer("events.*", 503),
            "throttle": lambda: switchboard.answer("events.*", 429, retry_after_s=1),
            "cut": lambda: switchboard.cut("events.*"),
        }[how]()
        fault.skip = len(done) % 4
    before = await world.meetings(calendar_id)
    ended = await world.pull(calendar_id)
    switchboard.clear()
    if ended.outcome is None:
        assert how in FAILURES, (ended.error, done)
        return
    try:
        await assert_mirrors(world.database, calendar_id, calendar)
        after = await world.meetings(calendar_id)
        assert {i: before[i] for i in before.keys() & after.keys()}.items() <= (
            after.items()
        )
        assert await world.alerts() == set()
    except AssertionError as failure:
        failure.add_note(" → ".join(done))
        raise
