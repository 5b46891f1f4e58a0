"""Moving a calendar by whole weeks, so that old files lie around now.

Weekday and time of day stay. A rule such as "third Saturday" names other days once its
start has moved, so the start, left-out dates and changed occurrences are moved on to
the nearest occurrence that the rule now has.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from local_stack.twins.google.state import CalendarState, Json
from local_stack.twins.google.times import read_when, write_when
from local_stack.twins.moments import When, length, moved
from local_stack.twins.series import Series

UNTIL = re.compile(r"UNTIL=(\d{8})(T\d{6}Z?)?")
DATE_LINE = re.compile(r"^(RDATE|EXDATE)((?:;[^:]*)?):(\d{8})(?:T(\d{6})Z)?$")
NEAR = timedelta(days=20)
ANOTHER_DAY = ("FREQ=MONTHLY", "FREQ=YEARLY")


@dataclass(frozen=True)
class Shift:
    """A distance of whole weeks."""

    by: timedelta

    def when(self, when: When) -> When:
        """Move a time on its wall clock, a date as it is."""
        return moved(when, self.by)

    def series(self, body: Json, lines: list[str], calendar: CalendarState) -> Json:
        """Return start, end and recurrence of a series whose start has moved."""
        if not self.by:
            return {"recurrence": lines}
        zone_name = calendar.time_zone
        start = read_when(body["start"], zone_name, "start")
        elapsed = length(start, read_when(body["end"], zone_name, "end"))
        rules = [self._moved_until(line) for line in lines if "RULE" in line[:6]]
        if any(freq in rule for rule in rules for freq in ANOTHER_DAY):
            start = _first_by_rule(start, rules)
        series = Series(start, rules)
        dates = [self._moved_date(line, series) for line in lines if "DATE" in line[:6]]
        return {
            "start": write_when(start, zone_name),
            "end": write_when(moved(start, elapsed), zone_name),
            "recurrence": rules + dates,
        }

    def nearest(self, series: Series, original: When) -> When:
        """Return the occurrence nearest to a moved original start, if one is near."""
        if not self.by or series.has(original):
            return original
        wall = series.wall(original)
        near = list(series.starts(wall + NEAR, wall - NEAR))
        return min(
            near, key=lambda when: abs(series.wall(when) - wall), default=original
        )

    def _moved_until(self, line: str) -> str:
        def until(match: re.Match[str]) -> str:
            return f"UNTIL={_read_date(match[1]) + self.by:%Y%m%d}{match[2] or ''}"

        return UNTIL.sub(until, line)

    def _moved_date(self, line: str, series: Series) -> str:
        match = DATE_LINE.match(line)
        if match is None:
            return line
        when: When = _read_date(match[3])
        if match[4] is not None:
            utc = datetime.strptime(f"{match[3]}{match[4]}+0000", "%Y%m%d%H%M%S%z")
            when = utc.astimezone(series.zone or UTC)
        when = self.when(when)
        if match[1] == "EXDATE":
            when = self.nearest(series, when)
        if isinstance(when, datetime):
            return f"{match[1]}:{when.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        return f"{match[1]};VALUE=DATE:{when:%Y%m%d}"


def _first_by_rule(start: When, rules: list[str]) -> When:
    """Return the first start that the rules themselves give."""
    shifted = Series(start, rules)
    wall = shifted.wall(start)
    by_rule = Series(moved(start, timedelta(days=-40)), rules)
    coming = by_rule.starts(wall + timedelta(days=400), wall)
    return next(coming, start)


def _read_date(text: str) -> date:
    return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:]}")
