"""Graph's recurrence patterns, and the RFC 5545 rules that say the same.

Patterns can say less: no second rule, no dates besides the rule, nothing sub-daily.
"""

from datetime import date, datetime, timedelta
from typing import Any

from dateutil.rrule import rrulestr

from local_stack.twins.microsoft.errors import invalid
from local_stack.twins.microsoft.zones import windows_name
from local_stack.twins.moments import When, zone_of

Json = dict[str, Any]

DAYS = {
    "monday": "MO",
    "tuesday": "TU",
    "wednesday": "WE",
    "thursday": "TH",
    "friday": "FR",
    "saturday": "SA",
    "sunday": "SU",
}
NAMES = {short: name for name, short in DAYS.items()}
PLACES = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
INDEXES = {place: index for index, place in PLACES.items()}
FREQUENCIES = {
    "daily": "DAILY",
    "weekly": "WEEKLY",
    "absoluteMonthly": "MONTHLY",
    "relativeMonthly": "MONTHLY",
    "absoluteYearly": "YEARLY",
    "relativeYearly": "YEARLY",
}


class Inexpressible(ValueError):
    """A rule that no pattern can say."""


def lines_of(recurrence: Json) -> list[str]:
    """Return a pattern and its range as a rule."""
    pattern, span = recurrence.get("pattern") or {}, recurrence.get("range") or {}
    try:
        parts = [
            f"FREQ={FREQUENCIES[pattern['type']]}",
            f"INTERVAL={int(pattern.get('interval') or 1)}",
            *_by(pattern),
            *_limit(span),
        ]
    except (KeyError, TypeError, ValueError) as problem:
        raise invalid(
            "The recurrence pattern is invalid.", "ErrorRecurrence"
        ) from problem
    return [f"RRULE:{';'.join(parts)}"]


def _by(pattern: Json) -> list[str]:
    kind = pattern["type"]
    days = ",".join(DAYS[day.lower()] for day in pattern.get("daysOfWeek") or ())
    month = [f"BYMONTH={int(pattern['month'])}"] if kind.endswith("Yearly") else []
    if kind == "weekly":
        first = DAYS[(pattern.get("firstDayOfWeek") or "sunday").lower()]
        return [f"BYDAY={days}", f"WKST={first}"] if days else [f"WKST={first}"]
    if kind.startswith("relative"):
        place = PLACES[pattern.get("index") or "first"]
        return [*month, f"BYDAY={days}", f"BYSETPOS={place}"]
    if kind.startswith("absolute"):
        return [*month, *_month_day(int(pattern["dayOfMonth"]))]
    return []


def _month_day(day: int) -> list[str]:
    """In a month that is too short Outlook takes the last day."""
    if day <= 28:
        return [f"BYMONTHDAY={day}"]
    days = ",".join(str(one) for one in range(28, day + 1))
    return [f"BYMONTHDAY={days}", "BYSETPOS=-1"]


def _limit(span: Json) -> list[str]:
    match span.get("type"):
        case "endDate":
            last = date.fromisoformat(span["endDate"])
            return [f"UNTIL={last:%Y%m%d}T235959"]
        case "numbered":
            return [f"COUNT={int(span['numberOfOccurrences'])}"]
        case "noEnd" | None:
            return []
        case _:
            raise ValueError(span["type"])


def pattern_of(lines: list[str], start: When) -> Json:
    """Return a rule as a pattern and its range.

    Raises:
        Inexpressible: no pattern says this.
    """
    rules = [line for line in lines if line.upper().startswith("RRULE")]
    if len(rules) != 1 or any(line.upper().startswith("RDATE") for line in lines):
        raise Inexpressible("Outlook knows one rule and no other dates")
    rule = dict(
        part.upper().split("=", 1) for part in rules[0].partition(":")[2].split(";")
    )
    pattern = {"interval": int(rule.get("INTERVAL", 1)), **_shape(rule, start)}
    day = start.date() if isinstance(start, datetime) else start
    span: Json = {"type": "noEnd", "startDate": day.isoformat()}
    if "COUNT" in rule:
        span |= {"type": "numbered", "numberOfOccurrences": int(rule["COUNT"])}
    elif "UNTIL" in rule:
        until = _last_day(rule["UNTIL"], start)
        span |= {"type": "endDate", "endDate": until.isoformat()}
    if isinstance(start, datetime):
        span["recurrenceTimeZone"] = windows_name(zone_of(start))
    return {"pattern": pattern, "range": span}


