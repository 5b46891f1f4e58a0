"""However bookings are told, the tables add them up as the reference does."""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from providers.bookings import (
    FIELDS,
    Booking,
    NoShow,
)
from providers.calcom import bookings as calcom
from providers.calendly import bookings as calendly
from providers.model import Malformed, Provider
from tests.support.any_bookings import T0, Row, tellings
from tests.support.booking_bodies import CalcomLife, CalendlyLife
from tests.support.booking_join import Joined, join
from tests.support.builders import make_organization
from tests.support.sessions import Connection

Read = Callable[[str], list[Booking] | Malformed]

NOTHING = msgspec.Raw(b"{}")

unhurried = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Told:
    """A connection that is told of bookings, and whoever keeps what is joined."""

    def __init__(self, database: Connection, connection_id: UUID) -> None:
        self._database = database
        self._id = connection_id
        self.all: list[Booking] = []
        self.kept: list[Row] = []

    @classmethod
    async def create(cls, database: Connection) -> "Told":
        connection_id = await database.fetchval(
            """
            insert into public.calendar_connections
              (organization_id, provider, account_email)
            values ($1, 'calcom', 'ana@example.com')
            returning id
            """,
            await make_organization(database),
        )
        return cls(database, connection_id)

    async def tell(self, bookings: Iterable[Booking]) -> list[str]:
        """Tell, join what that touched, and replace what was kept of it."""
        given = list(bookings)
        self.all += given
        keys: list[str] = await self._database.fetchval(
            "select sync.tell_bookings($1, $2::text::jsonb)", self._id, as_json(given)
        )
        joined = await self.joined(keys)
        anew = {key for row in joined for key in row["keys"]}
        self.kept = [row for row in self.kept if anew.isdisjoint(row["keys"])] + joined
        return keys

    async def joined(self, keys: Sequence[str] | None = None) -> list[Row]:
        """What these keys, or all that were told, add up to."""
        asked = [booking.key for booking in self.all] if keys is None else keys
        rows = await self._database.fetch(
            "select * from sync.join_bookings($1, $2)", self._id, asked
        )
        return [{**row, "fields": json.loads(row["fields"])} for row in rows]

    def speak_as(self, database: Connection) -> None:
        """Tell and join over another connection from now on."""
        self._database = database

    async def rows(self) -> list[Any]:
        return await self._database.fetch(
            """
            select key, ctid::text, xmin::text from sync.told_bookings
            where connection_id = $1
            """,
            self._id,
        )


def as_json(bookings: Iterable[Booking]) -> str:
    bare = [msgspec.structs.replace(booking, raw=NOTHING) for booking in bookings]
    return msgspec.json.encode(bare).decode()


def as_rows(found: Iterable[Joined]) -> list[Row]:
    return [
        {
            "keys": sorted(one.keys),
            "current_key": one.current,
            "provider_id": one.provider_id,
            "slot_id": one.slot_id,
            "seat_id": one.seat_id,
            "state": one.state,
            "phase": one.phase,
            "no_show": one.no_show,
            "version": one.version,
            "as_of": one.as_of,
            "fields": msgspec.to_builtins(one.fields),
        }
        for one in found
    ]


def projected(rows: Iterable[Row]) -> list[Row]:
    """Those of which a start was told: the others stand in no table yet."""
    return sorted(
        (row for row in rows if "starts_at" in row["fields"]), key=current_key
    )


def current_key(row: Row) -> str:
    return str(row["current_key"])


@given(batches=tellings())
@unhurried
async def test_what_is_told_in_any_order_and_number_adds_up_as_the_reference_says(
    database: Connection, batches: list[list[Booking]]
) -> None:
    told = await Told.create(database)
    for batch in batches:
        await told.tell(batch)
        expected = as_rows(join(told.all))
        assert await told.joined() == expected
        assert projected(told.kept) == projected(expected)


@given(batches=tellings())
@unhurried
async def test_what_was_told_before_is_not_stored_again_however_it_is_cut(
    database: Connection, batches: list[list[Booking]]
) -> None:
    told = await Told.create(database)
    for batch in batches:
        await told.tell(batch)
    stored = await told.rows()
    for batch in batches:
        assert await told.tell(batch) == []
    assert await told.tell(told.all) == []
    assert await told.rows() == stored


def read_all(read: Read, bodies: Iterable[str]) -> list[Booking]:
    found: list[Booking] = []
    for body in bodies:
        one = read(body)
        assert isinstance(one, list)
        found += one
    return found


def calendly_life() -> list[Booking]:
    life = CalendlyLife()
    bodies = life.book() + life.reschedule() + life.mark() + life.cancel()
    return read_all(calendly.read_delivery, bodies)


def calcom_life() -> list[Booking]:
    life = CalcomLife(partial=True)
    bodies = life.request() + life.book() + life.reschedule() + life.mark()
    return read_all(calcom.read_delivery, [*bodies, *life.cancel()])


@pytest.mark.parametrize("lived", [calendly_life, calcom_life])
async def test_a_booking_is_joined_alike_from_every_order_of_its_deliveries(
    database: Connection, lived: Callable[[], list[Booking]]
) -> None:
    bookings = lived()
    expected = as_rows(join(bookings))
    assert (len(expected), expected[0]["state"]) == (1, "cancelled")
    for order in permutations(bookings):
        told = await Told.create(database)
        for booking in order:
            await told.tell([booking])
        assert told.kept == expected


