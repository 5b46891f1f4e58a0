"""One run of one task, and how it ended."""

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from providers.errors import ProviderError, Transient
from runtime.logging import bind
from worker.handler import NOTHING, Handler, LeaseLost, Outcome, Task, TaskFailed

LEASE_LOST = "CS001"
BACKGROUND = 2
# Longer than any provider means it.
LONGEST_WAIT_S = 86_400.0
OURS = Path(__file__).parents[1]

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Ended:
    """A run that is over: well (outcome), badly (error), or for nothing (neither)."""

    task: Task
    at: datetime
    duration_ms: float
    outcome: Outcome | None = None
    error: str | None = None
    retry_after_s: float | None = None

    def entry(self) -> dict[str, Any]:
        """The row of ``sync.runs``."""
        task, outcome = self.task, self.outcome
        counts = outcome.counts if outcome else NOTHING
        return {
            "started_at": task.claimed_at,
            "finished_at": self.at,
            "task_id": task.id,
            "kind": task.kind,
            "subject_id": task.subject_id,
            "connection_id": task.connection_id,
            "lane": task.lane,
            "attempt": task.attempt,
            "due_at": task.due_at,
            "outcome": "done" if outcome else "failed" if self.error else "lost",
            "error": self.error,
            "created": counts.created,
            "updated": counts.updated,
            "cancelled": counts.cancelled,
            "unchanged": counts.unchanged,
            "set_aside": counts.set_aside,
            "api_calls": outcome.api_calls if outcome else 0,
            "steps": dict(outcome.steps) if outcome else {},
        }


async def attempt(handler: Handler, task: Task) -> Ended:
    """Run it and sort how it ended; only being cancelled comes out as it is."""
    bind(
        task=task.id,
        kind=task.kind,
        subject_id=task.subject_id,
        attempt=task.attempt,
        lane=task.lane,
        waited_ms=_ms((task.claimed_at - task.due_at).total_seconds()),
    )
    # A poll that finds nothing is no news, and most runs are that.
    _level(quiet=task.lane == BACKGROUND)("task.claimed")
    began = time.perf_counter()
    ended = Ended(task, task.claimed_at, 0)
    try:
        ended.outcome = await handler(task)
        _check(ended.outcome)
    except LeaseLost:
        pass
    except (TaskFailed, ProviderError) as failure:
        ended.error = _storable(str(failure))
        if isinstance(failure, TaskFailed | Transient):
            ended.retry_after_s = _sensible(failure.retry_after_s)
    except Exception as failure:
        ended.outcome = None
        if not is_lease_lost(failure):
            ended.error = _safe_message(failure)
            log.exception("task.broken")
    ended.at = task.now()
    ended.duration_ms = _ms(time.perf_counter() - began)
    _tell(ended)
    return ended


def lost(task: Task) -> Ended:
    """A run that somebody else goes on with."""
    return Ended(task, task.now(), _ms(time.monotonic() - task.claimed))


def break_off(task: Task, error: str) -> Ended:
    """A run that ended badly from outside."""
    ended = lost(task)
    ended.error = error
    _tell(ended)
    return ended


def tell_lost(task: Task) -> None:
    """Log, from outside of the run, that its lease is gone."""
    log.warning(
        "task.lost",
        task=task.id,
        kind=task.kind,
        subject_id=task.subject_id,
        attempt=task.attempt,
        lane=task.lane,
    )


def _tell(ended: Ended) -> None:
    if ended.outcome is not None:
        counts = ended.outcome.counts
        _level(quiet=ended.outcome.idle and ended.task.lane == BACKGROUND)(
            "task.finished",
            created=counts.created,
            updated=counts.updated,
            cancelled=counts.cancelled,
            unchanged=counts.unchanged,
            set_aside=counts.set_aside,
            api_calls=ended.outcome.api_calls,
            duration_ms=ended.duration_ms,
        )
    elif ended.error is not None:
        log.warning(
            "task.failed",
            error=ended.error,
            retry_after_s=ended.retry_after_s,
            duration_ms=ended.duration_ms,
        )
    else:
        log.warning("task.lost", duration_ms=ended.duration_ms)


def _level(*, quiet: bool) -> Callable[..., object]:
    tell: Callable[..., object] = log.debug if quiet else log.info
    return tell


def _check(outcome: Outcome) -> None:
    """What could not be written down would hold up all that ended beside it."""
    if outcome.next_at is not None and outcome.next_at.utcoffset() is None:
        raise ValueError("Outcome.next_at must be an aware time")


def _storable(text: str) -> str:
    """Without what Postgres does not take in a text: zeros and halves of pairs."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _sensible(seconds: float | None) -> float | None:
    """A wait that a provider asked for, however it came to that figure."""
    if seconds is None or math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def is_lease_lost(failure: BaseException) -> bool:
    """Whether the fence refused: a later lease holds the task."""
    return isinstance(failure, asyncpg.PostgresError) and failure.sqlstate == LEASE_LOST


def _safe_message(failure: Exception) -> str:
    """Type and place: what an unforeseen error says may quote somebody's calendar."""
    sqlstate = getattr(failure, "sqlstate", None)
    kind = (
        f"{type(failure).__name__} {sqlstate}" if sqlstate else type(failure).__name__
    )
    for frame in reversed(traceback.extract_tb(failure.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(OURS) and "site-packages" not in file.parts:
            return f"{kind} at {file.relative_to(OURS)}:{frame.lineno}"
    return kind


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
