"""A connection whose bookings come in, applied as its worker applies them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import msgspec

from providers.bookings import Booking
from providers.calcom.bookings import read_delivery as read_calcom
from providers.calendly.bookings import read_delivery as read_calendly
from providers.model import Provider
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection

APPLY = "select * from sync.apply_bookings($1, $2, $3, $4, $5)"
READERS = {"calendly": read_calendly, "calcom": read_calcom}
GUEST = "mira.ostrow@example.com"


def booking(key: str, provider: str = "calcom", **fields: Any) -> Booking:
    """A booking of half an hour a week from now, accepted, unless said otherwise."""
    start = fields.pop("starts_at", next_week())
    return Booking(
        provider=Provider(provider),
        key=key,
        **{
            "provider_id": key,
            "source": "delivery",
            "version": "1",
            "as_of": datetime(2026, 3, 2, tzinfo=UTC),
            "state": "accepted",
            "title": "Visit",
            "starts_at": start,
            "ends_at": start and start + timedelta(minutes=30),
            "attendee_email": GUEST,
            "attendee_name": "Mira Ostrow",
            **fields,
        },
    )


def bare(key: str, **fields: Any) -> Booking:
    """A message that tells nothing of a booking but what is given."""
    return booking(
        key,
        **{
            "title": None,
            "starts_at": None,
            "attendee_email": None,
            "attendee_name": None,
            "state": None,
            **fields,
        },
    )


def next_week(*, days: int = 7) -> datetime:
    """Nine in the morning, some days from now."""
    return (datetime.now(UTC) + timedelta(days=days)).replace(
        hour=9, minute=0, second=0, microsecond=0
    )


def read(provider: str, bodies: Iterable[str]) -> list[Booking]:
    """What deliveries tell."""
    told: list[Booking] = []
    for body in bodies:
        found = READERS[provider](body)
        assert isinstance(found, list)
        told += found
    return told


class Bookings:
    """A connection whose ingest is under way: applies as its worker would."""

    def __init__(
        self, worker: Connection, connection_id: UUID, organization_id: UUID
    ) -> None:
        self._worker = worker
        self.connection_id = connection_id
        self.organization_id = organization_id
        self.calendar_id: UUID | None = None
        self.task_id = 0
        self.lease = uuid4()

    @classmethod
    async def create(
        cls,
        database: Connection,
        worker: Connection,
        *,
        provider: str = "calcom",
        organization_id: UUID | None = None,
        account_email: str = "host@example.com",
    ) -> Self:
        """A connection in an organization of its own, unless one is given."""
        organization_id = organization_id or await make_organization(database)
        connection_id = await make_connection(
            database, organization_id, provider=provider, account_email=account_email
        )
        bookings = cls(worker, connection_id, organization_id)
        bookings.calendar_id = await make_calendar(
            database, connection_id, name="Bookings", sync_enabled=True
        )
        await database.execute(
            "update public.calendars set kind = 'bookings' where id = $1",
            bookings.calendar_id,
        )
        bookings.task_id = await database.fetchval(
            """
            insert into sync.tasks
              (kind, subject_id, connection_id, lane, run_at, lease)
            values ('ingest', $1, $1, 1, now() + interval '1 minute', $2)
            on conflict (kind, subject_id) do update set lease = excluded.lease
            returning id
            """,
            connection_id,
            bookings.lease,
        )
        return bookings

    async def tell(
        self,
        *told: Booking,
        on: Connection | None = None,
        settled: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Apply what messages tell; returns the counts that are not zero."""
        counts = await (on or self._worker).fetchrow(
            APPLY,
            self.task_id,
            self.lease,
            self.connection_id,
            msgspec.json.encode(told).decode(),
            json.dumps(settled or []),
        )
        assert counts is not None
        found = dict(counts)
        found["refused"] = json.loads(found["refused"])
        return {name: count for name, count in found.items() if count}
