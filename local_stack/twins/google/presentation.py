"""How much of an event a reader gets to see, and in which time zone."""

from datetime import datetime
from typing import Any

import msgspec

from local_stack.twins.google.state import ROLE_ORDER, CalendarState, Json
from local_stack.twins.google.times import zone_named

FREE_BUSY_FIELDS = frozenset(
    {"kind", "etag", "id", "status", "start", "end", "iCalUID", "updated"}
    | {"recurringEventId", "originalStartTime", "recurrence", "transparency"}
)


class View:
    """What one call shows of each event."""

    def __init__(
        self,
        calendar: CalendarState,
        email: str,
        *,
        time_zone: str | None = None,
        max_attendees: int | None = None,
    ) -> None:
        self.calendar = calendar
        self.role = calendar.role_of(email)
        self.time_zone = time_zone
        self.max_attendees = max_attendees
        self.plain = (
            ROLE_ORDER.get(self.role, 0) >= ROLE_ORDER["writer"]
            and time_zone in {None, calendar.time_zone}
            and max_attendees is None
        )

    def show(self, encoded: bytes) -> bytes:
        """Return an event as this reader sees it; mostly just as it is."""
        if self.plain:
            return encoded
        body: Json = msgspec.json.decode(encoded)
        return msgspec.json.encode(self._cut_attendees(self._moved(self._hidden(body))))

    def _hidden(self, body: Json) -> Json:
        order = ROLE_ORDER.get(self.role, 0)
        private = body.get("visibility") in {"private", "confidential"}
        if order >= ROLE_ORDER["writer"] or (
            order >= ROLE_ORDER["reader"] and not private
        ):
            return body
        shown = {key: body[key] for key in body if key in FREE_BUSY_FIELDS}
        if shown.get("status") != "cancelled":
            shown["visibility"] = "private"
        return shown

    def _moved(self, body: Json) -> Json:
        if self.time_zone is None:
            return body
        zone = zone_named(self.time_zone)
        for key in ("start", "end", "originalStartTime"):
            time: Any = body.get(key)
            if isinstance(time, dict) and isinstance(time.get("dateTime"), str):
                moved = datetime.fromisoformat(time["dateTime"]).astimezone(zone)
                body[key] = {**time, "dateTime": moved.isoformat(timespec="seconds")}
        return body

    def _cut_attendees(self, body: Json) -> Json:
        attendees = body.get("attendees", [])
        if self.max_attendees is not None and len(attendees) > self.max_attendees:
            body["attendees"] = [a for a in attendees if a.get("self")]
            body["attendeesOmitted"] = True
        return body
