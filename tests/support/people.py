"""Somebody who does anything at all in a Google calendar, as numbers tell them to."""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from local_stack.twins.google import Account, Calendar, Event, GoogleTwin
from tests.support.events import ZONE

RULES = (
    "FREQ=WEEKLY",
    "FREQ=DAILY;COUNT=9",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;COUNT=6",
    "FREQ=MONTHLY;BYMONTHDAY=31",
    "FREQ=DAILY;INTERVAL=3",
)
TITLES = ("Visit", "Choir", "Räumung", "", "Check-up 🦷")
RESPONSES = ("accepted", "declined", "tentative", "needsAction")
Numbers = tuple[int, int, int]


@dataclass
class Busy:
    """One person with one calendar, and a friend who invites them."""

    twin: GoogleTwin
    calendar: Calendar
    friend: Account

    def do(self, what: int, numbers: Numbers) -> str:
        """Do one of the things below; returns which, for who reads a failure."""
        name = DEEDS[what % len(DEEDS)]
        getattr(self, name)(*numbers)
        return name

    # Singles.

    def add(self, a: int, b: int, c: int) -> None:
        self.calendar.add(_title(c), _when(a, b), timedelta(minutes=30 * (1 + c % 5)))

    def add_all_day(self, a: int, b: int, c: int) -> None:
        self.calendar.add(_title(c), _day(a), _day(a) + timedelta(days=1 + b % 3))

    def add_private(self, a: int, b: int, c: int) -> None:
        self.calendar.add(_title(c), _when(a, b), visibility="private")

    def add_focus_time(self, a: int, b: int, _: int) -> None:
        self.calendar.add("Focus", _when(a, b), eventType="focusTime")

    def rename(self, a: int, b: int, _: int) -> None:
        if event := _one(self._singles(), a):
            self.calendar.rename(event, _title(b))

    def move(self, a: int, b: int, c: int) -> None:
        if event := _one(self._singles(), a):
            whole_days = "date" in event.body["start"]
            self.calendar.move(event, _day(b) if whole_days else _when(b, c))

    def make_all_day(self, a: int, b: int, _: int) -> None:
        if event := _one(self._singles(), a):
            start, end = (_whole_day(_day(b) + timedelta(days=n)) for n in (0, 1))
            self.calendar.change(event, start=start, end=end)

    def cancel(self, a: int, _: int, __: int) -> None:
        if event := _one(self._singles(), a):
            self.calendar.cancel(event)

    def make_it_recur(self, a: int, b: int, _: int) -> None:
        if event := _one(self._singles(), a):
            self.calendar.change(event, recurrence=[f"RRULE:{_rule(b)}"])

    def touch(self, a: int, _: int, __: int) -> None:
        if event := _one([*self._singles(), *self._series()], a):
            self.calendar.touch(event)

    # Series.

    def add_series(self, a: int, b: int, c: int) -> None:
        self.calendar.add(_title(c), _when(a, b), recurrence=_rule(c))

    def add_all_day_series(self, a: int, b: int, c: int) -> None:
        self.calendar.add(_title(c), _day(a), recurrence=_rule(b))

    def rename_series(self, a: int, b: int, _: int) -> None:
        if series := _one(self._series(), a):
            self.calendar.rename(series, _title(b))

    def retime_to_an_hour(self, a: int, b: int, _: int) -> None:
        if series := _one(self._timed(), a):
            self.calendar.retime_series(series, time(7 + b % 12, 15 * (b % 4)))

    def retime_to_a_day(self, a: int, b: int, _: int) -> None:
        if series := _one(self._series(), a):
            to = series.start + timedelta(days=b % 11 - 5)
            self.calendar.retime_series(series, to)

    def change_rule(self, a: int, b: int, _: int) -> None:
        if series := _one(self._series(), a):
            self.calendar.retime_series(series, recurrence=_rule(b))

    def cancel_series(self, a: int, b: int, _: int) -> None:
        if b % 3 == 0 and (series := _one(self._series(), a)):
            self.calendar.cancel(series)

    def end_series(self, a: int, b: int, _: int) -> None:
        if found := self._occurrence(a, 1 + b):
            self.calendar.end_series(found[0], found[1].original_start)

    def trim_and_follow(self, a: int, b: int, c: int) -> None:
        if found := self._occurrence(a, 1 + b):
            series, first = found[0], found[1].original_start
            to = first + timedelta(days=c % 3, hours=c % 2 * _timed(first))
            self.calendar.trim_and_follow(series, first, to=to)

    def move_occurrence(self, a: int, b: int, c: int) -> None:
        if found := self._occurrence(a, b):
            was = found[1].original_start
            to = was + timedelta(days=c % 15 - 7, hours=c % 5 * _timed(was))
            self.calendar.move(found[1], to)

    def rename_occurrence(self, a: int, b: int, c: int) -> None:
        if found := self._occurrence(a, b):
            self.calendar.rename(found[1], _title(c))

    def cancel_occurrence(self, a: int, b: int, _: int) -> None:
        if found := self._occurrence(a, b):
            self.calendar.cancel(found[1])

    # With a friend.

    def is_invited(self, a: int, b: int, c: int) -> None:
        rule = _rule(c) if c % 2 else None
        self.friend.primary.add(
            _title(c), _when(a, b), recurrence=rule, attendees=[self.calendar.id]
        )

    def answer(self, a: int, b: int, _: int) -> None:
        if event := _one(self._invitations(), a):
            self.calendar.answer(event, RESPONSES[b % len(RESPONSES)])

    def friend_moves(self, a: int, b: int, c: int) -> None:
        if (copy := _one(self._invitations(), a)) and not copy.body.get("recurrence"):
            self.friend.primary.move(self.friend.primary.event(copy.id), _when(b, c))

    def friend_cancels(self, a: int, _: int, __: int) -> None:
        if copy := _one(self._invitations(), a):
            self.friend.primary.cancel(self.friend.primary.event(copy.id))

    # What Google does.

    def lose_the_cursor(self, _: int, __: int, ___: int) -> None:
        self.calendar.expire_sync_tokens()

    def behave_otherwise(self, a: int, b: int, c: int) -> None:
        behaviour = self.twin.behaviour
        behaviour.exceptions_on_retime = "reset" if a % 2 else "keep"
        behaviour.exceptions_first = bool(b % 2)
        behaviour.empty_pages = bool(c % 2)

    # Who there is.

    def _own(self) -> list[Event]:
        state = self.calendar.state
        return [
            Event(self.calendar, record.id)
            for record in list(state.events.values())
            if not record.cancelled and record.series_id is None
        ]

    def _mine(self) -> list[Event]:
        return [one for one in self._own() if one.body["organizer"].get("self")]

    def _singles(self) -> list[Event]:
        return [one for one in self._mine() if not one.body.get("recurrence")]

    def _series(self) -> list[Event]:
        return [one for one in self._mine() if one.body.get("recurrence")]

    def _timed(self) -> list[Event]:
        return [one for one in self._series() if "dateTime" in one.body["start"]]

    def _invitations(self) -> list[Event]:
        friend = self.friend.email
        return [e for e in self._own() if e.body["organizer"].get("email") == friend]

    def _occurrence(self, a: int, b: int) -> tuple[Event, Event] | None:
        series = _one(self._series(), a)
        if series is None:
            return None
        occurrences = self.calendar.occurrences(series, count=12)
        occurrence = _one(occurrences, b)
        return None if occurrence is None else (series, occurrence)


DEEDS = tuple(
    name
    for name, deed in vars(Busy).items()
    if callable(deed) and not name.startswith("_") and name != "do"
)
OF_SERIES = ("series", "retime", "rule", "trim", "occurrence", "recur", "_one_")
SERIES_DEEDS = tuple(
    place for place, name in enumerate(DEEDS) if any(word in name for word in OF_SERIES)
)


def _one(things: list[Any], number: int) -> Any:
    return things[number % len(things)] if things else None


def _day(number: int) -> date:
    today = datetime.now(ZONE).date()
    return today + timedelta(days=number % 70 - 10)


def _whole_day(day: date) -> dict[str, str | None]:
    return {"date": day.isoformat(), "dateTime": None, "timeZone": None}


def _when(day: int, hour: int) -> datetime:
    on = _day(day)
    return datetime(on.year, on.month, on.day, 7 + hour % 12, 30, tzinfo=ZONE)


def _rule(number: int) -> str:
    return RULES[number % len(RULES)]


def _title(number: int) -> str:
    return TITLES[number % len(TITLES)]


def _timed(when: date) -> int:
    return int(isinstance(when, datetime))
