"""What a connection by webhook only cannot know, and what becomes of it then.

Nobody can be asked: what no delivery tells stays as it was told last.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from providers.model import Provider
from tests.support.events import Calendar, Event, make_event, mirrored, tombstone
from tests.support.ingesting import MIRA, IngestWorld, at, make_ingest_world
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]
HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
async def world(database: Connection, database_url: str) -> AsyncIterator[IngestWorld]:
    async with make_ingest_world(database, database_url, Provider.CALCOM) as made:
        await made.begin_by_hand()
        yield made


async def calendar_beside(world: IngestWorld, connect: Connect) -> Calendar:
    """A calendar of the host's, in the same organization."""
    bookings = await world.calendar(world.calendar_id)
    return await Calendar.create(
        world.database,
        await connect(role="sync_worker"),
        organization_id=bookings["organization_id"],
    )


def event_of(ical_uid: str) -> Event:
    """The event that Cal.com made of the booking there."""
    return make_event(
        "e1", ical_uid=ical_uid, starts_at=at(0), ends_at=at(0) + HALF_AN_HOUR
    )


@pytest.mark.parametrize(("keeps", "meetings"), [(True, 1), (False, 2)])
async def test_only_a_calendar_that_keeps_the_icaluid_tells_whose_its_event_is(
    world: IngestWorld, connect: Connect, keeps: bool, meetings: int
) -> None:
    booked = world.book(at(0))
    await world.delivered()
    calendar = await calendar_beside(world, connect)

    # As Exchange has it.
    of_its_own = "040000008200E00074C5B7101A82E008000000009F2A"
    await calendar.apply(event_of(booked.row.ical_uid if keeps else of_its_own))

    assert len(await world.shown()) == meetings


async def test_a_booking_whose_event_vanished_lives_until_a_delivery_says_otherwise(
    world: IngestWorld, database: Connection, connect: Connect
) -> None:
    booked = world.book(at(0))
    await world.delivered()
    calendar = await calendar_beside(world, connect)
    await calendar.apply(event_of(booked.row.ical_uid))
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]

    await calendar.apply(tombstone("e1"))
    await world.advance(minutes=2)
    await world.work("ingest")

    assert (await mirrored(database, "e1"))["status"] == "cancelled"
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]
    assert await world.to_fetch() == []
    assert world.calls() == 0

    booked.cancel()
    await world.delivered()

    assert await world.shown() == [(MIRA["name"], at(0), "cancelled")]


async def test_of_a_series_cancelled_at_once_only_the_booking_that_was_told_is(
    world: IngestWorld,
) -> None:
    kind = world.account.event_type("Call")
    starts = [at(day) for day in range(3)]
    series = world.account.book_series(kind, starts, **MIRA)
    await world.delivered()
    assert {status for _, _, status in await world.shown()} == {"confirmed"}

    series[0].cancel_series()
    await world.delivered()

    assert await world.shown() == [
        (MIRA["name"], at(0), "cancelled"),
        (MIRA["name"], at(1), "confirmed"),
        (MIRA["name"], at(2), "confirmed"),
    ]
    assert await world.to_fetch() == []
    assert world.calls() == 0
