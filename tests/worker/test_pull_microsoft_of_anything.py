"""Whatever anybody does in an Outlook calendar, in whatever order: tables mirror it.

People, Microsoft and accidents take turns, as Hypothesis deals them. After each pull
that works, the meetings are those that calendarView shows, one each, and an event that
was there before has the meeting it had.
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
from local_stack.twins.microsoft import Calendar
from tests.support.busy import Numbers
from tests.support.cluster import copy_of
from tests.support.outlook import OutlookWorld, assert_mirrors, make_outlook
from tests.support.outlook_people import OutlookPerson
from tests.support.sessions import Sessions
from tests.support.stories import ANYTHING, CALENDARS
from tests.support.sync import new_address

# Some page, or some series, fails. Where that is not reached, the pull works.
FAILURES = ("fail", "throttle", "cut")
TROUBLE = (*FAILURES, "lag", "expire", "renew")
LAG_S = 3600

number = st.integers(0, 1000)
# What happens after a deed: mostly nothing, or a pull, or one that meets with trouble.
then = st.sampled_from(["", "", "", "pull", "pull", "pull", *TROUBLE])
numbers = st.tuples(number, number, number)
step = st.tuples(st.sampled_from(OutlookPerson.deeds), numbers, then)
series_step = st.tuples(st.sampled_from(OutlookPerson.series_deeds), numbers, then)
Story = list[tuple[str, Numbers, str]]


@pytest.mark.parametrize("backwards", [False, True])
@given(story=st.lists(step, min_size=8, max_size=30))
@settings(ANYTHING, max_examples=int(os.environ.get("EXAMPLES", "15")))
def test_whatever_happens_is_mirrored(
    cluster: Postgres, migrated: NoopExecutor, backwards: bool, story: Story
) -> None:
    with copy_of(migrated.template_dbname, cluster) as name:
        asyncio.run(live_through(cluster, name, story, backwards=backwards))


@pytest.mark.parametrize("file", CALENDARS, ids=lambda file: file.name)
@given(story=st.lists(st.one_of(series_step, step), min_size=10, max_size=20))
@settings(ANYTHING, max_examples=3)
def test_whatever_happens_in_a_calendar_that_somebody_kept_is_mirrored(
    cluster: Postgres, migrated: NoopExecutor, file: Path, story: Story
) -> None:
    with copy_of(migrated.template_dbname, cluster) as name:
        asyncio.run(live_through(cluster, name, story, file=file))


async def live_through(
    cluster: Postgres,
    name: str,
    story: Story,
    *,
    file: Path | None = None,
    backwards: bool = False,
) -> None:
    """Let a story happen to a calendar of its own database."""
    sessions = Sessions(cluster, name)
    try:
        database = await sessions.connect()
        async with make_outlook(database, sessions.url, backwards=backwards) as world:
            world.account.add_calendar("Other")
            calendar = world.account.primary
            if file is not None:
                calendar.import_ics(file, into_present=True)
            await _live_through(world, calendar, story)
    finally:
        await sessions.close()


async def _live_through(world: OutlookWorld, calendar: Calendar, story: Story) -> None:
    friend = world.twin.account(new_address())
    busy = OutlookPerson(world.twin, calendar, world.account, friend)
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
    world: OutlookWorld,
    calendar_id: UUID,
    calendar: Calendar,
    how: str,
    done: list[str],
) -> None:
    await _meet_with(world, calendar_id, calendar, how, skip=len(done) % 4)
    before = await world.meetings(calendar_id)
    ended = await world.pull(calendar_id)
    world.twin.switchboard.clear()
    if ended.outcome is None:
        assert how in FAILURES, (ended.error, done)
        return
    if how == "lag":
        return  # what is not shown yet comes later
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


async def _meet_with(
    world: OutlookWorld, calendar_id: UUID, calendar: Calendar, how: str, *, skip: int
) -> None:
    switchboard = world.twin.switchboard
    world.twin.behaviour.delta_lag_s = LAG_S if how == "lag" else 0
    match how:
        case "cut":
            switchboard.cut("events.*").skip = skip
        case "expire":
            calendar.expire_delta_tokens()
        case "fail":
            switchboard.answer("events.*", 503).skip = skip
        case "throttle":
            switchboard.answer("events.*", 429, retry_after_s=1).skip = skip
        case "renew":
            await world.database.execute(
                "update sync.calendar_state set round_due_at = sync.clock() "
                "where calendar_id = $1",
                calendar_id,
            )
