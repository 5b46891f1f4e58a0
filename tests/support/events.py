"""Event objects as `sync.apply_events` takes them, and a calendar to apply them to."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection

Event = dict[str, Any]

ZONE = ZoneInfo("Europe/Berlin")
ORGANIZER = "ada@example.org"
UPDATED_AT = datetime(2026, 1, 5, 12, tzinfo=ZONE)

APPLY = "select * from sync.apply_events($1, $2, $3, $4, $5)"


def coming(weeks: int = 1, *, weekday: int = 0, hour: int = 9) -> datetime:
    """A local time in a week to come, the same in each run within a week."""
    today = datetime.now(ZONE).date()
    monday = today - timedelta(days=today.weekday())
    day = monday + timedelta(weeks=weeks, days=weekday)
    return datetime(day.year, day.month, day.day, hour, tzinfo=ZONE)


def _with_hash(event: Event) -> Event:
    raw = {"id": event["provider_event_id"], "summary": event["title"]}
    event.setdefault("raw", raw)
    content = json.dumps(event, sort_keys=True, default=str).encode()
    event["content_hash"] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return event


def make_event(event_id: str, **fields: Any) -> Event:
    """A single event of an hour, organized by the account, unless said otherwise."""
    start = fields.pop("starts_at", None) or coming()
    event: Event = {
        "provider_event_id": event_id,
        "role": "single",
        "status": "confirmed",
        "ical_uid": f"{event_id}@google.com",
        "etag": '"1"',
        "sequence": 0,
        "title": "Visit",
        "description": None,
        "location": None,
        "starts_at": start,
        "ends_at": start + timedelta(hours=1),
        "all_day": False,
        "start_date": None,
        "end_date": None,
        "time_zone": "Europe/Berlin",
        "organizer_email": ORGANIZER,
        "is_organizer": True,
        "own_response": None,
        "attendees": [],
        "conference_url": None,
        "series_provider_id": None,
        "original_start": None,
        "original_start_date": None,
        "visibility": "default",
        "event_type": "default",
        "provider_updated_at": UPDATED_AT,
        **fields,
    }
    return _with_hash(event)


def all_day(event_id: str, start: date, *, days: int = 1, **fields: Any) -> Event:
    """A single event of whole days."""
    return make_event(
        event_id,
        all_day=True,
        start_date=start,
        end_date=start + timedelta(days=days),
        **{"time_zone": None, **fields},
    ) | {"starts_at": None, "ends_at": None}


def tombstone(event_id: str, **fields: Any) -> Event:
    """What is left of a deleted event: its id."""
    event = dict.fromkeys(make_event(event_id))
    return _with_hash(
        event
        | {"provider_event_id": event_id, "status": "cancelled", "all_day": False}
        | fields
    )


def without_occurrence(series_id: str, original: datetime) -> Event:
    """A cancelled exception, with the three fields that are promised."""
    return tombstone(
        occurrence_id(series_id, original),
        role="exception",
        series_provider_id=series_id,
        original_start=original,
    )


def occurrence_id(series_id: str, original: datetime) -> str:
    """As Google makes it: from the original start."""
    utc = original.astimezone(ZoneInfo("UTC"))
    return f"{series_id}_{utc:%Y%m%dT%H%M%SZ}"


def make_series(series_id: str, start: datetime, **fields: Any) -> Event:
    """The master of a series."""
    return make_event(series_id, role="series", starts_at=start, **fields)


def make_occurrence(series_id: str, original: datetime, **fields: Any) -> Event:
    """One of a series' instances, where the series puts it."""
    return make_event(
        fields.pop("event_id", None) or occurrence_id(series_id, original),
        **{
            "role": "occurrence",
            "ical_uid": f"{series_id}@google.com",
            "starts_at": original,
            "series_provider_id": series_id,
            "original_start": original,
            **fields,
        },
    )