async def test_a_move_whose_middle_is_not_told_yet_is_one_booking(
    database: Connection,
) -> None:
    life = CalendlyLife()
    created, (ended, _), (_, last) = life.book(), life.reschedule(), life.reschedule()
    bookings = read_all(calendly.read_delivery, [*created, ended, last])
    told = await Told.create(database)
    await told.tell(bookings)
    (joined,) = await told.joined()
    assert joined["current_key"] == life.uri
    assert joined["fields"]["starts_at"] == msgspec.to_builtins(life.start)


async def test_sweeping_the_same_bookings_for_ever_keeps_what_is_kept_of_them(
    database: Connection,
) -> None:
    def swept(hours: int) -> list[Booking]:
        at = T0 + timedelta(hours=hours)
        mark = NoShow("a@example.com", False, at)
        return [
            Booking(
                provider=Provider.CALCOM,
                key=key,
                provider_id=key,
                source="fetch",
                version=at.isoformat(),
                as_of=at,
                no_shows=[mark],
                title="30 min",
            )
            for key in ("k1", "k2")
        ]

    told = await Told.create(database)
    for hours in range(5):
        assert sorted(await told.tell(swept(hours))) == ["k1", "k2"]
        assert await told.joined() == as_rows(join(told.all))
        assert len(await told.rows()) == 2
    assert await told.tell(swept(1)) == []


def seat(name: str, **more: Any) -> Booking:
    return Booking(
        provider=Provider.CALCOM,
        key=f"u#{name}",
        provider_id="u",
        source="delivery",
        slot_id="u",
        **more,
    )


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_seat_that_was_told_first_stays_the_first_when_it_is_told_again(
    database: Connection, *, at_once: bool
) -> None:
    def said(name: str, hours: int) -> Booking:
        as_of = T0 + timedelta(hours=hours)
        return seat(name, seat_id=name, weak_key="u#mira", as_of=as_of)

    weak = seat("mira", weak_key="u#mira", state="cancelled")
    bookings = [said("s1", 1), said("s2", 2), said("s1", 3), weak]
    told = await Told.create(database)
    for batch in [bookings] if at_once else [[one] for one in bookings]:
        await told.tell(batch)
    assert [(row["current_key"], row["state"]) for row in await told.joined()] == [
        ("u#s1", "cancelled"),
        ("u#s2", None),
    ]
    assert sorted(told.kept, key=current_key) == as_rows(join(bookings))


async def test_whoever_sat_there_twice_is_moved_from_both_seats(
    database: Connection,
) -> None:
    bookings = [
        seat("s1", seat_id="s1", weak_key="u#mira", state="cancelled"),
        seat("s2", seat_id="s2", weak_key="u#mira"),
        seat("mira", weak_key="u#mira"),
        Booking(
            provider=Provider.CALCOM,
            key="v",
            provider_id="v",
            source="delivery",
            supersedes="u#mira",
        ),
    ]
    told = await Told.create(database)
    for booking in bookings:
        await told.tell([booking])
    assert told.kept == as_rows(join(bookings))
    assert [row["keys"] for row in told.kept] == [["u#mira", "u#s1", "u#s2", "v"]]


async def test_joining_one_seat_leaves_the_other_seats_of_the_slot_alone(
    database: Connection,
) -> None:
    told = await Told.create(database)
    await told.tell([seat("s1"), seat("s2"), seat("s3")])
    keys = await told.tell([seat("s2", state="cancelled")])
    assert [row["current_key"] for row in await told.joined(keys)] == ["u#s2"]


async def test_the_database_knows_every_field_of_a_booking(
    database: Connection,
) -> None:
    assert await database.fetchval("select sync.booking_fields()") == list(FIELDS)


async def test_the_engine_may_tell_and_join_and_nobody_else_of_ours_may(
    connect: Callable[..., Awaitable[Connection]], database: Connection
) -> None:
    told = await Told.create(database)
    told.speak_as(await connect(role="sync_engine"))
    await told.tell(calcom_life())
    assert len(await told.joined()) == 1
    for role in ("sync_worker", "webhook_ingest", "authenticated"):
        told.speak_as(await connect(role=role))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await told.joined()


def moved(booking: Booking, place: int) -> Booking:
    """The same of another booking."""

    def named(key: str | None) -> str | None:
        return key and f"{place}/{key}"

    return msgspec.structs.replace(
        booking,
        key=f"{place}/{booking.key}",
        supersedes=named(booking.supersedes),
        superseded_by=named(booking.superseded_by),
    )


async def test_hundreds_of_bookings_are_told_and_joined_in_one_call(
    database: Connection,
) -> None:
    lives = [calendly_life(), calcom_life()]
    bookings = [
        moved(booking, place)
        for place in range(300)
        for booking in lives[place % len(lives)]
    ]
    told = await Told.create(database)
    await told.tell(bookings[:1000])
    began_at = time.perf_counter()
    keys = await told.tell(bookings[1000:])
    duration_ms = (time.perf_counter() - began_at) * 1000
    assert await told.joined(keys) == [
        row for row in as_rows(join(bookings)) if set(row["keys"]) & set(keys)
    ]
    told_now = len(bookings) - 1000
    sys.stdout.write(f"{told_now} told and joined in {duration_ms:.0f} ms")
