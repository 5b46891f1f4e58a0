"""Promises of the whole way: Google pushes, the receiver stores, the worker pulls."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from local_stack.twins.google import Calendar
from tests.support.events import coming
from tests.support.eventually import eventually
from tests.support.google_people import GooglePerson
from tests.support.sessions import Connection
from tests.support.sync import (
    World,
    assert_mirrors,
    make_world,
    new_address,
    receiving,
)
from worker.app import Worker

OWN = Path(__file__).parents[1] / "data" / "calendars"


@pytest.fixture
async def at_work(database: Connection, database_url: str) -> AsyncIterator[World]:
    """A world with a receiver, and a worker that works by itself."""
    async with (
        make_world(database, database_url) as world,
        receiving(world, database_url),
    ):
        worker = Worker(world.settings, world.handlers())
        working = asyncio.create_task(worker.run())
        yield world
        worker.stop()
        await working


async def until_mirrored(
    world: World, calendar_id: UUID, calendar: Calendar, *, within_s: float = 10
) -> None:
    async def mirrored() -> bool:
        await assert_mirrors(world.database, calendar_id, calendar)
        return True

    await eventually(mirrored, within_s=within_s)


async def test_a_change_reaches_the_tables_by_itself(at_work: World) -> None:
    world = at_work
    calendar = world.account.primary
    calendar.import_ics(OWN / "choir.ics", into_present=True)

    calendar_id = await world.switch_on(calendar)
    await until_mirrored(world, calendar_id, calendar)
    polls = await world.database.fetchval(
        "select count(*) from sync.webhook_deliveries where kind = 'change'"
    )
    assert polls == 0

    visit = calendar.add("Visit", coming())
    await until_mirrored(world, calendar_id, calendar)
    calendar.move(visit, coming(2))
    await until_mirrored(world, calendar_id, calendar)


@contextmanager
def unreliable(world: World) -> Iterator[None]:
    """Pushes are lost, doubled, late and out of order."""
    switchboard = world.twin.switchboard
    switchboard.drop_pushes(times=None, chance=0.2)
    switchboard.duplicate_pushes(times=None, chance=0.2)
    switchboard.delay_pushes(0.05, times=None).chance = 0.3
    switchboard.reorder_pushes(times=None).chance = 0.3
    yield
    switchboard.clear()


@pytest.mark.parametrize("seed", range(3))
async def test_lost_doubled_and_late_pushes_cost_no_change(
    at_work: World, seed: int
) -> None:
    world = at_work
    chance = random.Random(seed)  # noqa: S311 - a story, not a secret
    calendar = world.account.primary
    calendar_id = await world.switch_on(calendar)
    await until_mirrored(world, calendar_id, calendar)
    busy = GooglePerson(world.twin, calendar, world.twin.account(new_address()))

    with unreliable(world):
        for _ in range(60):
            numbers = tuple(chance.randrange(1000) for _ in range(3))
            busy.do(chance.choice(GooglePerson.deeds), numbers)  # type: ignore[arg-type]
            await asyncio.sleep(0.01 * chance.random())
        await world.twin.pushes.drain()
    # The poll that makes good what no push told; once more, where one is under way.
    await world.database.execute(
        "select sync.request_task('pull', task.subject_id, task.connection_id,"
        " 1::smallint, sync.clock()) from sync.tasks as task where task.kind = 'pull'"
    )

    await until_mirrored(world, calendar_id, calendar)
