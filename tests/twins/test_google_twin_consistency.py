"""Whoever follows the deltas ends with what a full list shows, whatever is done."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from local_stack.twins.google import Calendar, Event, GoogleTwin
from local_stack.twins.google.api import Call
from local_stack.twins.google.errors import ApiError
from runtime.clock import ManualClock
from tests.twins.conftest import NOON
from tests.twins.google_calls import berlin

RULES = (
    None,
    "FREQ=DAILY;COUNT=6",
    "FREQ=WEEKLY;COUNT=4",
    "FREQ=DAILY;INTERVAL=2;COUNT=5",
)


class Follower:
    """A client that reads once in full, and then only what changed."""

    def __init__(self, google: GoogleTwin, **params: str) -> None:
        self._google = google
        self._grant = google.account("ada@example.org").sign_in()
        self._params = params
        self._token: str | None = None
        self.events: dict[str, Any] = {}

    def listed(self, **params: str) -> tuple[list[Any], str]:
        asked = {key: [value] for key, value in {**self._params, **params}.items()}
        path = {"calendar_id": "primary"}
        call = Call(self._grant, path, {"maxResults": ["2500"], **asked}, {}, {})
        answer = msgspec.json.decode(self._google.api.list_events(call).content)
        return answer["items"], answer["nextSyncToken"]

    def follow(self) -> None:
        params = {} if self._token is None else {"syncToken": self._token}
        items, self._token = self.listed(**params)
        for item in items:
            if item["status"] == "cancelled":
                self.events.pop(item["id"], None)
            else:
                self.events[item["id"]] = item

    def truth(self) -> dict[str, Any]:
        items, _ = self.listed()
        return {item["id"]: item for item in items if item["status"] != "cancelled"}


def _pick(calendar: Calendar, number: int, *, series: bool) -> Event | None:
    events = [
        Event(calendar, record.id)
        for record in calendar.state.events.values()
        if not record.cancelled
        and record.series_id is None
        and (record.series is not None) == series
    ]
    return events[number % len(events)] if events else None


def _occurrence(calendar: Calendar, number: int) -> Event | None:
    series = _pick(calendar, number, series=True)
    found = calendar.occurrences(series) if series else []
    return found[number % len(found)] if found else None


def add(calendar: Calendar, number: int, hour: int) -> None:
    rule = RULES[number % len(RULES)]
    start: datetime | date = berlin(23 + number % 3, hour)
    if number % 5 == 0:
        start = date(2026, 11, 23 + number % 3)
    calendar.add(f"Nr. {number}", start, recurrence=rule)


def change_single(calendar: Calendar, number: int, hour: int) -> None:
    event = _pick(calendar, number, series=False)
    if event is not None:
        calendar.move(event, berlin(24, hour))


def change_series(calendar: Calendar, number: int, hour: int) -> None:
    series = _pick(calendar, number, series=True)
    if series is None:
        return
    if number % 3 == 0:
        calendar.rename(series, f"Reihe {number}")
    elif isinstance(series.start, datetime):
        calendar.retime_series(series, berlin(23 + number % 3, hour))


def change_occurrence(calendar: Calendar, number: int, hour: int) -> None:
    occurrence = _occurrence(calendar, number)
    if occurrence is None:
        return
    if number % 3 == 0:
        calendar.cancel(occurrence)
    elif isinstance(occurrence.start, datetime):
        calendar.move(occurrence, occurrence.start + timedelta(hours=1))


def follow_on(calendar: Calendar, number: int, hour: int) -> None:
    series = _pick(calendar, number, series=True)
    occurrence = _occurrence(calendar, number)
    if series is not None and occurrence is not None:
        calendar.trim_and_follow(series, occurrence.original_start)


def cancel(calendar: Calendar, number: int, hour: int) -> None:
    event = _pick(calendar, number, series=bool(number % 2))
    if event is not None:
        calendar.cancel(event)


ACTIONS: tuple[Callable[[Calendar, int, int], None], ...] = (
    add,
    add,
    change_single,
    change_series,
    change_occurrence,
    change_occurrence,
    follow_on,
    cancel,
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 30),
        st.integers(0, 23),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_deltas_lead_to_what_a_full_list_shows(steps: list[Any]) -> None:
    google = GoogleTwin(ManualClock(NOON))
    calendar = google.account("ada@example.org").primary
    followers = [Follower(google), Follower(google, singleEvents="true")]

    for action, number, hour, looks in steps:
        try:
            action(calendar, number, hour)
        except ApiError as refused:
            # A series cannot be trimmed before its first occurrence, for example.
            assert refused.status == 400  # noqa: PT017
        if looks:
            for follower in followers:
                follower.follow()

    for follower in followers:
        follower.follow()
        assert follower.events == follower.truth()
