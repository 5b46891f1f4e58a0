"""What Google calls the occurrences of a series.

Each is named after its original start in UTC: `<series>_20261201T090000Z`, or
`<series>_20261201` for all-day ones.
"""

import re
from datetime import UTC, date, datetime

from local_stack.twins.moments import When

OCCURRENCE_ID = re.compile(r"^(.+)_(\d{8})(?:T(\d{6})Z)?$")


def occurrence_id(series_id: str, original: When) -> str:
    """Name an occurrence after its original start."""
    if isinstance(original, datetime):
        return f"{series_id}_{original.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{series_id}_{original:%Y%m%d}"


def split_occurrence_id(event_id: str) -> tuple[str, When] | None:
    """Take an occurrence's id apart; None for any other id."""
    match = OCCURRENCE_ID.match(event_id)
    if match is None:
        return None
    try:
        if match[3] is None:
            return match[1], _date(match[2])
        return match[1], _datetime(f"{match[2]}T{match[3]}Z")
    except ValueError:
        return None


def _date(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007


def _datetime(text: str) -> datetime:
    return datetime.strptime(f"{text}+0000", "%Y%m%dT%H%M%SZ%z")
