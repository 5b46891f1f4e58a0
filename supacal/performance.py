"""One change, from the click at a provider to the callback in the frontend."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from providers.model import Provider
from sql import queries
from supacal.frontend import Frontend
from supacal.hops import Trail, lines
from supacal.scenes import Scene
from supacal.waiting import TooLate, until

NAMES = {
    Provider.GOOGLE: "Google",
    Provider.MICROSOFT: "Outlook",
    Provider.CALENDLY: "Calendly",
    Provider.CALCOM: "Cal.com",
}


@dataclass(frozen=True)
class Shown:
    """What became of a scene."""

    took: timedelta
    is_right: bool


@dataclass(frozen=True)
class Performance:
    """Plays a scene, and tells what is seen of it."""

    database: asyncpg.Connection
    frontend: Frontend
    patience_s: float

    async def play(self, scene: Scene, say: Callable[[str], None]) -> Shown:
        """Play it, and check that its meetings are right and the same as before.

        Raises:
            TooLate: a hop did not come.
        """
        await self._until_at_rest(scene)
        expected = set() if scene.makes_meetings else await self._expected(scene)
        how_many = f" ({len(expected)} meetings)" if len(expected) > 1 else ""
        say(f"{scene.title}{how_many}")
        trail = Trail(scene.stage, self.database, datetime.now(UTC))
        scene.act()
        if scene.makes_meetings:
            expected = await self._expected(scene)
        heard_at = await self._wait(trail, expected)
        states = await self._states(expected, trail.began)
        fitting = [row for row in states.values() if scene.check(dict(row))]
        hops = await trail.hops([row["committed_at"] for row in fitting], heard_at)
        for line in lines(hops, trail.began):
            say(line)
        if missing := [hop.name for hop in hops if not hop.happened]:
            what = ", ".join(missing)
            raise TooLate(f"not within {self.patience_s:.0f} s: {what}")
        after = await self._meetings(scene)
        wrong = len(expected) - len(fitting)
        strangers = len(set(after.values()) - expected)
        if wrong or strangers:
            say(f"  ✗ {wrong} not as they should be, {strangers} under new ids\n")
        else:
            ids = "ids of their own" if scene.makes_meetings else "the ids they had"
            say(f"  ✓ as {NAMES[scene.stage.provider]} has it, under {ids}\n")
        took = (heard_at or trail.began) - trail.began
        return Shown(took, is_right=not wrong and not strangers)

    async def _until_at_rest(self, scene: Scene) -> None:
        """A run that has begun already would take the change along, and show no hop."""
        await until(
            f"a worker was done with what came before ({scene.title})",
            lambda: queries.tour.is_at_rest(
                self.database,
                kind=scene.stage.task_kind,
                subject_id=scene.stage.subject_id,
            ),
            within_s=self.patience_s,
        )

    async def _expected(self, scene: Scene) -> set[UUID]:
        """Wait for the meetings that a scene is about."""
        meetings = await until(
            f"the meetings stood in the table ({scene.title})",
            lambda: self._meetings(scene),
            within_s=self.patience_s,
        )
        return set(meetings.values())

    async def _wait(self, trail: Trail, expected: set[UUID]) -> datetime | None:
        """Wait for the end of the way, when the frontend heard; None if too late."""
        try:
            heard_at = await until(
                "the frontend",
                lambda: self.frontend.heard_all(expected, since=trail.began),
                within_s=self.patience_s,
            )
        except TooLate:
            return None
        with suppress(TooLate):  # the hops will tell
            await until("the run", trail.run, within_s=self.patience_s)
        return heard_at

    async def _states(
        self, meetings: set[UUID], since: datetime
    ) -> dict[UUID, asyncpg.Record]:
        rows = queries.tour.meeting_states(
            self.database, ids=list(meetings), since=since
        )
        return {row["id"]: row async for row in rows}

    async def _meetings(self, scene: Scene) -> dict[str, UUID]:
        """The meetings that a scene is about, by the provider's id of their event."""
        rows = queries.tour.meetings(self.database, calendar_id=scene.calendar_id)
        return {
            row["provider_event_id"]: row["meeting_id"]
            async for row in rows
            if scene.concerns(row)
        }
