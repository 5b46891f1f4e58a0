"""Whatever happens in a calendar, the meetings become what it says, once."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.events import (
    Calendar,
    Event,
    coming,
    expand,
    make_event,
    make_series,
    tombstone,
    without_occurrence,
)
from tests.support.sessions import Connection

EXAMPLES = 25


@dataclass(frozen=True)
class Single:
    title: str
    day: int

    @property
    def starts(self) -> list[datetime]:
        return [coming() + timedelta(days=self.day)]


@dataclass(frozen=True)
class Series:
    title: str
    day: int
    hour: int
    length: int
    deleted: frozenset[int] = field(default_factory=frozenset)

    def start(self, place: int) -> datetime:
        first = coming(hour=8 + self.hour) + timedelta(days=self.day)
        return first + timedelta(weeks=place)

    @property
    def starts(self) -> list[datetime]:
        return [
            self.start(place)
            for place in range(self.length)
            if place not in self.deleted
        ]


Entry = Single | Series

titles = st.sampled_from(["Ann", "Bob", "Cem"])
days = st.integers(0, 6)
singles = st.builds(Single, title=titles, day=days)
series = st.builds(
    Series,
    title=titles,
    day=days,
    hour=st.integers(0, 3),
    length=st.integers(1, 6),
    deleted=st.frozensets(st.integers(1, 5), max_size=2),
)
ids = st.sampled_from(["a", "b", "c"])
changes = st.dictionaries(ids, st.none() | singles | series, min_size=1, max_size=3)


class Pull:
    """A calendar that is told what changed since it was last pulled."""

    def __init__(self, calendar: Calendar, *, organizer: bool = True) -> None:
        self.calendar = calendar
        self._fields = {"is_organizer": organizer}
        self._known: dict[str, Entry] = {}
        self._last: tuple[list[Event], list[tuple[Event, list[Event]]]] = ([], [])

    async def read(self, entries: dict[str, Entry], sequence: int) -> None:
        """Apply how the calendar differs from what was read last."""
        events: list[Event] = []
        whole: list[tuple[Event, list[Event]]] = []
        for event_id in sorted(entries.keys() | self._known.keys()):
            new = entries.get(event_id)
            if new != self._known.get(event_id):
                self._tell(event_id, new, sequence, events, whole)
        self._known = dict(entries)
        self._last = (events, whole)
        await self.read_again()

    async def read_again(self) -> dict[str, int]:
        events, whole = self._last
        return await self.calendar.apply_series(*whole, more=events)

    def _tell(
        self,
        event_id: str,
        new: Entry | None,
        sequence: int,
        events: list[Event],
        whole: list[tuple[Event, list[Event]]],
    ) -> None:
        fields: dict[str, Any] = {**self._fields, "sequence": sequence}
        if new is None:
            events.append(tombstone(event_id, sequence=sequence))
            return
        fields["title"] = new.title
        if isinstance(new, Single):
            events.append(make_event(event_id, starts_at=new.starts[0], **fields))
            return
        events += [
            without_occurrence(event_id, new.start(place))
            for place in new.deleted
            if place < new.length
        ]
        _, members = expand(event_id, new.starts, **fields)
        whole.append((make_series(event_id, new.start(0), **fields), members))


def expected(entries: dict[str, Entry]) -> list[tuple[str, datetime]]:
    return sorted(
        (entry.title, start) for entry in entries.values() for start in entry.starts
    )


def change(entries: dict[str, Entry], changed: dict[str, Entry | None]) -> None:
    for event_id, new in changed.items():
        entries.pop(event_id, None)
        if new is not None:
            entries[event_id] = new


async def live(database: Connection, calendar: Calendar) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        """
        select title, starts_at from public.meetings
        where organization_id = $1 and status <> 'cancelled' and merged_into is null
        order by title, starts_at
        """,
        calendar.organization_id,
    )
    return [tuple(row) for row in rows]


async def rows_written(database: Connection) -> list[Any]:
    return [
        await database.fetch(f"select ctid::text, xmin::text from {table}")
        for table in ("public.meetings", "public.calendar_events", "sync.meeting_keys")
    ]


unhurried = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(rounds=st.lists(changes, min_size=1, max_size=6))
@unhurried
async def test_meetings_become_what_the_calendar_says_and_stay_so(
    database: Connection, worker: Connection, rounds: list[dict[str, Entry | None]]
) -> None:
    pull = Pull(await Calendar.create(database, worker))
    entries: dict[str, Entry] = {}
    for sequence, changed in enumerate(rounds):
        change(entries, changed)
        await pull.read(entries, sequence)
        assert await live(database, pull.calendar) == expected(entries)
        before = await rows_written(database)
        assert set(await pull.read_again()) <= {"unchanged"}
        assert await rows_written(database) == before


# What only a guest's calendar ever showed, its deletion leaves alone: so hers is read
# whenever his was.
orders = st.sampled_from([[], ["hers"], ["hers", "his"], ["his", "hers"]])


@given(rounds=st.lists(st.tuples(changes, orders), min_size=1, max_size=6))
@unhurried
async def test_two_calendars_of_one_organization_have_one_meeting_of_each_event(
    database: Connection,
    worker: Connection,
    rounds: list[tuple[dict[str, Entry | None], list[str]]],
) -> None:
    calendar = await Calendar.create(database, worker)
    guests = await Calendar.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )
    pulls = {"hers": Pull(calendar), "his": Pull(guests, organizer=False)}
    entries: dict[str, Entry] = {}
    for sequence, (changed, order) in enumerate(rounds):
        change(entries, changed)
        for who in order:
            await pulls[who].read(entries, sequence)
    for pull in pulls.values():
        await pull.read(entries, len(rounds))
    assert await live(database, calendar) == expected(entries)
    copies = await database.fetch(
        """
        select count(*) as events, count(distinct meeting_id) as meetings
        from public.calendar_events
        where organization_id = $1 and status <> 'cancelled' and role <> 'series'
        group by ical_uid, original_start
        """,
        calendar.organization_id,
    )
    assert {(row["events"], row["meetings"]) for row in copies} <= {(2, 1)}
