"""Kill the worker at random moments while calendars change: the tables end right."""

import asyncio
import random
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest

from local_stack.twins.google import Calendar, GoogleTwin, serving
from local_stack.twins.switchboard import Fault, FaultKind
from tests.support.eventually import eventually
from tests.support.google_people import GooglePerson
from tests.support.sessions import Connection
from tests.support.sync import (
    World,
    assert_mirrors,
    make_world,
    new_address,
    receiving,
    use_twin_at,
)
from tests.worker.chaos.nursery import Nursery

KILLS = 50
# A worker dies after so many calls to Google and a moment, or in idleness.
MOST_CALLS = 12
BORN = 0.9  # the share that lives to hear anything
MOMENT_S = 0.06
IDLE_S = 0.5
LEASE_S = 1
PAUSE_S = (0.02, 0.2)
# Of a push that was lost nobody knows: somebody asks for a pull, as users do.
ASK = """
select sync.request_task(asked.kind, id, connection_id, 0::smallint, sync.clock())
from public.calendars, unnest(array['watch', 'pull']) as asked (kind)
"""
# What was asked for is done without a word: only nobody waits here for the pauses that
# follow upon failures, and upon leases that were lost again and again.
BACK_OFF_NO_MORE = """
update sync.tasks set run_at = sync.clock(), not_before = null, lease = null
where attempts > 0 or lane < 2
"""
OWN = Path(__file__).parents[2] / "data" / "calendars"


@pytest.mark.parametrize("pushes", ["all arrive", "some are lost"])
async def test_the_tables_end_right_though_the_worker_was_killed_fifty_times(
    database: Connection, database_url: str, tmp_path: Path, pushes: str
) -> None:
    some_are_lost = pushes == "some are lost"
    chance = random.Random(5)  # noqa: S311 - chaos, not cryptography
    async with (
        make_world(database, database_url) as world,
        receiving(world, database_url),
        serving(world.twin) as url,
    ):
        mirrored = await connect_three_calendars(world)
        disturb(world.twin)
        if some_are_lost:
            world.twin.switchboard.drop_pushes(times=None, chance=0.1)
        nursery = Nursery(
            use_twin_at(world, url, SUPACAL_LEASE_SECONDS=str(LEASE_S)),
            tmp_path / "workers.log",
        )
        changing = asyncio.create_task(keep_changing(world, mirrored.values(), chance))
        begun = await live_and_die(nursery, world.twin, chance)
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing
        world.twin.switchboard.clear()

        await database.execute(ASK if some_are_lost else BACK_OFF_NO_MORE)
        last = nursery.start()
        try:
            await settle(world, mirrored)
        finally:
            last.kill()
            last.join()

    assert begun == KILLS
    finished = "select count(*) from sync.runs where outcome = 'done'"
    assert await database.fetchval(finished) > 3, "nobody lived to finish anything"


async def connect_three_calendars(world: World) -> dict[UUID, Calendar]:
    """Two of one account, one of them in another organization too."""
    shared = world.account.primary
    kept = world.account.add_calendar("Kept")
    kept.import_ics(OWN / "practice.ics", into_present=True)
    connection_id = await world.connect()
    return {
        await world.switch_on(shared, connection_id=connection_id): shared,
        await world.switch_on(kept, connection_id=connection_id): kept,
        await world.switch_on(shared): shared,
    }


def disturb(twin: GoogleTwin) -> None:
    """Let pushes come twice and come late, and calls fail now and then."""
    twin.switchboard.duplicate_pushes(times=None, chance=0.1)
    for kind in (FaultKind.ANSWER, FaultKind.CUT_AFTER, FaultKind.SLOW):
        twin.switchboard.add(
            Fault(kind=kind, operation="*.*", times=None, chance=0.02, delay_s=0.3)
        )


async def keep_changing(
    world: World, calendars: Iterable[Calendar], chance: random.Random
) -> None:
    """Do this and that in the calendars until cancelled."""
    friend = world.twin.account(new_address())
    each = {calendar.id: calendar for calendar in calendars}
    people = [GooglePerson(world.twin, calendar, friend) for calendar in each.values()]
    while True:
        numbers = chance.randrange(1000), chance.randrange(1000), chance.randrange(1000)
        chance.choice(people).do(chance.choice(GooglePerson.deeds), numbers)
        await asyncio.sleep(chance.uniform(*PAUSE_S))


async def live_and_die(
    nursery: Nursery, twin: GoogleTwin, chance: random.Random
) -> int:
    """Start one worker after the other, and kill each in the midst of its life."""
    killed = 0
    for _ in range(KILLS):
        enough = twin.calls.count() + chance.randint(0, MOST_CALLS)
        heard = nursery.told("listener.hearing")
        worker = nursery.start()
        if chance.random() < BORN:
            await eventually(
                lambda heard=heard: nursery.told("listener.hearing") > heard
            )
        with suppress(AssertionError):
            await eventually(
                lambda enough=enough: twin.calls.count() >= enough, within_s=IDLE_S
            )
        await asyncio.sleep(chance.uniform(0, MOMENT_S))
        assert worker.is_alive(), "a worker ended by itself"
        worker.kill()
        await asyncio.to_thread(worker.join)
        killed += worker.exitcode == -signal.SIGKILL
    return killed


async def settle(world: World, mirrored: dict[UUID, Calendar]) -> None:
    """Wait until all is as at Google."""
    for calendar_id, calendar in mirrored.items():
        await eventually(
            lambda c=calendar_id, theirs=calendar: mirrors(world, c, theirs),
            within_s=20,
        )
        assert await world.alerts() <= {"task_failing"}


async def mirrors(world: World, calendar_id: UUID, calendar: Calendar) -> bool:
    await assert_mirrors(world.database, calendar_id, calendar)
    assert (await world.channels(calendar_id)).count("active") == 1
    return True
