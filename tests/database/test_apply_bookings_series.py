"""Bookings of a recurring kind, and the recurring event that their page made."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from providers.bookings import Booking, Seats
from tests.support.bookings import Bookings, booking, next_week
from tests.support.database_clock import DatabaseClock
from tests.support.events import Calendar, Event, make_occurrence, make_series, meetings
from tests.support.every_order import EveryOrder
from tests.support.sessions import Connection

STARTS = [next_week(days=days) for days in (7, 14, 21)]
LATER = STARTS[1] + timedelta(days=1)
WINDOW: dict[str, Any] = {
    "window_start": STARTS[0] - timedelta(days=30),
    "window_end": STARTS[0] + timedelta(days=180),
}
UIDS = {"shared": ["U1@Cal.com"] * 3, "own": [f"U{n}@Cal.com" for n in range(3)]}
LINKS = """
select event.role, event.starts_at, meeting.title, meeting.starts_at as meets_at
from public.calendar_events as event
join public.meetings as meeting
  on meeting.id = event.meeting_id and meeting.merged_into is null
where event.calendar_id = $1
order by event.original_start
"""

both = pytest.mark.parametrize("uids", UIDS.values(), ids=UIDS)


def series_of(uids: Sequence[str], **fields: Any) -> list[Booking]:
    """A booking each week, each of its own."""
    return [
        booking(
            f"b{n}",
            **{"ical_uid": uids[n], "starts_at": start, "recurs": True, **fields},
        )
        for n, start in enumerate(STARTS)
    ]


def occurrences(uids: Sequence[str], **second: Any) -> tuple[Event, list[Event]]:
    """The event that recurs; of the second what is given is different."""
    members = [
        make_occurrence(
            "s",
            start,
            ical_uid=uid.lower(),
            **({"role": "exception", **second} if second and n == 1 else {}),
        )
        for n, (start, uid) in enumerate(zip(STARTS, uids, strict=True))
    ]
    return make_series("s", STARTS[0], ical_uid=uids[0].lower()), members


class Both:
    """Bookings and the calendar of their host, told of in any order."""

    def __init__(
        self, database: Connection, bookings: Bookings, calendar: Calendar
    ) -> None:
        self._database = database
        self.bookings = bookings
        self.calendar = calendar

    @classmethod
    async def create(cls, database: Connection, worker: Connection) -> "Both":
        await DatabaseClock(database).set(datetime.now(UTC))
        calendar = await Calendar.create(database, worker)
        bookings = await Bookings.create(
            database, worker, organization_id=calendar.organization_id
        )
        return cls(database, bookings, calendar)

    async def in_every_order(
        self, news: Sequence[Booking | tuple[Event, list[Event]]], expected: list[Any]
    ) -> None:
        """Tell all of it in each; expect these meetings behind the events."""

        async def tell(place: int) -> None:
            match news[place]:
                case Booking() as told:
                    await self.bookings.tell(told, on=self._database)
                case series:
                    await self.calendar.apply_series(
                        series, on=self._database, **WINDOW
                    )

        async def arrived(order: Sequence[int]) -> None:
            assert await self.found() == expected, order

        deliveries = [str(one) for one in news]
        await EveryOrder(self._database, deliveries, tell, arrived).walk()

    async def found(self) -> list[Any]:
        """Meetings in the lists, and which of them stand behind events."""
        listed = await meetings(self._database)
        linked = await self._database.fetch(LINKS, self.calendar.id)
        return [
            [(one["title"], one["starts_at"], one["status"]) for one in listed],
            [tuple(one) for one in linked],
        ]


def linked(*starts: datetime, role: str = "occurrence") -> list[Any]:
    return [(role, start, "Visit", start) for start in starts]


def listed(*starts: datetime, status: str = "confirmed") -> list[Any]:
    return [("Visit", start, status) for start in starts]


@both
async def test_bookings_of_a_series_and_its_occurrences_are_one_meeting_each(
    database: Connection, worker: Connection, uids: Sequence[str]
) -> None:
    both = await Both.create(database, worker)
    await both.in_every_order(
        [*series_of(uids), occurrences(uids)], [listed(*STARTS), linked(*STARTS)]
    )


async def test_an_event_of_the_first_bookings_ical_uid_is_named_by_the_others(
    database: Connection, worker: Connection
) -> None:
    both = await Both.create(database, worker)
    first, *others = series_of(UIDS["own"])
    named = [replace(one, series_id="s") for one in others]
    await both.in_every_order(
        [first, *named, occurrences([UIDS["own"][0]] * 3)],
        [listed(*STARTS), linked(*STARTS)],
    )


@both
@pytest.mark.parametrize("first", ["bookings", "event"])
async def test_bookings_of_a_series_told_at_once_are_its_occurrences(
    database: Connection, worker: Connection, uids: Sequence[str], first: str
) -> None:
    both = await Both.create(database, worker)
    if first == "event":
        await both.calendar.apply_series(occurrences(uids))
    await both.bookings.tell(*series_of(uids))
    if first == "bookings":
        await both.calendar.apply_series(occurrences(uids))
    assert await both.found() == [listed(*STARTS), linked(*STARTS)]
    keys = await database.fetch("select key from sync.meeting_keys")
    await both.calendar.apply_series(occurrences(uids))
    await both.bookings.tell(*series_of(uids, title="Visit", version="2"))
    assert await both.found() == [listed(*STARTS), linked(*STARTS)]
    assert await database.fetch("select key from sync.meeting_keys") == keys


@both
@pytest.mark.parametrize("key", ["another", "the same"])
async def test_a_booking_of_a_series_that_is_moved_keeps_its_meeting_and_occurrence(
    database: Connection, worker: Connection, uids: Sequence[str], key: str
) -> None:
    both = await Both.create(database, worker)
    _, second, _ = series_of(uids)
    moved = replace(
        second, version="2", starts_at=LATER, ends_at=LATER + timedelta(minutes=30)
    )
    if key == "another":
        moved = replace(moved, key="b1b", supersedes="b1")
    first, _, third = linked(*STARTS)
    exception = linked(LATER, role="exception")
    await both.in_every_order(
        [second, moved, occurrences(uids, starts_at=LATER)],
        [listed(STARTS[0], LATER, STARTS[2]), [first, *exception, third]],
    )


async def test_one_cancelled_booking_of_a_series_cancels_no_other(
    database: Connection, worker: Connection
) -> None:
    both = await Both.create(database, worker)
    uids = UIDS["shared"]
    first, second, _ = series_of(uids)
    await both.in_every_order(
        [first, replace(second, state="cancelled", version="2"), occurrences(uids)],
        [
            [
                *listed(STARTS[0]),
                *listed(STARTS[1], status="cancelled"),
                *listed(STARTS[2]),
            ],
            linked(*STARTS),
        ],
    )


async def test_bookings_of_a_series_are_never_one_by_their_ical_uid(
    database: Connection, worker: Connection
) -> None:
    both = await Both.create(database, worker)
    # Two that share all but their ids.
    twins = series_of(UIDS["shared"], starts_at=STARTS[0])
    await both.bookings.tell(*twins[:2])
    await both.bookings.tell(twins[2])
    assert len(await meetings(database)) == 3


@pytest.mark.parametrize("first", ["bookings", "event"])
async def test_an_occurrence_with_seats_is_no_meeting(
    database: Connection, worker: Connection, first: str
) -> None:
    both = await Both.create(database, worker)
    uids = UIDS["shared"]
    seats = [
        replace(
            one,
            key=f"{one.key}#{one.key}-{who}",
            slot_id=one.key,
            seat_id=f"{one.key}-{who}",
            seats=Seats(limit=3),
            attendee_email=f"{who}@example.com",
        )
        for one in series_of(uids)
        for who in ("1", "2")
    ]
    if first == "event":
        await both.calendar.apply_series(occurrences(uids))
    await both.bookings.tell(*seats)
    if first == "bookings":
        await both.calendar.apply_series(occurrences(uids))
    found = await both.found()
    assert found == [listed(*sorted(STARTS * 2)), []]
    roles = await database.fetch(
        """
        select role from public.calendar_events
        where calendar_id = $1 and role <> 'series'
        """,
        both.calendar.id,
    )
    assert [row["role"] for row in roles] == ["slot"] * 3
