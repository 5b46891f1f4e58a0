"""Whatever order, number and parts a booking's deliveries come in: the same rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.booking_bodies import MONDAY, NOW, CalcomLife, CalendlyLife
from tests.support.bookings import Bookings, read
from tests.support.builders import make_organization
from tests.support.class_bodies import IVO, MIRA, CalcomClass
from tests.support.database_clock import DatabaseClock
from tests.support.every_order import EveryOrder
from tests.support.sessions import Connection

unhurried = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

MEETINGS = """
select
  meeting.title, meeting.description, meeting.location, meeting.starts_at,
  meeting.ends_at, meeting.status, meeting.meeting_url, meeting.attendee_name,
  meeting.attendee_email, meeting.attendee_phone, meeting.metadata,
  meeting.sync_state, meeting.edits, client.email as client,
  event.provider_event_id as event, event.status as event_status
from public.meetings as meeting
left join public.clients as client on client.id = meeting.client_id
left join public.calendar_events as event
  on event.id = meeting.event_id and event.meeting_id = meeting.id
where meeting.organization_id = $1 and meeting.merged_into is null
order by meeting.starts_at, meeting.attendee_email, meeting.status
"""
KEYS = """
select known.key, meeting.merged_into is null as leads_to_a_listed_meeting
from sync.meeting_keys as known
join public.meetings as meeting on meeting.id = known.meeting_id
where known.organization_id = $1 order by known.key
"""
CLIENTS = """
select email, name, phone, external_refs from public.clients
where organization_id = $1 order by email
"""
PIPELINE = """
select line.stage, line.last_meeting_at, line.next_meeting_at
from public.pipeline as line
join public.clients as client on client.id = line.client_id
where line.organization_id = $1 order by client.email
"""
MIRROR = """
select provider_event_id, status, scope from public.calendar_events
where organization_id = $1 order by provider_event_id
"""


@pytest.fixture(params=["to come", "over"])
async def when(database: Connection, request: pytest.FixtureRequest) -> str:
    """Whether the booking is heard of before its time, or long after."""
    if request.param == "to come":
        await DatabaseClock(database).set(NOW)
    return str(request.param)


async def rows(database: Connection, bookings: Bookings) -> list[Any]:
    """What came of it all, but for the ids."""
    return [
        [dict(row) for row in await database.fetch(query, bookings.organization_id)]
        for query in (MEETINGS, KEYS, CLIENTS, PIPELINE, MIRROR)
    ]


def calendly_life() -> list[str]:
    life = CalendlyLife()
    return [
        *life.book(),
        *life.reschedule(),
        *life.reschedule(),
        *life.mark(),
        *life.cancel(),
    ]


def calendly_life_taken_back() -> list[str]:
    life = CalendlyLife()
    return [*life.book(), *life.reschedule(), *life.mark(), *life.unmark()]


def calcom_life() -> list[str]:
    life = CalcomLife()
    return [
        *life.book(),
        *life.reschedule(),
        *life.reschedule(),
        *life.mark(),
        *life.cancel(),
    ]


def calcom_life_with_approval() -> list[str]:
    life = CalcomLife()
    return [
        *life.request(),
        *life.book(),
        *life.reschedule("BOOKING_REQUESTED"),
        *life.book(),
        *life.take_place(),
    ]


def calcom_life_of_an_older_version() -> list[str]:
    life = CalcomLife(partial=True, keeps_uid=True)
    return [*life.book(), *life.reschedule(), *life.reschedule(), *life.cancel()]


def calcom_life_put_off() -> list[str]:
    """Ended by mistake, and moved under the same key."""
    life = CalcomLife(keeps_uid=True)
    return [*life.book(), *life.take_place(), *life.reschedule()]


def calendly_life_missed_again() -> list[str]:
    """The mark was taken back once, and that is told once more at the end."""
    life = CalendlyLife()
    booked, marked, (unmarked,) = life.book(), life.mark(), life.unmark()
    return [*booked, *marked, unmarked, *life.mark(), life.retried(unmarked)]


def calcom_life_with_a_move_unheard_of() -> list[str]:
    life = CalcomLife()
    told = [*life.book(), *life.reschedule()]
    life.reschedule()
    return [*told, *life.reschedule(), *life.cancel()]


def calcom_life_with_a_request_unheard_of() -> list[str]:
    """A move that was asked for, and told only when it was approved."""
    life = CalcomLife()
    told = life.book()
    life.number = 8
    told += life.reschedule()
    life.number = 1  # not the last of the alphabet
    life.reschedule("BOOKING_REQUESTED")
    return [*told, *life.book()]


def seat_there_and_back() -> list[str]:
    life = CalcomClass()
    return [
        life.sit(1, MIRA, "s1"),
        life.move_seat(1, 2, MIRA, "s1"),
        life.move_seat(2, 1, MIRA, "s1"),
    ]


def seat_there_and_back_and_there() -> list[str]:
    life = CalcomClass()
    return [
        *[life.sit(3, MIRA, "s1"), life.move_seat(3, 1, MIRA, "s1")],
        life.move_seat(1, 3, MIRA, "s1"),
        *[life.move_seat(3, 1, MIRA, "s1"), life.cancel_seat(1, MIRA, "s1")],
    ]


def seat_told_late() -> list[str]:
    """Nobody says which seat it is until it is moved."""
    life = CalcomClass()
    return [
        life.sit(1, MIRA, None),
        life.move_seat(1, 2, MIRA, "s1"),
        life.move_seat(2, 3, MIRA, "s1"),
    ]


def seat_with_moves_unheard_of() -> list[str]:
    """It keeps its id wherever it is moved, which is all that ties this together."""
    life = CalcomClass()
    told = [life.sit(1, MIRA, "s1"), life.sit(1, IVO, "s2")]
    life.move_seat(1, 2, MIRA, "s1")
    told.append(life.move_seat(2, 3, MIRA, "s1"))
    life.move_seat(3, 4, MIRA, "s1")
    return [*told, life.cancel_seat(4, MIRA, "s1")]


def seat_back_unheard_of() -> list[str]:
    """Whoever cancels a seat sits there."""
    life = CalcomClass()
    told = [life.sit(2, MIRA, "s1"), life.move_seat(2, 3, MIRA, "s1")]
    life.move_seat(3, 2, MIRA, "s1")
    return [*told, life.cancel_seat(2, MIRA, "s1")]


def seat_all_around_unheard_of() -> list[str]:
    life = CalcomClass()
    told = [life.sit(1, MIRA, "s1")]
    life.move_seat(1, 2, MIRA, "s1")
    told.append(life.move_seat(2, 3, MIRA, "s1"))
    life.move_seat(3, 1, MIRA, "s1")
    return [*told, life.cancel_seat(1, MIRA, "s1")]


def class_moved() -> list[str]:
    """The host moves all; then one of them cancels."""
    life = CalcomClass()
    return [
        *[life.sit(1, MIRA, "s1"), life.sit(1, IVO, "s2")],
        life.move_all(1, 2, MIRA, IVO),
        life.cancel_seat(2, IVO, "s2"),
    ]


def class_moved_and_left() -> list[str]:
    """The host moves all; then one of them goes on elsewhere."""
    life = CalcomClass()
    return [
        *[life.sit(1, MIRA, "s1"), life.sit(1, IVO, None)],
        life.move_all(1, 2, MIRA, IVO),
        life.move_seat(2, 3, MIRA, "s1"),
    ]


def class_booked_anew_and_moved() -> list[str]:
    """Somebody cancels, comes back to another seat, and is moved with all."""
    life = CalcomClass()
    return [
        *[life.sit(1, MIRA, "s1"), life.cancel_seat(1, MIRA, "s1")],
        *[life.sit(1, MIRA, "s2"), life.sit(1, IVO, "s3")],
        life.move_all(1, 2, MIRA, IVO),
    ]


def class_missed_and_booked_anew() -> list[str]:
    """The mark is of whoever sat there then."""
    life = CalcomClass()
    return [
        *[life.sit(1, MIRA, "s1"), life.mark(1, MIRA)],
        *[life.sit(1, MIRA, "s2"), life.sit(1, IVO, "s3")],
        life.mark(1, IVO),
    ]


def seat_missed_there_and_back() -> list[str]:
    """Whoever is moved away did not miss what they come back to."""
    life = CalcomClass()
    return [
        *[life.sit(1, MIRA, "s1"), life.mark(1, MIRA)],
        *[life.move_seat(1, 2, MIRA, "s1"), life.move_seat(2, 1, MIRA, "s1")],
    ]


@dataclass(frozen=True)
class Life:
    """What is delivered of it, and who comes when in the end, and whether."""

    provider: str
    bodies: list[str]
    status: str
    days: int = 0  # after the first Monday
    also: tuple[tuple[str, int, str], ...] = ()

    def shown(self, *, to_come: bool) -> list[tuple[str, datetime, str]]:
        found = [(MIRA, self.days, self.status), *self.also]
        return sorted(
            (
                who,
                MONDAY + timedelta(days=days),
                # What is to come has not ended, whoever says so.
                "confirmed" if to_come and status == "completed" else status,
            )
            for who, days, status in found
        )


LIVES = {
    "calendly": Life("calendly", calendly_life(), "no_show", 2),
    "calendly, came after all": Life(
        "calendly", calendly_life_taken_back(), "confirmed", 1
    ),
    "calendly, missed again": Life("calendly", calendly_life_missed_again(), "no_show"),
    "calcom": Life("calcom", calcom_life(), "no_show", 2),
    "calcom, approved": Life("calcom", calcom_life_with_approval(), "completed", 1),
    "calcom, put off": Life("calcom", calcom_life_put_off(), "completed", 1),
    "calcom, older": Life("calcom", calcom_life_of_an_older_version(), "cancelled", 2),
    "calcom, a move unheard of": Life(
        "calcom", calcom_life_with_a_move_unheard_of(), "cancelled", 3
    ),
    "calcom, a request unheard of": Life(
        "calcom", calcom_life_with_a_request_unheard_of(), "confirmed", 2
    ),
    "seat, there and back": Life("calcom", seat_there_and_back(), "confirmed", 1),
    "seat, there, back and there": Life(
        "calcom", seat_there_and_back_and_there(), "cancelled", 1
    ),
    "seat, told late": Life("calcom", seat_told_late(), "confirmed", 3),
    "seat, moves unheard of": Life(
        "calcom",
        seat_with_moves_unheard_of(),
        "cancelled",
        4,
        ((IVO, 1, "confirmed"),),
    ),
    "seat, back unheard of": Life("calcom", seat_back_unheard_of(), "cancelled", 2),
    "seat, all around unheard of": Life(
        "calcom", seat_all_around_unheard_of(), "cancelled", 1
    ),
    "seat, missed, there and back": Life(
        "calcom", seat_missed_there_and_back(), "confirmed", 1
    ),
    "class, missed and booked anew": Life(
        "calcom",
        class_missed_and_booked_anew(),
        "confirmed",
        1,
        ((MIRA, 1, "no_show"), (IVO, 1, "no_show")),
    ),
    "class, moved": Life(
        "calcom", class_moved(), "confirmed", 2, ((IVO, 2, "cancelled"),)
    ),
    "class, booked anew and moved": Life(
        "calcom",
        class_booked_anew_and_moved(),
        "confirmed",
        2,
        ((IVO, 2, "confirmed"),),
    ),
    "class, moved and left": Life(
        "calcom", class_moved_and_left(), "confirmed", 3, ((IVO, 2, "confirmed"),)
    ),
}


async def told(
    database: Connection,
    worker: Connection,
    provider: str,
    parts: Sequence[Sequence[str]],
) -> list[Any]:
    """What comes of deliveries that are applied part by part."""
    bookings = await Bookings.create(database, worker, provider=provider)
    for part in parts:
        await bookings.tell(*read(provider, part))
    return await rows(database, bookings)


@pytest.mark.parametrize("life", LIVES)
async def test_a_life_told_in_order_is_one_meeting_for_each_who_comes(
    database: Connection, worker: Connection, when: str, life: str
) -> None:
    lived = LIVES[life]
    meetings, keys, clients, _, _ = await told(
        database, worker, lived.provider, [[body] for body in lived.bodies]
    )
    shown = [
        (one["attendee_email"], one["starts_at"], one["status"]) for one in meetings
    ]
    expected = lived.shown(to_come=when == "to come")
    assert sorted(shown) == expected
    assert all(key["leads_to_a_listed_meeting"] for key in keys)
    assert [client["email"] for client in clients] == sorted(
        {who for who, *_ in expected}
    )
    metadata = json.loads(meetings[0]["metadata"])
    assert metadata["booking"]["provider"] == lived.provider


@pytest.mark.parametrize("life", LIVES)
async def test_every_order_and_repetition_of_a_life_ends_in_the_same_rows(
    database: Connection, worker: Connection, when: str, life: str
) -> None:
    if when == "over":
        await DatabaseClock(database).set(NOW + timedelta(days=200))
    provider, bodies = LIVES[life].provider, LIVES[life].bodies
    expected = await told(database, worker, provider, [bodies])
    bookings = await Bookings.create(database, worker, provider=provider)

    async def tell(place: int) -> None:
        await bookings.tell(*read(provider, [bodies[place]]), on=database)

    async def arrived(order: Sequence[int]) -> None:
        assert await rows(database, bookings) == expected, order

    await EveryOrder(database, bodies, tell, arrived).walk()


async def test_an_order_that_ends_otherwise_would_be_found(
    database: Connection,
) -> None:
    """What is told last stands here."""
    organization_id = await make_organization(database)
    names = ["Anna", "Bella", "Carla"]
    ends = set()

    async def tell(place: int) -> None:
        await database.execute(
            "update public.organizations set name = $2 where id = $1",
            organization_id,
            names[place],
        )

    async def arrived(_: Sequence[int]) -> None:
        ends.add(
            await database.fetchval(
                "select name from public.organizations where id = $1", organization_id
            )
        )

    await EveryOrder(database, names, tell, arrived).walk()
    assert ends == set(names)


@pytest.mark.usefixtures("when")
@pytest.mark.parametrize("life", LIVES)
@given(data=st.data())
@unhurried
async def test_any_order_repetition_and_split_of_a_life_ends_in_the_same_rows(
    database: Connection,
    worker: Connection,
    life: str,
    data: st.DataObject,
) -> None:
    provider, bodies = LIVES[life].provider, LIVES[life].bodies
    again = data.draw(st.lists(st.sampled_from(bodies), max_size=3))
    order = data.draw(st.permutations(bodies + again))
    cuts = data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    parts: list[list[str]] = [[]]
    for body, cut in zip(order, cuts, strict=True):
        if cut:
            parts.append([])
        parts[-1].append(body)
    assert await told(database, worker, provider, parts) == await told(
        database, worker, provider, [bodies]
    )
