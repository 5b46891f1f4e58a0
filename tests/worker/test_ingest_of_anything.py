"""Whatever people do, and however much of it is delivered: the tables end as it is."""

import random
from datetime import datetime
from typing import Any

import pytest

from local_stack.twins.rest import Refusal
from local_stack.twins.switchboard import Fault, FaultKind
from tests.support.ingesting import IngestWorld, at

PEOPLE = ("Mira", "Ivo", "Lena", "Tom")
STEPS = 16
DAY = 24 * 60
SEEDS = range(4)
Look = tuple[str, datetime]


@pytest.fixture
def world(either: IngestWorld) -> IngestWorld:
    """Each of the booking providers."""
    return either


class People:
    """Book, move, cancel and do not come, as numbers tell them to."""

    def __init__(self, world: IngestWorld, chance: random.Random, seats: int) -> None:
        self._world = world
        self._chance = chance
        host = world.account
        more = {"seats": seats} if seats > 1 else {}
        self._kinds = [host.event_type("Call"), host.event_type("Class", **more)]
        # Each with all that it was, in the order that it was moved.
        self.booked: list[list[Any]] = []

    def act(self) -> None:
        """Do one thing that can be done."""
        deeds = (self._book, self._move, self._cancel, self._miss, self._come)
        try:
            self._chance.choice((self._book, *deeds))()
        except Refusal:
            return  # taken, full or over: nothing happened

    def _book(self) -> None:
        name = self._chance.choice(PEOPLE)
        kind = self._chance.choice(self._kinds)
        email = f"{name.lower()}@example.com"
        start = self._start()
        made = self._world.account.book(kind, start, email=email, name=name)
        self.booked.append([made])

    def _move(self) -> None:
        if mine := self._one():
            mine.append(mine[-1].reschedule(self._start()))

    def _cancel(self) -> None:
        if mine := self._one():
            mine[-1].cancel()

    def _miss(self) -> None:
        if mine := self._one():
            mine[-1].did_not_come()

    def _come(self) -> None:
        if mine := self._one():
            mine[-1].came_after_all()

    def _one(self) -> list[Any] | None:
        live = [one for one in self.booked if one[-1].is_live]
        return self._chance.choice(live) if live else None

    def _start(self) -> datetime:
        # None of them begins while hours pass.
        return at(7 + self._chance.randrange(5), hour=9 + self._chance.randrange(3))

    def truth(self) -> list[tuple[int, Look | None]]:
        """Every booking that was made, and of those that live how they are."""
        return [
            (place, look_of(one[-1]) if one[-1].is_live else None)
            for place, one in enumerate(self.booked)
        ]

    def places(self) -> dict[str, int]:
        """Which booking is meant by each key that it ever had."""
        return {
            key_of(one): place for place, was in enumerate(self.booked) for one in was
        }


def key_of(booked: Any) -> str:
    if hasattr(booked, "uri"):
        return str(booked.uri)
    return booked.uid if booked.seat_id is None else f"{booked.uid}#{booked.seat_id}"


def look_of(booked: Any) -> Look:
    if hasattr(booked, "uri"):
        is_missed = booked.invitee.no_show is not None
        return "no_show" if is_missed else "confirmed", booked.event.starts_at
    is_missed = booked.attendee.absent
    return "no_show" if is_missed else "confirmed", booked.row.starts_at


async def listed(
    world: IngestWorld, people: People
) -> list[tuple[int | str, Look | None]]:
    """Every meeting that people see: of which booking, and how it is if it lives."""
    rows = await world.database.fetch(
        """
        select event.provider_event_id as key, meeting.status, meeting.starts_at
        from public.meetings as meeting
        left join public.calendar_events as event on event.id = meeting.event_id
        where meeting.merged_into is null and meeting.deleted_at is null
        """
    )
    places, living = people.places(), dict(people.truth())
    found: list[tuple[int | str, Look | None]] = []
    for row in rows:
        place = places.get(row["key"], row["key"])
        look = (row["status"], row["starts_at"])
        # Who did not come may be cancelled afterwards: both are true.
        is_over = row["status"] == "cancelled" or (
            row["status"] == "no_show" and living.get(place) is None
        )
        found.append((place, None if is_over else look))
    return sorted(found, key=lambda one: str(one[0]).zfill(9))


async def settle(world: IngestWorld) -> None:
    """Let a day pass, so that what is asked for again and swept has been."""
    world.twin.switchboard.clear()
    await world.twin.outbox.drain()
    for minutes in (1, 6, 80, 80, DAY, 1, 6, 80):
        await world.work("ingest")
        await world.advance(minutes=minutes)
    await world.work("ingest")


@pytest.mark.parametrize("api", [False, True], ids=["by hand", "with API"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_deliveries_doubled_and_out_of_order_end_as_it_is(
    world: IngestWorld, seed: int, *, api: bool
) -> None:
    chance = random.Random(seed)  # noqa: S311
    await (world.begin() if api else world.begin_by_hand())
    before = world.calls()
    people = People(world, chance, seats=3)
    for kind in (FaultKind.DUPLICATE, FaultKind.REORDER):
        fault = Fault(kind=kind, operation="push", times=None, chance=0.3)
        world.twin.switchboard.add(fault)
    for _ in range(STEPS):
        people.act()
        if chance.random() < 0.3:
            await world.work("ingest")

    await settle(world)

    assert await listed(world, people) == people.truth()
    assert set(await world.states()) <= {"done"}
    assert api or world.calls() == before


@pytest.mark.parametrize("seed", SEEDS)
async def test_deliveries_that_are_lost_are_made_good_by_asking(
    world: IngestWorld, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    await world.begin()
    people = People(world, chance, seats=3)
    world.twin.switchboard.drop_pushes(times=None, chance=0.4)
    for _ in range(STEPS):
        people.act()
        if chance.random() < 0.3:
            await world.delivered()
            await world.advance(minutes=1)

    await settle(world)

    # What was booked and cancelled unheard may be known of, or not.
    shown = await listed(world, people)
    heard = {place for place, _ in shown}
    assert shown == [
        (place, look) for place, look in people.truth() if look or place in heard
    ]
