"""An event as a person sees it in Outlook."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from local_stack.twins.microsoft.ids import Ids, etag
from local_stack.twins.microsoft.presentation import Preferences, show, taken
from local_stack.twins.microsoft.state import Found, Json, find_in
from local_stack.twins.moments import When, later

if TYPE_CHECKING:
    from local_stack.twins.microsoft.personal_calendars import Calendar


@dataclass(frozen=True)
class Event:
    """An event on a calendar, known by its immutable id: it shows what is there now."""

    calendar: "Calendar"
    id: str

    @property
    def found(self) -> Found:
        found = find_in(self.calendar.state, self.id)
        if found is None:
            raise KeyError("this event is no longer there")
        return found

    @property
    def ids(self) -> Ids:
        """Both ids that Graph has for it."""
        return self.found.ids

    @property
    def body(self) -> Json:
        """The event as a GET would show it, under immutable ids."""
        found = self.found
        snapshot = taken(found.calendar, found.record, found.original)
        return show(snapshot, Preferences(immutable=True))

    @property
    def etag(self) -> str:
        return etag(self.found.record.number)

    @property
    def title(self) -> str:
        return str(self.found.record.fields.get("subject", ""))

    @property
    def start(self) -> When:
        found = self.found
        return found.record.start if found.original is None else found.original

    @property
    def end(self) -> When:
        found = self.found
        if found.original is None:
            return found.record.end
        return later(found.original, found.record.elapsed)

    @property
    def original_start(self) -> When:
        """When an occurrence would be, had nobody moved it."""
        found = self.found
        original = found.original or found.record.original
        if original is None:
            raise ValueError("this is no occurrence")
        return original

    @property
    def cancelled(self) -> bool:
        """Cancelled by its organizer, or not there any more."""
        found = find_in(self.calendar.state, self.id)
        return found is None or bool(found.record.fields.get("isCancelled"))


def written(when: When, zone: str) -> Json:
    """Write a time for the API."""
    if isinstance(when, datetime):
        wall = when.replace(tzinfo=None)
        name = getattr(when.tzinfo, "key", None)
        return {"dateTime": wall.isoformat(), "timeZone": name or zone}
    return {"dateTime": f"{when.isoformat()}T00:00:00", "timeZone": zone}
