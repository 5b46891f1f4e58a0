"""One change, from the click in Google Calendar to the callback in the frontend."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from local_stack.twins.google import GoogleTwin
from sql import queries
from supacal.frontend import Frontend
from supacal.hops import Trail, lines
from supacal.scenes import Scene
from supacal.waiting import TooLate, until


@dataclass(frozen=True)
class Shown:
    """What became of a scene."""

    took: timedelta
    is_right: bool


@dataclass(frozen=True)
class Performance:
    """Plays a scene, and tells what is seen of it."""

    twin: GoogleTwin
    database: asyncpg.Connection
    frontend: Frontend
    calendar_id: UUID
    patience_s: float

    async def play(self, scene: Scene, say: Callable[[str], None]) -> Shown:
        """Play it, and check that its meetings are right and the same as before.

        Raises:
            TooLate: a hop did not come.
        """
        before = await until(
            f"the meetings stood in the table ({scene.title})",
            lambda: self._meetings(scene),
            within_s=self.patience_s,
        )
        expected = set(before.values())
        how_many = f" ({len(expected)} meetings)" if len(expected) > 1 else ""
        say(f"{scene.title}{how_many}")
        began = datetime.now(UTC)
        trail = Trail(
            self.twin, self.database, self.calendar_id, scene.calendar.id, began
        )
        scene.act()
        heard_at = await self._wait(trail, expected)
        states = await self._states(expected)
        fitting = [row for row in states.values() if scene.check(dict(row))]
        hops = await trail.hops([row["committed_at"] for row in fitting], heard_at)
        for line in lines(hops, began):
            say(line)
        if missing := [hop.name for hop in hops if not hop.happened]:
            what = ", ".join(missing)
            raise TooLate(f"not within {self.patience_s:.0f} s: {what}")
        after = await self._meetings(scene)
        wrong = len(expected) - len(fitting)
        strangers = len(set(after.values()) - expected)
        if wrong or strangers:
            say(f"  ✗ {wrong} not as in Google, {strangers} under new ids\n")
        else:
            say("  ✓ as in Google, under the ids they had\n")
        took = (heard_at or began) - began
        return Shown(took, is_right=not wrong and not strangers)

    async def _wait(self, trail: Trail, expected: set[UUID]) -> datetime | None:
        """Wait for the end of the way; None if it was not reached in time."""
        try:
            heard_at = await until(
                "the frontend",
                lambda: self.frontend.heard_all(expected, since=trail.began),
                within_s=self.patience_s,
            )
            await until("the run", trail.run, within_s=self.patience_s)
        except TooLate:
            return None
        return heard_at

    async def _states(self, meetings: set[UUID]) -> dict[UUID, asyncpg.Record]:
        rows = queries.tour.meeting_states(self.database, ids=list(meetings))
        return {row["id"]: row async for row in rows}

    async def _meetings(self, scene: Scene) -> dict[str, UUID]:
        """The meetings that a scene is about, by the provider's id of their event."""
        rows = queries.tour.meetings(self.database, calendar_id=self.calendar_id)
        return {
            row["provider_event_id"]: row["meeting_id"]
            async for row in rows
            if scene.concerns(row)
        }
