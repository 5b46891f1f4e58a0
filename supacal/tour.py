"""The tour: from a change in a calendar to a frontend that hears of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from local_stack.facts import Facts
from local_stack.stack import Stack
from local_stack.twins.google import Calendar
from runtime.pool import connect
from sql import queries
from supacal.frontend import Frontend
from supacal.scenes import Cast, Scene
from supacal.waiting import TooLate, until

FIRST_SYNC_LIMIT_S = 60
SCENE_LIMIT_S = 20


@dataclass(frozen=True)
class Hop:
    """A point on the way of a change."""

    name: str
    at: datetime | None


class Tour:
    """Walks through one sync, and says whether all of it happened."""

    def __init__(self, stack: Stack, facts: Facts) -> None:
        self._stack = stack
        self._facts = facts
        self._user = facts.users[0]

    async def walk(self, say: Callable[[str], None]) -> bool:
        """Print what happens, with milliseconds; false if something did not."""
        database = await connect(
            self._facts.database_url, role=None, application_name="supacal tour"
        )
        frontend = Frontend(self._facts, self._user)
        try:
            await frontend.connect()
            say(f"{self._user.email} listens to org:{self._user.organization}.")
            cast = Cast.choose(self._google_calendars(), datetime.now(UTC))
            await self._first_sync(database, frontend, say)
            return await self._play(cast, database, frontend, say)
        except TooLate as missing:
            say(f"  ✗ {missing}")
            return False
        finally:
            await frontend.close()
            await database.close()

    async def _first_sync(
        self,
        database: asyncpg.Connection,
        frontend: Frontend,
        say: Callable[[str], None],
    ) -> None:
        began = datetime.now(UTC)
        await frontend.switch_on()
        say("Her two Google calendars are switched on (sync_enabled = true):")
        rows = await until(
            "both calendars read whole",
            lambda: self._backfilled(database),
            within_s=FIRST_SYNC_LIMIT_S,
        )
        counts = await queries.tour.counts(
            database, calendar_ids=[row["id"] for row in rows]
        )
        say(
            f"  watched, then read whole after {_ms(datetime.now(UTC) - began)}: "
            f"{counts['meetings']} meetings, of {counts['series']} series and singles\n"
        )

    async def _backfilled(
        self, database: asyncpg.Connection
    ) -> Sequence[asyncpg.Record] | None:
        rows = [
            row
            async for row in queries.tour.backfill(
                database, connections=self._stack.connections
            )
        ]
        return rows if all(row["backfill"] == "complete" for row in rows) else None

    async def _play(
        self,
        cast: Cast,
        database: asyncpg.Connection,
        frontend: Frontend,
        say: Callable[[str], None],
    ) -> bool:
        good = True
        for scene in cast.scenes():
            calendar_id = await self._calendar_id(database, scene.calendar)
            shown = _Scene(self._stack, database, frontend, calendar_id)
            good = await shown.play(scene, say) and good
        say(
            "All of it happened, and no meeting changed its id."
            if good
            else "Not well."
        )
        return good

    def _google_calendars(self) -> list[Calendar]:
        account = self._stack.twin.account(self._user.email)
        return [one for one in account.calendars if one.id != account.primary.id]

    async def _calendar_id(
        self, database: asyncpg.Connection, calendar: Calendar
    ) -> UUID:
        found: UUID = await queries.tour.calendar_id(
            database,
            connections=self._stack.connections,
            provider_calendar_id=calendar.id,
        )
        return found


class _Scene:
    """One change, from the click in Google Calendar to the callback in the frontend."""

    def __init__(
        self,
        stack: Stack,
        database: asyncpg.Connection,
        frontend: Frontend,
        calendar_id: UUID,
    ) -> None:
        self._stack = stack
        self._database = database
        self._frontend = frontend
        self._calendar_id = calendar_id

    async def play(self, scene: Scene, say: Callable[[str], None]) -> bool:
        before = await self._meetings(scene)
        expected = set(before.values())
        say(f"{scene.title} ({len(expected)} meeting{'s' * (len(expected) != 1)})")
        began = datetime.now(UTC)
        scene.act()
        heard_at = await until(
            "the frontend was called back for every meeting",
            lambda: self._frontend.heard_all(expected, since=began),
            within_s=SCENE_LIMIT_S,
        )
        run = await until(
            "the run was recorded",
            lambda: queries.tour.run_after(
                self._database, calendar_id=self._calendar_id, since=began
            ),
            within_s=SCENE_LIMIT_S,
        )
        for hop in await self._hops(began, run, sorted(expected), heard_at):
            say(_line(hop, began))
        return await self._is_right(scene, before, say)

    async def _hops(
        self,
        began: datetime,
        run: asyncpg.Record,
        meetings: list[UUID],
        heard_at: datetime,
    ) -> list[Hop]:
        push = next(
            (one for one in self._stack.twin.pushes.log if one.sent_at >= began), None
        )
        delivery = await queries.tour.first_delivery(self._database, since=began)
        states = [
            row
            async for row in queries.tour.meeting_states(self._database, ids=meetings)
        ]
        return [
            Hop("push sent by Google", push.sent_at if push else None),
            Hop("delivery committed", delivery["committed_at"] if delivery else None),
            Hop("task claimed", run["started_at"]),
            Hop("Google's API answered", _answered_at(run)),
            Hop("rows committed", max(row["committed_at"] for row in states)),
            Hop("frontend called back", heard_at),
        ]

    async def _is_right(
        self, scene: Scene, before: dict[str, UUID], say: Callable[[str], None]
    ) -> bool:
        states = {
            row["id"]: row
            async for row in queries.tour.meeting_states(
                self._database, ids=list(before.values())
            )
        }
        wrong = [
            key for key, meeting in before.items() if not scene.check(states[meeting])
        ]
        after = await self._meetings(scene)
        strangers = set(after.values()) - set(before.values())
        if wrong or strangers:
            say(f"  ✗ {len(wrong)} not as in Google, {len(strangers)} under new ids\n")
            return False
        say("  ✓ the meetings are the same, with the ids they had\n")
        return True

    async def _meetings(self, scene: Scene) -> dict[str, UUID]:
        """The meetings that a scene is about, by the provider's id of their event."""
        rows = [
            row
            async for row in queries.tour.meetings(
                self._database, calendar_id=self._calendar_id
            )
        ]
        return {
            row["provider_event_id"]: row["meeting_id"]
            for row in rows
            if scene.concerns(row)
        }


def _answered_at(run: asyncpg.Record) -> datetime | None:
    steps: dict[str, Any] = msgspec.json.decode(run["steps"])
    answered = steps.get("answered")
    return run["started_at"] + timedelta(milliseconds=answered) if answered else None


def _line(hop: Hop, began: datetime) -> str:
    when = f"{_ms(hop.at - began):>9}" if hop.at else "   not seen"
    return f"  {when}  {hop.name}"


def _ms(span: timedelta) -> str:
    return f"{span.total_seconds() * 1000:.1f} ms"
