"""The operations on calendars and events, each a plain function of one call."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from local_stack.twins.guarded import Answer
from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.calls import Call, Operation, told
from local_stack.twins.microsoft.delta import Deltas, Page
from local_stack.twins.microsoft.errors import invalid, not_found
from local_stack.twins.microsoft.expansion import Placed, Window, members, view
from local_stack.twins.microsoft.presentation import show, taken
from local_stack.twins.microsoft.state import (
    AccountState,
    CalendarState,
    Found,
    Json,
    Store,
)
from local_stack.twins.microsoft.times import read_bound
from local_stack.twins.microsoft.writer import Answered, Writer, refuse_guest

READ = ("Calendars.Read", "Calendars.ReadWrite", "Calendars.ReadBasic")
WRITE = ("Calendars.ReadWrite",)
ME = ("User.Read", *READ)
NEVER_IN_DELTA = ("$select", "$expand", "$filter", "$orderby", "$search")
DEFAULT_PAGE = 10
LONGEST_PAGE = 1000
MOST_TRANSLATED = 1000
ANSWERS: dict[str, Answered] = {
    "accept": "accepted",
    "decline": "declined",
    "tentativelyAccept": "tentativelyAccepted",
}


@dataclass(frozen=True)
class Api:
    """What the API does, without HTTP."""

    store: Store
    writer: Writer
    deltas: Deltas
    behaviour: Behaviour

    def operations(self) -> list[Operation]:
        """Return every operation, with its path below `/v1.0/me`."""
        found = [
            Operation("me.get", "GET", "", ME, self.me),
            Operation("calendars.list", "GET", "/calendars", READ, self.calendars),
            Operation("calendars.get", "GET", "/calendar", READ, self.calendar),
            Operation(
                "calendars.get", "GET", "/calendars/{calendar_id}", READ, self.calendar
            ),
            Operation("translate", "POST", "/translateExchangeIds", ME, self.translate),
        ]
        for root in ("", "/calendar", "/calendars/{calendar_id}"):
            found += self._below(root)
        return found

    def _below(self, root: str) -> list[Operation]:
        one = f"{root}/events/{{event_id}}"
        table = (
            ("events.delta", "GET", f"{root}/calendarView/delta", READ, self.delta),
            ("events.view", "GET", f"{root}/calendarView", READ, self.view),
            ("events.list", "GET", f"{root}/events", READ, self.list_events),
            ("events.create", "POST", f"{root}/events", WRITE, self.create),
            ("events.get", "GET", one, READ, self.get),
            ("events.update", "PATCH", one, WRITE, self.update),
            ("events.delete", "DELETE", one, WRITE, self.delete),
            ("events.instances", "GET", f"{one}/instances", READ, self.instances),
            ("events.cancel", "POST", f"{one}/cancel", WRITE, self.cancel),
            *(
                (f"events.{verb}", "POST", f"{one}/{verb}", WRITE, self.respond)
                for verb in ANSWERS
            ),
        )
        return [Operation(*row) for row in table]

    def me(self, call: Call) -> Answer:
        account = self.store.accounts[call.email]
        return told(
            {
                "@odata.context": _context(call, "users/$entity"),
                "id": account.id,
                "displayName": account.name,
                "mail": account.email,
                "userPrincipalName": account.email,
            }
        )

    def calendars(self, call: Call) -> Answer:
        account = self.store.accounts[call.email]
        entries = [
            self._calendar_entry(account, self.store.calendars[one])
            for one in account.listed
            if self.store.calendars[one].role_of(call.email) != "none"
        ]
        return self._listed(call, entries, _page_size(call), "calendars")

    def calendar(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        account = self.store.accounts[call.email]
        head = {"@odata.context": _context(call, "calendars/$entity")}
        return told(head | self._calendar_entry(account, calendar))

    def translate(self, call: Call) -> Answer:
        """Answer the other kind of id of each item that is known."""
        given = call.body.get("inputIds") or []
        if len(given) > MOST_TRANSLATED:
            raise invalid("At most 1000 ids can be translated at once.")
        target = call.body.get("targetIdType")
        if target not in {"restId", "restImmutableEntryId"}:
            raise invalid("targetIdType is not supported by this twin.")
        value = []
        for source in given:
            ids = self._ids(call.email, source)
            new = ids and (ids.immutable if target != "restId" else ids.mutable)
            value.append({"sourceId": source, "targetId": new or source})
        return told({"@odata.context": _context(call, "ids"), "value": value})

    def _ids(self, email: str, event_id: str) -> Any:
        for calendar in self.store.calendars.values():
            if calendar.owner != email:
                continue
            key = calendar.names.get(event_id)
            if key is not None:
                return calendar.records[key].ids
            named = calendar.occurrence_names.get(event_id)
            if named is not None:
                return calendar.records[named[0]].occurrence_ids(named[2])
        return None

    def delta(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        odd = any(name in call.query for name in NEVER_IN_DELTA)
        if odd and self.behaviour.select_on_delta == "refuse":
            raise invalid(
                "The following parameters are not supported with change tracking "
                "over the 'CalendarView' resource: '$select, $filter, ...'."
            )
        size = call.wishes.page_size
        if "$skiptoken" in call.query:
            page = self.deltas.next(calendar, call.query["$skiptoken"])
        elif "$deltatoken" in call.query:
            page = self.deltas.since(calendar, call.query["$deltatoken"], size)
        else:
            page = self.deltas.first(calendar, _window(call), size)
        return told(_delta_page(call, page))

    def view(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        found = view(calendar, _window(call))
        return self._events(call, calendar, found, _page_size(call))

    def instances(self, call: Call) -> Answer:
        found = self._found(call)
        if found.record.series is None:
            raise invalid("The event is no series master.", "ErrorInvalidOperation")
        placed = members(found.record, _window(call))
        size = self.behaviour.instances_page_size
        return self._events(call, found.calendar, placed, size)

    def list_events(self, call: Call) -> Answer:
        calendar = self._calendar(call)
        placed = [
            Placed(record, None, record.span[0])
            for record in calendar.records.values()
            if not record.gone and record.master is None
        ]
        return self._events(call, calendar, placed, _page_size(call))

    def get(self, call: Call) -> Answer:
        return self._shown(call, self._found(call))

    def create(self, call: Call) -> Answer:
        found = self.writer.create(self._calendar(call), call.email, call.body)
        return self._shown(call, found, status=201)

    def update(self, call: Call) -> Answer:
        found = self._found(call)
        refuse_guest(found, call.body)
        found = self.writer.update(found, call.email, call.body, call.if_match)
        return self._shown(call, found)

    def delete(self, call: Call) -> Answer:
        self.writer.delete(self._found(call), call.email)
        return Answer(status=204)

    def cancel(self, call: Call) -> Answer:
        self.writer.cancel(self._found(call), call.email)
        return Answer(status=202)

    def respond(self, call: Call) -> Answer:
        verb = call.url.rpartition("/")[2]
        self.writer.respond(self._found(call), call.email, ANSWERS[verb])
        return Answer(status=202)

    def _calendar(self, call: Call) -> CalendarState:
        return self.store.calendar_for(call.email, call.calendar_id)

    def _found(self, call: Call) -> Found:
        event_id = call.path["event_id"]
        return self.store.find(call.email, call.calendar_id, event_id)

    def _shown(self, call: Call, found: Found, *, status: int = 200) -> Answer:
        snapshot = taken(found.calendar, found.record, found.original)
        shown = show(snapshot, call.wishes)
        if "singleValueExtendedProperties" in call.query.get("$expand", ""):
            extended = found.record.fields.get("singleValueExtendedProperties", [])
            shown["singleValueExtendedProperties"] = extended
        head = {"@odata.context": _context(call, "events/$entity")}
        return told(head | shown, status=status)

    def _events(
        self, call: Call, calendar: CalendarState, placed: list[Placed], size: int
    ) -> Answer:
        entries = [
            show(taken(calendar, one.record, one.original), call.wishes)
            for one in placed[_skipped(call) : _skipped(call) + size]
        ]
        return self._page(call, entries, len(placed), size, "Collection(event)")

    def _listed(self, call: Call, entries: list[Json], size: int, what: str) -> Answer:
        part = entries[_skipped(call) : _skipped(call) + size]
        return self._page(call, part, len(entries), size, what)

    def _page(
        self, call: Call, entries: list[Json], of: int, size: int, what: str
    ) -> Answer:
        page: Json = {"@odata.context": _context(call, what), "value": entries}
        skipped = _skipped(call) + size
        if skipped < of:
            query = {**call.query, "$skip": str(skipped)}
            page["@odata.nextLink"] = f"{call.url}?{urlencode(query, safe='$:')}"
        return told(page)

    def _calendar_entry(self, account: AccountState, state: CalendarState) -> Json:
        role = state.role_of(account.email)
        owner = self.store.accounts[state.owner]
        return {
            "id": state.id,
            "name": state.name,
            "color": "auto",
            "hexColor": "",
            "changeKey": f"ck{state.sync_epoch}",
            "isDefaultCalendar": state.default and state.owner == account.email,
            "canShare": role == "owner",
            "canViewPrivateItems": role != "read",
            "canEdit": role in {"owner", "write"},
            "isRemovable": not state.default,
            "isTallyingResponses": state.default,
            "allowedOnlineMeetingProviders": ["teamsForBusiness"],
            "defaultOnlineMeetingProvider": "teamsForBusiness",
            "owner": {"name": owner.name, "address": owner.email},
        }


def _delta_page(call: Call, page: Page) -> Json:
    items = [show(item, call.wishes, in_delta=True) for item in page.items]
    name = "$deltatoken" if page.is_last else "$skiptoken"
    link = f"{call.url}?{name}={quote(page.token, safe='')}"
    return {
        "@odata.context": _context(call, "Collection(event)"),
        "@odata.deltaLink" if page.is_last else "@odata.nextLink": link,
        "value": items,
    }


def _window(call: Call) -> Window:
    query = {name.lower(): value for name, value in call.query.items()}
    start = read_bound(query.get("startdatetime"), "StartDateTime")
    end = read_bound(query.get("enddatetime"), "EndDateTime")
    if start >= end:
        raise invalid("The window's end must be after its start.")
    return Window(start, end)


def _page_size(call: Call) -> int:
    given = call.query.get("$top", "")
    size = int(given) if given.isdecimal() else call.wishes.page_size or DEFAULT_PAGE
    return max(1, min(size, LONGEST_PAGE))


def _skipped(call: Call) -> int:
    given = call.query.get("$skip", "0")
    if not given.isdecimal():
        raise not_found()
    return int(given)


def _context(call: Call, what: str) -> str:
    return f"{call.root}/v1.0/$metadata#{what}"
