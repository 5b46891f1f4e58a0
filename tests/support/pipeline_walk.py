"""Where a client stands by the rules: the reference that the tables are held against.

A function of the meetings as they are and of the rules; it looks at nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

STANDING = ("scheduled", "confirmed")
BAD_NEWS_FIRST = ("cancelled", "no_show", "met")


@dataclass(frozen=True)
class Met:
    """What of a meeting counts."""

    starts_at: datetime
    ends_at: datetime
    status: str


@dataclass(frozen=True)
class Rule:
    """Of the stages `from_stage`, None: of all, what happens leads to `to_stage`."""

    happening: str
    from_stage: str | None
    to_stage: str


def stage_by_rules(
    meetings: Iterable[Met], rules: Iterable[Rule], *, now: datetime
) -> str:
    """Walk the meetings, from `new`."""
    known = list(meetings)
    to = {(rule.happening, rule.from_stage): rule.to_stage for rule in rules}
    stage = "new"
    for happening in _happenings(known, now):
        stage = to.get((happening, stage)) or to.get((happening, None)) or stage
    return stage


def _happenings(meetings: list[Met], now: datetime) -> list[str]:
    is_booked = any(m.status in STANDING and m.ends_at > now for m in meetings)
    is_asked_for = any(m.status == "tentative" and m.starts_at > now for m in meetings)
    ends = [
        (m.ends_at, m.starts_at, BAD_NEWS_FIRST.index(became))
        for m in meetings
        if (became := _became(m, now))
        and not (became == "cancelled" and (is_booked or is_asked_for))
    ]
    happened: list[str] = []
    for _, _, place in sorted(ends):
        happened += ["booked", BAD_NEWS_FIRST[place]]
    return happened + ["booked"] * is_booked


def _became(meeting: Met, now: datetime) -> str | None:
    if meeting.status in ("cancelled", "no_show"):
        return meeting.status
    is_over = meeting.status in STANDING and meeting.ends_at <= now
    return "met" if is_over or meeting.status == "completed" else None
