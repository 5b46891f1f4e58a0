"""The tour: from a change in a calendar to a frontend that hears of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median

import asyncpg

from local_stack.facts import Facts
from local_stack.stack import Stack
from local_stack.twins.google import Calendar
from providers.model import Provider
from runtime.pool import connect
from sql import queries
from supacal.booking_scenes import (
    booking_scenes,
    calendly_in_google,
    with_calcom,
    with_calendly,
)
from supacal.frontend import Frontend
from supacal.hops import milliseconds
from supacal.performance import Performance
from supacal.scenes import Cast, Scene, in_outlook
from supacal.stages import Stage, log_of
from supacal.waiting import TooLate, until

FIRST_SYNC_LIMIT_S = 60
SCENE_LIMIT_S = 20

CALENDAR_PROVIDERS = frozenset({Provider.GOOGLE, Provider.MICROSOFT})

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
            calendars = await self._first_sync(database, frontend, say)
            scenes = self._scenes(cast, calendars)
            return await self._play(scenes, database, frontend, say)
        except TooLate as missing:
            say(f"  ✗ {missing}")
            say(f"  The logs are in {self._stack.logs}.")
            return False
        finally:
            await frontend.close()
            await database.close()

    async def _first_sync(
        self, database: asyncpg.Connection, frontend: Frontend, say: Say
    ) -> Sequence[asyncpg.Record]:
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
        return rows

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
                connections=list(self._stack.connections.values()),
                since=self._stack.began_at,
            )
        ]

    def _scenes(
        self, cast: Cast, calendars: Sequence[asyncpg.Record]
    ) -> Iterator[Scene]:
        twins, email = self._stack.twins, self._user.email
        stages = self._stages(calendars)
        now = datetime.now(UTC)
        yield from cast.scenes(lambda name: stages[Provider.GOOGLE, name])
        outlook = twins.microsoft.account(email).primary
        yield from in_outlook(outlook, stages[Provider.MICROSOFT, outlook.id], now)
        mine = self._google_calendars()[-1]
        yield from booking_scenes(
            self._stage_of(Provider.CALENDLY, stages),
            "Calendly",
            with_calendly(twins, email),
            now,
            calendly_in_google(mine, stages[Provider.GOOGLE, mine.id]),
        )
        yield from booking_scenes(
            self._stage_of(Provider.CALCOM, stages),
            "Cal.com",
            with_calcom(twins, email),
            now,
        )

    def _stage_of(
        self, provider: Provider, stages: dict[tuple[Provider, str], Stage]
    ) -> Stage:
        return next(one for (of, _), one in stages.items() if of is provider)

    def _stages(
        self, calendars: Sequence[asyncpg.Record]
    ) -> dict[tuple[Provider, str], Stage]:
        """Return where scenes can play, by provider and its id of the calendar."""
        provider_of = {id_: name for name, id_ in self._stack.connections.items()}
        stages: dict[tuple[Provider, str], Stage] = {}
        for row in calendars:
            provider = provider_of[row["connection_id"]]
            known_as: str = row["provider_calendar_id"]
            pulled = provider in CALENDAR_PROVIDERS
            stages[provider, known_as] = Stage(
                provider,
                row["id"],
                task_kind="pull" if pulled else "ingest",
                subject_id=row["id"] if pulled else row["connection_id"],
                log=log_of(self._stack.twins, provider, known_as),
            )
        return stages

    async def _play(
        self,
        scenes: Iterable[Scene],
        database: asyncpg.Connection,
        frontend: Frontend,
        say: Say,
    ) -> bool:
        performance = Performance(database, frontend, self._patience_s)
        shown = [await performance.play(scene, say) for scene in scenes]
        if not all(one.is_right for one in shown):
            say("Not all of it happened as it should.")
            return False
        way = timedelta(seconds=median(one.took.total_seconds() for one in shown))
        say(
            "All of it happened, and no meeting changed its id.\n"
            f"From provider to frontend a change took {milliseconds(way)} (median)."
        )
        return True

    def _google_calendars(self) -> list[Calendar]:
        account = self._stack.twins.google.account(self._user.email)
        return [one for one in account.calendars if one.id != account.primary.id]
