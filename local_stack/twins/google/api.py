"""The operations of the Calendar API v3, each a plain function of one call."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from local_stack.twins.google import calendar_lists
from local_stack.twins.google.channels import Channels
from local_stack.twins.google.conferences import heard, heard_patch
from local_stack.twins.google.errors import not_found, required
from local_stack.twins.google.listing import Lister
from local_stack.twins.google.oauth import Grant, require_scope
from local_stack.twins.google.occurrences import Found, encoded, etag_of, find
from local_stack.twins.google.presentation import View
from local_stack.twins.google.push import Message, PushSender
from local_stack.twins.google.queries import read_query
from local_stack.twins.google.state import CalendarState, Json, Store
from local_stack.twins.google.writer import Writer
from local_stack.twins.guarded import Answer

READ_EVENTS = ("calendar.readonly", "calendar.events", "calendar.events.readonly")
WRITE_EVENTS = ("calendar.events",)
READ_LIST = (
    "calendar.readonly",
    "calendar.calendarlist",
    "calendar.calendarlist.readonly",
)
READ_CALENDARS = ("calendar.readonly", "calendar.calendars", *READ_LIST)


@dataclass(frozen=True)
class Call:
    """One request, read and authenticated."""

    grant: Grant
    path: dict[str, str]
    params: dict[str, list[str]]
    headers: dict[str, str]
    body: Json

    @property
    def email(self) -> str:
        return self.grant.email

    def first(self, name: str) -> str | None:
        return next(iter(self.params.get(name, ())), None)


@dataclass(frozen=True)
class Greeted(Answer):
    """What goes back, and the hello of a channel that was just opened."""

    hello: Message = field(kw_only=True)


@dataclass(frozen=True)
class Operation:
    """One method of the API: where it is, what it is called, what it needs."""

    name: str
    method: str
    path: str
    scopes: tuple[str, ...]
    run: Callable[[Call], Answer]


@dataclass(frozen=True)
class Api:
    """What the API does, without HTTP."""

    store: Store
    writer: Writer
    lister: Lister
    channels: Channels
    sender: PushSender

    def operations(self) -> list[Operation]:
        """Return every operation, with its path below `/calendar/v3`."""
        events = "/calendars/{calendar_id}/events"
        one = f"{events}/{{event_id}}"
        me = "/users/me/calendarList"
        table = (
            ("events.list", "GET", events, READ_EVENTS, self.list_events),
            ("events.insert", "POST", events, WRITE_EVENTS, self.insert),
            ("events.import", "POST", f"{events}/import", WRITE_EVENTS, self.import_),
            ("events.watch", "POST", f"{events}/watch", READ_EVENTS, self.watch),
            ("events.get", "GET", one, READ_EVENTS, self.get),
            ("events.update", "PUT", one, WRITE_EVENTS, self.update),
            ("events.patch", "PATCH", one, WRITE_EVENTS, self.patch),
            ("events.delete", "DELETE", one, WRITE_EVENTS, self.delete),
            ("events.move", "POST", f"{one}/move", WRITE_EVENTS, self.move),
            (
                "events.instances",
                "GET",
                f"{one}/instances",
                READ_EVENTS,
                self.instances,
            ),
            ("channels.stop", "POST", "/channels/stop", READ_EVENTS, self.stop),
            ("calendarList.list", "GET", me, READ_LIST, self.list_calendars),
            (
                "calendarList.get",
                "GET",
                f"{me}/{{calendar_id}}",
                READ_LIST,
                self.get_list_entry,
            ),
            (
                "calendars.get",
                "GET",
                "/calendars/{calendar_id}",
                READ_CALENDARS,
                self.get_calendar,
            ),
        )
        return [Operation(*row) for row in table]

    def run(self, operation: Operation, call: Call) -> Answer:
        """Run an operation alone, whole, and announce what it changed."""
        require_scope(call.grant, *operation.scopes)
        with self.store.exclusive():
            return operation.run(call)

    def list_events(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        return Answer(self.lister.list_(calendar, call.email, read_query(call.params)))

    def instances(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        query = read_query({**call.params, "singleEvents": ["true"]})
        return Answer(
            self.lister.instances(calendar, call.email, call.path["event_id"], query)
        )

    def get(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        found = find(calendar, call.path["event_id"])
        if found.record is not None and self.lister.is_forgotten(
            calendar, found.record
        ):
            raise not_found()
        etag = etag_of(found)
        if call.headers.get("if-none-match") == etag:
            return Answer(status=304, headers={"ETag": etag})
        return self._shown(call, calendar, found)

    def insert(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        found = self.writer.insert(calendar, call.email, self._heard(call))
        return self._shown(call, calendar, found)

    def import_(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        found = self.writer.import_(calendar, call.email, self._heard(call))
        return self._shown(call, calendar, found)

    def update(self, call: Call) -> Answer:
        return self._write(call, replace=True)

    def patch(self, call: Call) -> Answer:
        return self._write(call, replace=False)

    def delete(self, call: Call) -> Answer:
        self.writer.delete(
            self._calendar(call),
            call.email,
            call.path["event_id"],
            call.headers.get("if-match"),
        )
        return Answer(status=204)

    def move(self, call: Call) -> Answer:
        destination = call.first("destination")
        if destination is None:
            raise required("Required parameter: destination")
        target = self.store.calendar_for(call.email, destination)
        found = self.writer.move(
            self._calendar(call), call.email, call.path["event_id"], target
        )
        return self._shown(call, target, found)

    def watch(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        asked_as = call.path["calendar_id"]
        channel = self.channels.watch(calendar, asked_as, call.grant, call.body)
        return Greeted(
            msgspec.json.encode(channel.answer()),
            hello=self.sender.message(channel, "sync"),
        )

    def stop(self, call: Call) -> Answer:
        self.channels.stop(call.grant, call.body)
        return Answer(status=204)

    def list_calendars(self, call: Call) -> Answer:
        account = self.store.accounts[call.email]
        return Answer(calendar_lists.page(self.store, account, call.params))

    def get_list_entry(self, call: Call) -> Answer:
        account = self.store.accounts[call.email]
        calendar = self._calendar(call)
        if calendar.id not in account.listed or calendar.id in account.removed:
            raise not_found()
        return Answer(msgspec.json.encode(calendar_lists.entry(account, calendar)))

    def get_calendar(self, call: Call) -> Answer:
        return Answer(
            msgspec.json.encode(calendar_lists.calendar(self._calendar(call)))
        )

    def _calendar(self, call: Call) -> CalendarState:
        return self.store.calendar_for(call.email, call.path["calendar_id"])

    def _write(self, call: Call, *, replace: bool) -> Answer:
        calendar = self._calendar(call)
        found = self.writer.write(
            calendar,
            call.email,
            call.path["event_id"],
            self._heard(call, patch=not replace),
            replace=replace,
            if_match=call.headers.get("if-match"),
        )
        return self._shown(call, calendar, found)

    def _heard(self, call: Call, *, patch: bool = False) -> Json:
        version = call.first("conferenceDataVersion")
        return (heard_patch if patch else heard)(call.body, version)

    def _shown(self, call: Call, calendar: CalendarState, found: Found) -> Answer:
        most = call.first("maxAttendees")
        view = View(
            calendar,
            call.email,
            time_zone=call.first("timeZone"),
            max_attendees=int(most) if most and most.isdecimal() else None,
        )
        return Answer(
            view.show(encoded(calendar, found)), headers={"ETag": etag_of(found)}
        )