def expand(
    series_id: str, starts: Iterable[datetime], **fields: Any
) -> tuple[Event, list[Event]]:
    """A series as a pull has it: the master, and all instances of the window."""
    starts = list(starts)
    master = make_series(series_id, starts[0], **fields)
    return master, [make_occurrence(series_id, start, **fields) for start in starts]


def weekly(start: datetime, count: int, *, days: int = 7) -> list[datetime]:
    """Local times, `days` apart, daylight saving or not."""
    return [start + timedelta(days=days * n) for n in range(count)]


class Calendar:
    """A calendar whose pull is under way: applies as its worker would."""

    def __init__(
        self, worker: Connection, calendar_id: UUID, organization_id: UUID
    ) -> None:
        self._worker = worker
        self.id = calendar_id
        self.organization_id = organization_id
        self.task_id = 0
        self.lease = uuid4()

    @classmethod
    async def create(
        cls,
        database: Connection,
        worker: Connection,
        *,
        organization_id: UUID | None = None,
        account_email: str = ORGANIZER,
        **columns: Any,
    ) -> Self:
        """A calendar in an organization of its own, unless one is given."""
        organization_id = organization_id or await make_organization(database)
        connection_id = await make_connection(
            database, organization_id, account_email=account_email
        )
        calendar = cls(
            worker, await make_calendar(database, connection_id), organization_id
        )
        for column, value in columns.items():
            await database.execute(
                f"update public.calendars set {column} = $2 where id = $1",
                calendar.id,
                value,
            )
        calendar.task_id = await database.fetchval(
            """
            insert into sync.tasks
              (kind, subject_id, connection_id, lane, run_at, lease)
            values ('pull', $1, $2, 1, now() + interval '1 minute', $3)
            returning id
            """,
            calendar.id,
            connection_id,
            calendar.lease,
        )
        return calendar

    async def apply(
        self, *events: Event, on: Connection | None = None, **round_: Any
    ) -> dict[str, int]:
        """Apply events; returns the counts that are not zero."""
        counts = await (on or self._worker).fetchrow(
            APPLY,
            self.task_id,
            self.lease,
            self.id,
            json.dumps(events, default=_json),
            json.dumps(round_, default=_json),
        )
        assert counts is not None
        return {name: count for name, count in counts.items() if count}

    async def apply_series(
        self,
        *series: tuple[Event, Sequence[Event]],
        more: Sequence[Event] = (),
        **round_: Any,
    ) -> dict[str, int]:
        """Apply series that were read whole, as the last call of a pull does."""
        events = [event for _, members in series for event in members]
        heads = [head for head, _ in series]
        return await self.apply(
            *events,
            *heads,
            *more,
            **{
                "series": [head["provider_event_id"] for head in heads],
                "window_start": datetime.now(ZONE) - timedelta(days=30),
                "window_end": datetime.now(ZONE) + timedelta(days=180),
                **round_,
            },
        )

    async def full_round(self, *events: Event, **round_: Any) -> dict[str, int]:
        """Meet exactly these events in a full round, and end it."""
        await self._worker.fetchval(
            "select sync.compare_hashes($1, $2, $3, true)",
            self.id,
            [event["provider_event_id"] for event in events],
            [bytes.fromhex(event["content_hash"]) for event in events],
        )
        return await self.apply(
            *events,
            **{
                "full_round": True,
                "asked_from": datetime.now(ZONE) - timedelta(days=30),
                **round_,
            },
        )


def _json(value: object) -> str:
    assert isinstance(value, date)
    return value.isoformat()


async def meetings(database: Connection) -> list[Any]:
    """All meetings that are in the lists, by start."""
    return await database.fetch(
        """
        select * from public.meetings
        where merged_into is null
        order by starts_at, title
        """
    )


async def mirrored(database: Connection, event_id: str) -> Any:
    """The mirror's row of a provider's event."""
    return await database.fetchrow(
        "select * from public.calendar_events where provider_event_id = $1", event_id
    )
