"""Recurring events: which occurrences a series has.

Rules are expanded on the wall clock of the series' zone, as RFC 5545 wants it.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dateutil.rrule import rruleset, rrulestr

from local_stack.twins.moments import When, out_of_gap

LINE = re.compile(r"^(RRULE|EXRULE|RDATE|EXDATE)((?:;[^:]*)?):(.+)$", re.IGNORECASE)
UNTIL = re.compile(r"UNTIL=([0-9TZ]+)", re.IGNORECASE)
A_MINUTE = timedelta(minutes=1)
LAST_SECOND = time(23, 59, 59)


class InvalidRule(ValueError):
    """A recurrence line that means nothing."""


class Series:
    """The occurrences of one rule, found once and kept while somebody asks for more."""

    def __init__(self, start: When, lines: list[str]) -> None:
        self.start = start
        self.lines = lines
        self.zone = start.tzinfo if isinstance(start, datetime) else None
        self._walls = self._expand()
        self._found: list[datetime] = []
        self._done = False

    def starts(self, before: datetime, after: datetime | None = None) -> Iterator[When]:
        """Yield original starts in order, whose wall clock is in [after, before).

        Args:
            before: naive, on the wall clock of the series' own zone.
            after: the same.
        """
        position = 0 if after is None else self._position(after)
        while True:
            if position == len(self._found) and not self._find_next():
                return
            wall = self._found[position]
            if wall >= before:
                return
            yield self._when(wall)
            position += 1

    def has(self, original: When) -> bool:
        """Tell whether an occurrence starts then."""
        return self.find(original) is not None

    def find(self, original: When) -> When | None:
        """Return the start of the occurrence at that moment, in the series' zone."""
        if isinstance(original, datetime) is (self.zone is None):
            return None
        wall = self.wall(original)
        # A start that falls into a skipped hour has a later wall clock than its rule.
        near = self.starts(wall + A_MINUTE, wall - timedelta(hours=3))
        return next((when for when in near if _same(when, original)), None)

    def wall(self, when: When) -> datetime:
        """Return a time as the wall clock of the series shows it."""
        if not isinstance(when, datetime):
            return datetime.combine(when, time())
        return when.astimezone(self.zone or UTC).replace(tzinfo=None)

    def _when(self, wall: datetime) -> When:
        if self.zone is None:
            return wall.date()
        return out_of_gap(wall.replace(tzinfo=self.zone))

    def _position(self, after: datetime) -> int:
        while not self._found or self._found[-1] < after:
            if not self._find_next():
                break
        return bisect_left(self._found, after)

    def _find_next(self) -> bool:
        wall = None if self._done else next(self._walls, None)
        if wall is None:
            self._done = True
            return False
        self._found.append(wall)
        return True

    def _expand(self) -> Iterator[datetime]:
        first = self.wall(self.start)
        rules = rruleset()
        # The start of a series is its first occurrence whatever the rule.
        rules.rdate(first)
        try:
            for line in self.lines:
                self._add(rules, first, line)
        except (ValueError, KeyError) as problem:
            raise InvalidRule("this is no recurrence rule") from problem
        return iter(rules)

    def _add(self, rules: rruleset, first: datetime, line: str) -> None:
        match = LINE.match(line.strip())
        if match is None:
            raise InvalidRule(f"this is no recurrence rule: {line[:80]}")
        kind, parameters, value = match[1].upper(), match[2].upper(), match[3]
        if kind in {"RRULE", "EXRULE"}:
            rule = rrulestr(UNTIL.sub(self._local_until, value), dtstart=first)
            (rules.rrule if kind == "RRULE" else rules.exrule)(rule)  # type: ignore[arg-type]
            return
        zone_name = re.search(r"TZID=([^;:]+)", match[2])
        add = rules.rdate if kind == "RDATE" else rules.exdate
        for part in value.split(","):
            add(self._listed(part.strip(), zone_name and zone_name[1], parameters))

    def _local_until(self, match: re.Match[str]) -> str:
        """Rewrite UNTIL to the wall clock: dateutil compares it with naive starts."""
        text = match[1]
        if "T" not in text:
            wall = datetime.combine(_date(text), LAST_SECOND)
        else:
            wall = self.wall(_datetime(text)) if self.zone else _naive(text)
        return f"UNTIL={wall:%Y%m%dT%H%M%S}"

    def _listed(self, text: str, zone_name: str | None, parameters: str) -> datetime:
        text = text.split("/", 1)[0]  # of a period only the start counts
        if "T" not in text or "VALUE=DATE" in parameters.split(";"):
            listed = _date(text[:8])
            # A bare date in a timed series means the occurrence of that day.
            at = self.wall(self.start).time() if self.zone else time()
            return datetime.combine(listed, at)
        if self.zone is None:
            return datetime.combine(_date(text[:8]), time())
        if text.endswith("Z"):
            return self.wall(_datetime(text))
        if zone_name is None:
            return _naive(text)
        return self.wall(_naive(text).replace(tzinfo=ZoneInfo(zone_name)))


def _same(one: When, other: When) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.astimezone(UTC) == other.astimezone(UTC)
    return one == other


def trimmed(lines: list[str], start: When, before: When) -> list[str]:
    """Return recurrence lines that end before an occurrence."""
    if isinstance(before, datetime):
        last = f"{before.astimezone(UTC) - timedelta(seconds=1):%Y%m%dT%H%M%SZ}"
    else:
        last = f"{before - timedelta(days=1):%Y%m%d}"
    return [_until(line, last) for line in lines]


def following(lines: list[str], start: When, first: When) -> list[str]:
    """Return the lines of a series that takes over from an occurrence on."""
    gone = Series(start, lines)
    passed = sum(1 for _ in gone.starts(gone.wall(first)))
    return [_fewer(line, passed) for line in lines if line.upper().startswith("RRULE")]


def _until(line: str, last: str) -> str:
    if not line.upper().startswith("RRULE"):
        return line
    parts = [
        part
        for part in line.split(";")
        if not part.upper().startswith(("UNTIL=", "COUNT="))
    ]
    return ";".join([*parts, f"UNTIL={last}"])


def _fewer(line: str, passed: int) -> str:
    def less(match: re.Match[str]) -> str:
        return f"COUNT={max(1, int(match[1]) - passed)}"

    return re.sub(r"COUNT=(\d+)", less, line, flags=re.IGNORECASE)


def _date(text: str) -> date:
    return datetime.strptime(text[:8], "%Y%m%d").date()  # noqa: DTZ007


def _naive(text: str) -> datetime:
    return datetime.strptime(text.rstrip("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007


def _datetime(text: str) -> datetime:
    return _naive(text).replace(tzinfo=UTC)
