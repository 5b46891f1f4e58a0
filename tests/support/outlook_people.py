"""Somebody who does anything at all in an Outlook calendar, as chance tells them to."""

from dataclasses import dataclass
from datetime import timedelta

from local_stack.twins.microsoft import Account, Calendar, Event, MicrosoftTwin
from local_stack.twins.microsoft.errors import ApiError
from local_stack.twins.microsoft.recurrence import Inexpressible
from tests.support.busy import Busy, Numbers, a_time, a_title, like, one_of


@dataclass
class OutlookPerson(Busy[Event]):
    """Who has one calendar at the twin, another beside it, and a friend there."""

    twin: MicrosoftTwin
    calendar: Calendar
    account: Account
    friend: Account

    # Singles.

    def add_private(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_time(a, b), sensitivity="private")

    def add_far_away(self, a: int, b: int, c: int) -> None:
        self.calendar.add(a_title(c), a_time(a, b) + timedelta(days=400))

    def move_out_of_sight(self, a: int, b: int, c: int) -> None:
        if event := one_of(self._singles(), a):
            days = timedelta(days=300 if c % 2 else -300)
            self.calendar.move(event, like(event.start, b, c) + days)

    # Series.

    def retime_out_of_sight(self, a: int, b: int, _: int) -> None:
        if b % 4 == 0 and (series := one_of(self._series(), a)):
            self.calendar.retime_series(series, series.start + timedelta(days=500))

    def make_it_single(self, a: int, b: int, _: int) -> None:
        if b % 3 == 0 and (series := one_of(self._series(), a)):
            self.calendar.change(series, recurrence=None)

    def move_the_last_occurrence_far_away(self, a: int, _: int, __: int) -> None:
        if series := one_of(self._series(), a):
            last = self.calendar.occurrences(series, count=1000)[-1:]
            for one in last:
                self.calendar.move(one, one.start + timedelta(days=700))

    # With another calendar.

    def hand_over(self, a: int, b: int, _: int) -> None:
        mine = one_of([*self._singles(), *self._series()], a)
        if b % 2 and mine:
            self.calendar.hand_over(mine, self.account.calendars[1])

    # What Microsoft does.

    def lose_the_cursor(self, _: int, __: int, ___: int) -> None:
        self.calendar.expire_delta_tokens()

    def behave_otherwise(self, a: int, b: int, c: int) -> None:
        behaviour = self.twin.behaviour
        behaviour.exceptions_on_retime = "reset" if a % 2 else "keep"
        behaviour.occurrence_tombstones = bool(b % 2)
        behaviour.empty_pages = bool(c % 2)
        behaviour.repeat_items = bool(a // 2 % 2)
        behaviour.delta_page_size = (1, 5, 50)[b // 2 % 3]
        behaviour.lost_state = "400" if c // 2 % 2 else "410"

    def _is_let(self, deed: str, numbers: Numbers) -> bool:
        try:
            return super()._is_let(deed, numbers)
        except Inexpressible:
            return False
        except ApiError as refused:
            # An occurrence may not cross its neighbour, for example.
            assert refused.status == 400  # noqa: PT017
            return False

    # Who there is.

    def _address(self) -> str:
        return self.account.email

    def _own(self) -> list[Event]:
        return [
            Event(self.calendar, record.ids.immutable)
            for record in list(self.calendar.state.records.values())
            if not record.gone and record.master is None
        ]

    def _mine(self) -> list[Event]:
        return [one for one in self._own() if _organizes(one)]

    def _singles(self) -> list[Event]:
        return [one for one in self._mine() if one.found.record.series is None]

    def _series(self) -> list[Event]:
        return [
            one
            for one in self._mine()
            if one.found.record.series is not None
            # A rule that no pattern can say cannot be said to Outlook again.
            and one.found.record.pattern is not None
        ]

    def _invitations(self) -> list[Event]:
        return [one for one in self._own() if not _organizes(one)]


def _organizes(event: Event) -> bool:
    return bool(event.found.record.fields.get("isOrganizer", True))
