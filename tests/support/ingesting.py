"""A world of bookings: a twin, a receiver, and a worker that takes them in."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from local_stack.twins.calendly.state import Subscription
from providers.calendly.bookings import TRIGGERS
from providers.model import Provider
from tests.support.builders import make_connection, make_organization
from tests.support.channels import WatchedWorld, heard, make_watched_world
from tests.support.events import coming
from tests.support.sessions import Connection
from tests.support.sync import EMAIL, HOOKS_URL
from worker.attempt import Ended
from worker.connections import Connections
from worker.handler import Handler, Task
from worker.ingest import Ingest

SECRET = "by-hand"
MIRA = {"email": "mira@example.com", "name": "Mira Ostrow"}
IVO = {"email": "ivo@example.com", "name": "Ivo Brandt"}
RECEIVER = {"CALENDLY_WEBHOOK_SIGNING_KEY": SECRET, "CALCOM_WEBHOOK_SECRET": SECRET}


@dataclass
class IngestWorld(WatchedWorld):
    """Somebody who can be booked, and what becomes of it in the tables."""

    calendar_id: UUID = field(default_factory=lambda: UUID(int=0))
    connection_id: UUID = field(default_factory=lambda: UUID(int=0))

    def handlers(self) -> dict[str, Handler]:
        connections = Connections(self.http, self.pool, self.settings, self.clock)
        return {**super().handlers(), "ingest": Ingest(self.pool, connections)}

    async def claim(self, kind: str, subject_id: UUID, *, lane: int = 1) -> Task:
        if kind == "ingest":
            await self.database.execute(
                "select sync.request_task('ingest', $1, $1, $2, sync.clock())",
                subject_id,
                lane,
            )
        return await super().claim(kind, subject_id, lane=lane)

    # Who is connected.

    async def begin(self, *, watched: bool = True, **columns: Any) -> None:
        """Connect the host with access to the API; read what is there."""
        self.connection_id = await self.connect()
        self.calendar_id = await self.switch_on(
            connection_id=self.connection_id, **columns
        )
        if watched:
            await self.work()
        else:
            await self.ingest()

    async def begin_by_hand(self) -> None:
        """Connect the host by a webhook that they made themselves, and that alone."""
        self.connection_id = await make_connection(
            self.database,
            await make_organization(self.database),
            provider=self.provider,
            account_email=EMAIL,
        )
        self.calendar_id = await self.switch_on(connection_id=self.connection_id)
        address = f"{HOOKS_URL}/webhooks/{self.provider}"
        if self.provider is Provider.CALCOM:
            self.account.add_webhook(address, secret=SECRET)
        else:
            self._subscribe(address)
        await self.database.execute("delete from sync.tasks")

    def _subscribe(self, address: str) -> None:
        user, now = self.account.user, self.clock.now()
        self.twin.store.known.subscriptions["by-hand"] = Subscription(
            id="by-hand",
            url=address,
            events=sorted(TRIGGERS),
            scope="user",
            organization=user.organization,
            user=user.uri,
            creator=user.uri,
            created_at=now,
            updated_at=now,
            signing_key=SECRET,
            by_app=False,
        )

    # What happens.

    def book(self, start: datetime, **who: Any) -> Any:
        """Book the host's call at a time."""
        with self.twin.store.exclusive() as known:
            kind = next(iter(known.types.values()), None)
        kind = kind or self.account.event_type("Call")
        return self.account.book(kind, start, **(who or MIRA))

    async def ingest(self, *, lane: int = 1) -> Ended:
        """Ask for an ingest and do it."""
        return await self.do("ingest", self.connection_id, lane=lane)

    async def delivered(self) -> list[Ended]:
        """Let everything that was posted arrive, and be taken in."""
        await self.twin.outbox.drain()
        return await self.work("ingest")

    async def deliver(
        self,
        bodies: Sequence[str],
        *,
        kind: str = "booking",
        headers: str = "{}",
    ) -> None:
        """Store deliveries as the receiver does, verified; nothing is taken in yet."""
        channel_id = await self.database.fetchval(
            """
            insert into public.calendar_watch_channels
              (calendar_id, organization_id, status)
            select id, organization_id, 'replaced' from public.calendars where id = $1
            returning id
            """,
            self.calendar_id,
        )
        count = len(bodies)
        rows = await self.database.fetch(
            "select * from sync.receive($1, $2, $3, $4, $5, $6, $7)",
            [self.provider.value] * count,
            [channel_id] * count,
            [None] * count,
            [kind] * count,
            [headers] * count,
            list(bodies),
            [self.clock.now()] * count,
        )
        assert {row["outcome"] for row in rows} <= {"accepted"}

    # What became of it.

    async def shown(self) -> list[tuple[str, datetime, str]]:
        """Who comes when, and whether, as the meetings say."""
        rows = await self.database.fetch(
            """
            select attendee_name, starts_at, status from public.meetings
            where merged_into is null order by starts_at, attendee_name
            """
        )
        return [tuple(row) for row in rows]

    async def states(self, kind: str = "booking") -> list[str]:
        """What became of deliveries, in the order that they came."""
        rows = await self.database.fetch(
            "select state from sync.delivery_states where kind = $1 "
            "order by delivery_id",
            kind,
        )
        return [row["state"] for row in rows]

    async def to_fetch(self) -> list[timedelta]:
        """In how long bookings are to be asked for."""
        rows = await self.database.fetch(
            "select fetch_at - sync.clock() as due from sync.bookings_to_fetch "
            "order by fetch_at"
        )
        return [row["due"] for row in rows]

    async def ingest_state(self) -> Any:
        return await self.database.fetchrow("select * from sync.ingest_state")

    async def alert(self, kind: str) -> str | None:
        """The message of the open alert of a kind."""
        message: str | None = await self.database.fetchval(
            "select message from public.sync_alerts "
            "where kind = $1 and resolved_at is null",
            kind,
        )
        return message

    async def due_in(self) -> timedelta | None:
        """When the connection is looked at next."""
        row = await self.task("ingest", self.connection_id)
        return None if row is None else row["due_in"]

    def calls(self, *operations: str) -> int:
        """How often the provider was asked, for anything or for something."""
        if not operations:
            count: int = self.twin.calls.count()
            return count
        return sum(self.twin.calls.count(one) for one in operations)


@asynccontextmanager
async def make_ingest_world(
    database: Connection, url: str, provider: Provider
) -> AsyncIterator[IngestWorld]:
    """Everything in process, in a time that stands until it is moved."""
    async with make_watched_world(database, url, provider) as made:
        world = IngestWorld(**vars(made))
        async with heard(world, **RECEIVER):
            yield world


def at(days: int, hour: int = 10) -> datetime:
    """A time in so many days: a weekday of the coming weeks."""
    return coming(hour=hour) + timedelta(days=days)


def body_of(text: str, **changes: Any) -> str:
    """A delivery with some of its payload replaced."""
    document = json.loads(text)
    document["payload"] |= changes
    return json.dumps(document)
