"""Somebody who does anything at all in a Google calendar, as chance tells them to."""

from dataclasses import dataclass
from datetime import date, timedelta

from local_stack.twins.google import Account, Calendar, Event, GoogleTwin
from tests.support.busy import Busy, a_day, a_time, a_title, one_of


@dataclass
class GooglePerson(Busy[Event]):
    """Who has one calendar at the twin, and a friend there."""

    twin: GoogleTwin
    calendar: Calendar
    friend: Account

    # Singles.

    def add_private(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_time(a, b), visibility="private")

    def add_focus_time(self, a: int, b: int, _: int) -> None:
        self.calendar.add("Focus", a_time(a, b), eventType="focusTime")

    def make_all_day(self, a: int, b: int, _: int) -> None:
        if event := one_of(self._singles(), a):
            start, end = (_whole_day(a_day(b) + timedelta(days=n)) for n in (0, 1))
            self.calendar.change(event, start=start, end=end)

    # With a friend.

    def take_the_answer_back(self, a: int, _: int, __: int) -> None:
        if event := one_of(self._invitations(), a):
            self.calendar.answer(event, "needsAction")

    def friend_moves(self, a: int, b: int, c: int) -> None:
        copy = one_of(self._invitations(), a)
        if copy and not copy.body.get("recurrence"):
            self.friend.primary.move(self.friend.primary.event(copy.id), a_time(b, c))

    def friend_cancels(self, a: int, _: int, __: int) -> None:
        if copy := one_of(self._invitations(), a):
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

    def _address(self) -> str:
        return self.calendar.id

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

    def _invitations(self) -> list[Event]:
        friend = self.friend.email
        return [e for e in self._own() if e.body["organizer"].get("email") == friend]


def _whole_day(day: date) -> dict[str, str | None]:
    return {"date": day.isoformat(), "dateTime": None, "timeZone": None}
