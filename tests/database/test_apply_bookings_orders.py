"""Whatever order, number and parts a booking's deliveries come in: the same rows."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.booking_bodies import NOW, CalcomLife, CalendlyLife
from tests.support.bookings import Bookings, read
from tests.support.builders import make_organization
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
order by meeting.starts_at
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
select stage, last_meeting_at, next_meeting_at from public.pipeline
where organization_id = $1
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


LIVES = {
    "calendly": ("calendly", calendly_life(), {"no_show"}),
    "calendly, came after all": (
        "calendly",
        calendly_life_taken_back(),
        {"confirmed"},
    ),
    "calcom": ("calcom", calcom_life(), {"no_show"}),
    "calcom, approved": ("calcom", calcom_life_with_approval(), {"completed"}),
    "calcom, put off": ("calcom", calcom_life_put_off(), {"completed"}),
    "calcom, older": ("calcom", calcom_life_of_an_older_version(), {"cancelled"}),
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
async def test_a_life_told_in_order_is_one_meeting(
    database: Connection, worker: Connection, when: str, life: str
) -> None:
    provider, bodies, statuses = LIVES[life]
    meetings, keys, clients, _, _ = await told(
        database, worker, provider, [[body] for body in bodies]
    )
    if when == "to come" and statuses == {"completed"}:
        statuses = {"confirmed"}  # what is to come has not ended, whoever says so
    assert {meeting["status"] for meeting in meetings} == statuses
    assert len(meetings) == 1
    assert all(key["leads_to_a_listed_meeting"] for key in keys)
    assert [client["email"] for client in clients] == ["mira.ostrow@example.com"]
    metadata = json.loads(meetings[0]["metadata"])
    assert metadata["booking"]["provider"] == provider


@pytest.mark.parametrize("life", LIVES)
async def test_every_order_and_repetition_of_a_life_ends_in_the_same_rows(
    database: Connection, worker: Connection, when: str, life: str
) -> None:
    if when == "over":
        await DatabaseClock(database).set(NOW + timedelta(days=200))
    provider, bodies, _ = LIVES[life]
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
    provider, bodies, _ = LIVES[life]
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
