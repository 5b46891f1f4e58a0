"""An event as a person sees it, and the ways to write down its times."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from local_stack.twins.google.occurrences import encoded, etag_of, find
from local_stack.twins.google.state import Json
from local_stack.twins.google.times import read_when
from local_stack.twins.moments import When

if TYPE_CHECKING:
    from local_stack.twins.google.personal_calendars import Calendar

Recurrence: TypeAlias = str | Iterable[str] | None


@dataclass(frozen=True)
class Event:
    """An event on a calendar: a name for it, so it always shows what is there now."""

    calendar: "Calendar"
    id: str

    @property
    def body(self) -> Json:
        """The event as events.get would show it."""
        state = self.calendar.state
        with self.calendar.store.exclusive():
            body: Json = msgspec.json.decode(encoded(state, find(state, self.id)))
        return body

    @property
    def etag(self) -> str:
        return etag_of(find(self.calendar.state, self.id))

    @property
    def title(self) -> str:
        return str(self.body.get("summary", ""))

    @property
    def start(self) -> When:
        return read_when(self.body["start"], self.calendar.time_zone, "start")

    @property
    def end(self) -> When:
        return read_when(self.body["end"], self.calendar.time_zone, "end")

    @property
    def original_start(self) -> When:
        """When an occurrence would be, had nobody moved it."""
        time_zone = self.calendar.time_zone
        return read_when(self.body["originalStartTime"], time_zone, "original start")

    @property
    def cancelled(self) -> bool:
        return bool(self.body.get("status") == "cancelled")


def written(when: When, *, replacing: bool) -> Json:
    """Write a time for the API; replacing clears what the other kind would leave."""
    if isinstance(when, datetime):
        zone = getattr(when.tzinfo, "key", None)
        written: Json = {"dateTime": when.isoformat(), "timeZone": zone}
        return {**written, "date": None} if replacing else written
    written = {"date": when.isoformat()}
    return {**written, "dateTime": None, "timeZone": None} if replacing else written


def lines_of(recurrence: Recurrence) -> list[str] | None:
    """Return recurrence lines; a bare rule is one too."""
    if recurrence is None:
        return None
    lines = [recurrence] if isinstance(recurrence, str) else list(recurrence)
    return [line if ":" in line else f"RRULE:{line}" for line in lines]
