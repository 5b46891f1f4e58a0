"""Whatever happens in a calendar, the meetings become what it says, once."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.events import (
    Calendar,
    Event,
    coming,
    expand,
    make_event,
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


def told(event_id: str, old: Entry | None, new: Entry | None, sequence: int) -> Any:
    """What a pull reads of a change: events, and a series if it was read whole."""
    if new is None:
        return ([tombstone(event_id, sequence=sequence)] if old else []), None
    if isinstance(new, Single):
        single = make_event(
            event_id, title=new.title, starts_at=new.starts[0], sequence=sequence
        )
        return [single], None
    exdates = [
        without_occurrence(event_id, new.start(place))
        for place in new.deleted
        if place < new.length
    ]
    head, members = expand(event_id, new.starts, title=new.title, sequence=sequence)
    head = make_event(
        event_id,
        role="series",
        title=new.title,
        starts_at=new.start(0),
        sequence=sequence,
    )
    return exdates, (head, members)


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


@given(rounds=st.lists(changes, min_size=1, max_size=6))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_meetings_become_what_the_calendar_says_and_stay_so(
    database: Connection,
    worker: Connection,
    rounds: list[dict[str, Entry | None]],
) -> None:
    calendar = await Calendar.create(database, worker)
    entries: dict[str, Entry] = {}
    sequences = count()
    for changed in rounds:
        events: list[Event] = []
        whole = []
        for event_id, new in changed.items():
            more, one = told(event_id, entries.get(event_id), new, next(sequences))
            events += more
            whole += [one] if one else []
            entries.pop(event_id, None)
            if new is not None:
                entries[event_id] = new
        await calendar.apply_series(*whole, more=events)
        assert await live(database, calendar) == sorted(
            (entry.title, start) for entry in entries.values() for start in entry.starts
        )
        before = await rows_written(database)
        again = await calendar.apply_series(*whole, more=events)
        assert set(again) <= {"unchanged"}
        assert await rows_written(database) == before
