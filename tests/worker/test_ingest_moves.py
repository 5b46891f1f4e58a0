"""Bookings that are moved there and back, all together, or half unheard of."""

import json

import pytest

from local_stack.twins.calcom import Booked
from local_stack.twins.calendly.bodies import moment
from tests.support.ingesting import IVO, MIRA, IngestWorld, at


@pytest.fixture(params=["by hand", "with API"])
async def world(calcom: IngestWorld, request: pytest.FixtureRequest) -> IngestWorld:
    """Cal.com, with and without access to its API."""
    if request.param == "by hand":
        await calcom.begin_by_hand()
    else:
        await calcom.begin()
    return calcom


async def settle(world: IngestWorld) -> None:
    """Let hours pass, in which bookings are asked for again, and swept."""
    world.twin.switchboard.clear()
    await world.delivered()
    for minutes in (1, 6, 80, 80):
        await world.advance(minutes=minutes)
        await world.work("ingest")


async def test_a_seat_that_is_moved_there_and_back_is_where_it_was(
    world: IngestWorld,
) -> None:
    kind = world.account.event_type("Class", seats=3)
    world.account.book(kind, at(0), **IVO)
    mira = world.account.book(kind, at(0), **MIRA)
    for day in (1, 0):
        await world.delivered()
        await world.advance(minutes=10)
        mira = mira.reschedule(at(day))
    await settle(world)
    assert await world.shown() == [
        (IVO["name"], at(0), "confirmed"),
        (MIRA["name"], at(0), "confirmed"),
    ]


async def test_a_class_that_its_host_moves_takes_everybody_along(
    world: IngestWorld,
) -> None:
    kind = world.account.event_type("Class", seats=3)
    ivo = world.account.book(kind, at(0), **IVO)
    world.account.book(kind, at(0), **MIRA)
    await world.delivered()
    Booked(world.twin, ivo.uid).reschedule(at(1), by=world.account.email)
    await settle(world)
    assert await world.shown() == [
        (IVO["name"], at(1), "confirmed"),
        (MIRA["name"], at(1), "confirmed"),
    ]


async def test_a_move_that_is_lost_between_two_others_is_bridged_at_once(
    world: IngestWorld,
) -> None:
    one = world.book(at(0)).reschedule(at(1))
    await world.delivered()
    world.twin.switchboard.drop_pushes(times=None)
    one = one.reschedule(at(2))
    await world.delivered()
    world.twin.switchboard.clear()
    one.reschedule(at(3))
    await world.delivered()
    assert await world.shown() == [(MIRA["name"], at(3), "confirmed")]
    await settle(world)
    assert await world.shown() == [(MIRA["name"], at(3), "confirmed")]


@pytest.mark.parametrize("_", range(3))
async def test_a_move_whose_request_is_lost_counts_when_it_is_approved(
    world: IngestWorld, _: int
) -> None:
    """Whichever uid is drawn for it."""
    kind = world.account.event_type("Call", needs_approval=True)
    one = world.account.book(kind, at(0), **MIRA)
    one.approve()
    one = one.reschedule(at(1))
    one.approve()
    await world.delivered()
    world.twin.switchboard.drop_pushes(times=None)
    one = one.reschedule(at(2))
    await world.delivered()
    world.twin.switchboard.clear()
    one.approve()
    await settle(world)
    assert await world.shown() == [(MIRA["name"], at(2), "confirmed")]


async def test_the_end_of_a_mark_that_is_told_again_ends_no_later_mark(
    calendly: IngestWorld,
) -> None:
    world = calendly
    await world.begin()
    one = world.book(at(0))
    one.did_not_come()
    await world.delivered()
    one.came_after_all()
    await world.delivered()
    unmarked = json.loads(world.twin.webhooks.poster.log[-1].body)
    one.did_not_come()
    await world.delivered()
    await world.advance(minutes=30)
    # A retry, and dated so.
    unmarked["created_at"] = moment(world.twin.store.now())
    await world.deliver([json.dumps(unmarked)])
    await settle(world)
    assert await world.shown() == [(MIRA["name"], at(0), "no_show")]
