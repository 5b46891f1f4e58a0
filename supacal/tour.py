"""The tour: from a change in a calendar to a frontend that hears of it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median

import asyncpg

from local_stack.facts import Facts
from local_stack.stack import Stack
from local_stack.twins.google import Calendar
from runtime.pool import connect
from sql import queries
from supacal.frontend import Frontend
from supacal.hops import milliseconds
from supacal.performance import Performance, Shown
from supacal.scenes import Cast
from supacal.waiting import TooLate, until

FIRST_SYNC_LIMIT_S = 60
SCENE_LIMIT_S = 20

Say = Callable[[str], None]


class Tour:
    """Walks through one sync, and says whether all of it happened."""

    def __init__(
        self,
        stack: Stack,
        facts: Facts,
        *,
        patience_s: float = SCENE_LIMIT_S,
        first_sync_limit_s: float = FIRST_SYNC_LIMIT_S,
    ) -> None:
        self._stack = stack
        self._facts = facts
        self._user = facts.users[0]
        self._patience_s = patience_s
        self._first_sync_limit_s = first_sync_limit_s

    async def walk(self, say: Say) -> bool:
        """Print what happens, with milliseconds; false if something did not."""
        database = await connect(
            self._facts.database_url, role=None, application_name="supacal tour"
        )
        frontend = Frontend(self._facts, self._user)
        try:
            await frontend.connect()
            say("A tour: what happens between a calendar and a frontend.\n")
            say(f"The app of {self._user.email} listens to its organization's topic,")
            say(f"org:{self._user.organization} (Supabase Realtime, private).\n")
            cast = Cast.choose(self._google_calendars(), datetime.now(UTC))
            await self._first_sync(database, frontend, say)
            return await self._play(cast, database, frontend, say)
        except TooLate as missing:
            say(f"  ✗ {missing}")
            say(f"  The logs are in {self._stack.logs}.")
            return False
        finally:
            await frontend.close()
            await database.close()

    async def _first_sync(
        self, database: asyncpg.Connection, frontend: Frontend, say: Say
    ) -> None:
        began = datetime.now(UTC)
        switched = await frontend.switch_on()
        say(
            "One click switches the sync of her calendars on (sync_enabled = true):"
            if switched
            else "The sync of her calendars is on since an earlier run:"
        )
        rows = await self._until_read(database)
        counts = await queries.tour.counts(
            database, calendar_ids=[row["id"] for row in rows]
        )
        say(
            f"  {milliseconds(datetime.now(UTC) - began):>11}  {len(rows)} calendars "
            f"are watched and read whole: {counts['meetings']} meetings, "
            f"{counts['occurrences']} of them in {counts['series']} series\n"
        )

    async def _until_read(
        self, database: asyncpg.Connection
    ) -> Sequence[asyncpg.Record]:
        try:
            return await until(
                "the calendars were watched and read whole",
                lambda: self._read(database),
                within_s=self._first_sync_limit_s,
            )
        except TooLate as missing:
            errors = [row["last_error"] for row in await self._calendars(database)]
            told = [error for error in errors if error]
            raise TooLate("; ".join([str(missing), *told])) from None

    async def _read(
        self, database: asyncpg.Connection
    ) -> Sequence[asyncpg.Record] | None:
        rows = await self._calendars(database)
        return rows if rows and all(row["is_read"] for row in rows) else None

    async def _calendars(self, database: asyncpg.Connection) -> list[asyncpg.Record]:
        return [
            row
            async for row in queries.tour.calendars(
                database,
                connections=self._stack.connections,
                since=self._stack.began_at,
            )
        ]

    async def _play(
        self, cast: Cast, database: asyncpg.Connection, frontend: Frontend, say: Say
    ) -> bool:
        shown: list[Shown] = []
        for scene in cast.scenes():
            performance = Performance(
                twin=self._stack.twin,
                database=database,
                frontend=frontend,
                calendar_id=await queries.tour.calendar_id(
                    database,
                    connections=self._stack.connections,
                    provider_calendar_id=scene.calendar.id,
                ),
                patience_s=self._patience_s,
            )
            shown.append(await performance.play(scene, say))
        if not all(one.is_right for one in shown):
            say("Not all of it happened as it should.")
            return False
        way = timedelta(seconds=median(one.took.total_seconds() for one in shown))
        say(
            "All of it happened, and no meeting changed its id.\n"
            f"From Google to the frontend a change took {milliseconds(way)} (median)."
        )
        return True

    def _google_calendars(self) -> list[Calendar]:
        account = self._stack.twin.account(self._user.email)
        return [one for one in account.calendars if one.id != account.primary.id]
