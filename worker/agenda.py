"""When a worker looks for due tasks next, and from where it scans.

The **floor** bounds the scan from below. Every run leaves a dead entry at the head of
the index, and while an old transaction is open nobody may sweep those up: a plain claim
would walk over all of them (measured: 78 to 300 ms). Below the floor nothing is due, as
far as this worker can know. A transaction that asked for work and commits late writes
below it; its notification says so. For notifications that were lost, one claim in ten
seconds, and each after a reconnect, goes without a floor.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

SWEEP_EVERY_S = 10
# Due, but in somebody else's hands just now: a claim's, a request's, a page's.
LOCKED_FIRST_WAIT_S = 0.02
LOCKED_LONGEST_WAIT_S = 1.0
# A payload passes through floating point on its way.
PAYLOAD_PRECISION = timedelta(milliseconds=1)
# Further off than that, the database's clock was set, or a test has moved it.
CLOCK_TOLERANCE_S = 1.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a claim tells besides the tasks: the last row of ``sync.claim_tasks``."""

    limit: int
    scanned: int
    wait_s: float | None
    next_at: datetime | None
    claimed_at: datetime


class Agenda:
    """Keeps the floor and the next look; the database's time comes with its answers."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        # While nobody tells us of new work, looking is all that is left.
        self.poll_every_s: float | None = None
        self._monotonic = monotonic
        self._swept_at = -math.inf
        self._locked_wait_s = LOCKED_FIRST_WAIT_S
        # The database's clock, and ours when it said so.
        self._anchor: tuple[datetime, float] | None = None
        self._floor: datetime | None = None
        self._told_floor: datetime | None = None
        self._looked_at = self._look_at = self._told_at = -math.inf
        self._forgotten = True

    def forget(self) -> None:
        """Look at once, without a floor: what was told meanwhile is not known."""
        self._forgotten = True
        self._look_at = self._told_at = -math.inf

    @property
    def look_at(self) -> float:
        """When to look next, on the monotonic clock; infinity = when told."""
        if self.poll_every_s is None:
            return self._look_at
        return min(self._look_at, self._looked_at + self.poll_every_s)

    def begin(self) -> datetime | None:
        """Return the floor of the claim that is sent now; None = it goes without."""
        now = self._monotonic()
        if self._forgotten or now - self._swept_at >= SWEEP_EVERY_S:
            self._floor = None
            self._swept_at = now
        # What is told from here on may have happened after what the claim will see.
        self._forgotten = False
        self._told_floor = None
        self._told_at = math.inf
        return self._floor

    def learn(self, survey: Survey) -> None:
        """Take in the answer to the claim that was begun last."""
        self._looked_at = self._monotonic()
        self._anchor = (survey.claimed_at, self._looked_at)
        self._look_at = min(self._looked_at + self._wait_s(survey), self._told_at)
        floors = (survey.claimed_at, survey.next_at, self._told_floor)
        self._floor = min(floor for floor in floors if floor is not None)

    def hear(self, payload: str) -> None:
        """Take in a notification: the lowest run_at asked for, in epoch seconds.

        Anything else, an empty one for example, means: look now, without a floor.
        """
        try:
            run_at = datetime.fromtimestamp(float(payload), UTC) - PAYLOAD_PRECISION
        except (ValueError, OverflowError):
            self.forget()
            return
        self._told_floor = min(run_at, self._told_floor or run_at)
        if self._floor is not None:
            self._floor = min(self._floor, run_at)
        self._told_at = min(self._told_at, self._monotonic() + self._until_s(run_at))
        self._look_at = min(self._look_at, self._told_at)

    def check_clock(self, database_now: datetime) -> None:
        """Look at once if the database's clock is not where it should be."""
        if abs(self._until_s(database_now)) > CLOCK_TOLERANCE_S:
            self.forget()

    def _until_s(self, at: datetime) -> float:
        """How long until the database's clock shows this."""
        if self._anchor is None:
            return 0.0
        database_now, then = self._anchor
        return (at - database_now).total_seconds() - (self._monotonic() - then)

    def _wait_s(self, survey: Survey) -> float:
        if survey.scanned >= survey.limit:
            return 0.0
        if survey.wait_s == 0:
            wait_s = self._locked_wait_s
            self._locked_wait_s = min(2 * wait_s, LOCKED_LONGEST_WAIT_S)
            return wait_s
        self._locked_wait_s = LOCKED_FIRST_WAIT_S
        return math.inf if survey.wait_s is None else survey.wait_s