def _shape(rule: Json, start: When) -> Json:
    if set(rule) & {"BYYEARDAY", "BYWEEKNO", "BYHOUR", "BYMINUTE"}:
        raise Inexpressible("Outlook has no such rule")
    match rule["FREQ"]:
        case "DAILY" if "BYDAY" not in rule:
            return {"type": "daily"}
        case "DAILY" | "WEEKLY":
            days = rule.get("BYDAY") or list(NAMES)[start.weekday()]
            return {
                "type": "weekly",
                "daysOfWeek": [_day(day) for day in days.split(",")],
                "firstDayOfWeek": _day(rule.get("WKST", "MO")),
            }
        case "MONTHLY":
            return _monthly(rule, start, "Monthly")
        case "YEARLY":
            if "," in rule.get("BYMONTH", ""):
                raise Inexpressible("Outlook knows one month a year")
            month = int(rule.get("BYMONTH") or start.month)
            return {**_monthly(rule, start, "Yearly"), "month": month}
        case _:
            raise Inexpressible("Outlook has no such frequency")


def _monthly(rule: Json, start: When, kind: str) -> Json:
    if "BYDAY" not in rule:
        days = [int(day) for day in rule.get("BYMONTHDAY", str(start.day)).split(",")]
        if len(days) > 1 and rule.get("BYSETPOS") != "-1":
            raise Inexpressible("Outlook knows one day a month")
        if min(days) < 0:
            raise Inexpressible("Outlook counts days from a month's beginning")
        return {"type": f"absolute{kind}", "dayOfMonth": max(days)}
    if "BYMONTHDAY" in rule:
        raise Inexpressible("Outlook does not join weekdays and days")
    parts = rule["BYDAY"].split(",")
    places = {part[:-2] or rule.get("BYSETPOS", "") for part in parts}
    place = int(next(iter(places)) or 0) if len(places) == 1 else 0
    if place not in INDEXES:
        raise Inexpressible("Outlook knows the first to fourth and the last")
    return {
        "type": f"relative{kind}",
        "daysOfWeek": [_day(part[-2:]) for part in parts],
        "index": INDEXES[place],
    }


def _day(short: str) -> str:
    if short not in NAMES:
        raise Inexpressible("Outlook knows weekdays without a number here")
    return NAMES[short]


def _last_day(until: str, start: When) -> date:
    """Return the last day that may have an occurrence: Outlook knows no time here."""
    if not until.endswith("Z") or not isinstance(start, datetime):
        return datetime.strptime(until[:8], "%Y%m%d").date()  # noqa: DTZ007
    at = datetime.strptime(f"{until[:-1]}+0000", "%Y%m%dT%H%M%S%z")
    local = at.astimezone(start.tzinfo)
    ends_before = local.time() < start.time()
    return local.date() - timedelta(days=1 if ends_before else 0)


def first_by_rule(start: When, lines: list[str]) -> When:
    """Return the first start that a rule itself gives: there a series begins."""
    wall = (
        start.replace(tzinfo=None)
        if isinstance(start, datetime)
        else datetime.combine(start, datetime.min.time())
    )
    bare = [part for part in lines[0].split(";") if not part.startswith("UNTIL")]
    first = next(iter(rrulestr(";".join(bare), dtstart=wall)), None)
    if first is None:
        raise invalid("The recurrence pattern has no occurrence.", "ErrorRecurrence")
    if isinstance(start, datetime):
        return first.replace(tzinfo=start.tzinfo)
    return first.date()
