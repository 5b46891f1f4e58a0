"""`/_twin` of the twins of calendar providers: what people do in their calendars."""

from abc import abstractmethod
from collections.abc import Callable
from datetime import date, datetime, time
from functools import partial
from typing import Any, ClassVar, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calendar_twin import CalendarTwin
from local_stack.twins.control_routes import ControlRoutes
from local_stack.twins.moments import When, known_zone

Action: TypeAlias = Callable[[Any, dict[str, Any]], Any]

PERSONAL_ACTIONS = (
    "add",
    "change",
    "rename",
    "move",
    "cancel",
    "retime_series",
    "move_occurrence",
    "rename_occurrence",
    "cancel_occurrence",
    "trim_and_follow",
    "end_series",
    "answer",
    "touch",
)


class CalendarControl(ControlRoutes):
    """The control surface of a twin that has calendars."""

    _twin: CalendarTwin[Any, Any, Any]
    calendar_named_by: ClassVar[str]
    calendar_options: ClassVar[tuple[str, ...]] = ("time_zone", "calendar_id")
    own_actions: ClassVar[tuple[str, ...]]

    def __init__(self, twin: CalendarTwin[Any, Any, Any]) -> None:
        super().__init__(twin)
        self._actions: dict[str, Action] = {
            "share": self._share,
            "hand_over": self._hand_over,
        }
        for name in (*PERSONAL_ACTIONS, *self.own_actions):
            self._actions[name] = partial(_do, name)

    def routes(self) -> list[Route]:
        account, calendar = "/_twin/accounts/{email}", "/_twin/calendars/{calendar_id}"
        return [
            *super().routes(),
            self._route("POST", "/_twin/accounts", self._add_account),
            self._route("POST", f"{account}/grants", self._sign_in),
            self._route("POST", f"{account}/revoke", self._revoke),
            self._route("POST", f"{account}/calendars", self._add_calendar),
            self._route("GET", f"{calendar}/events", self._events),
            self._route("POST", f"{calendar}/import", self._import),
            self._route("POST", f"{calendar}/actions", self._act),
        ]

    @abstractmethod
    def _described(self, calendar: Any) -> dict[str, Any]:
        """Return what the twin's state says of a calendar."""

    def _shown(self, event: Any) -> Any:
        """Return an event as an action answers it."""
        return event.body

    def _body(self, request: Request, raw: bytes) -> dict[str, Any]:
        # A file to be imported comes as it is.
        if raw and "json" in request.headers.get("content-type", "json"):
            return msgspec.json.decode(raw, type=dict[str, Any])
        return {"raw": raw}

    def _state(self, _: Request, __: dict[str, Any]) -> Any:
        store = self._twin.store
        return {
            "now": self._twin.clock.now(),
            "accounts": sorted(store.accounts),
            "calendars": [self._described(one) for one in store.calendars.values()],
        }

    def _add_account(self, _: Request, body: dict[str, Any]) -> Any:
        known = {k: body[k] for k in ("name", "time_zone") if k in body}
        account = self._twin.account(body["email"], **known)
        return {"email": account.email, "calendars": [c.id for c in account.calendars]}

    def _sign_in(self, request: Request, body: dict[str, Any]) -> Any:
        known = {k: body[k] for k in ("client_id", "scopes") if k in body}
        grant = self._account(request).sign_in(**known)
        return {
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "expires_at": grant.expires_at,
            "scope": " ".join(grant.scopes),
        }

    def _revoke(self, request: Request, body: dict[str, Any]) -> Any:
        self._account(request).revoke(body.get("client_id"))
        return {}

    def _add_calendar(self, request: Request, body: dict[str, Any]) -> Any:
        known = {k: body[k] for k in self.calendar_options if k in body}
        name = body[self.calendar_named_by]
        return {"id": self._account(request).add_calendar(name, **known).id}

    def _events(self, request: Request, _: dict[str, Any]) -> Any:
        calendar = self._calendar(request)
        bounds = request.query_params
        start, end = (datetime.fromisoformat(bounds[k]) for k in ("start", "end"))
        return [event.body for event in calendar.events(start, end)]

    def _import(self, request: Request, body: dict[str, Any]) -> Any:
        into_present = request.query_params.get("into_present") in {"1", "true"}
        events = self._calendar(request).import_ics(
            body["raw"], into_present=into_present
        )
        return {"ids": [event.id for event in events]}

    def _act(self, request: Request, body: dict[str, Any]) -> Any:
        """Do what a person does; answers the event it left."""
        action = self._actions[str(body.pop("action"))]
        event = action(self._calendar(request), body)
        if event is None:
            return {}
        calendar_id = event.calendar.id
        return {"id": event.id, "calendar_id": calendar_id, "event": self._shown(event)}

    def _account(self, request: Request) -> Any:
        return self._twin.account(request.path_params["email"])

    def _calendar(self, request: Request) -> Any:
        return self._twin.calendar(request.path_params["calendar_id"])

    def _share(self, calendar: Any, body: dict[str, Any]) -> None:
        account = self._twin.account(body["account"])
        if body.get("role") == "none":
            calendar.unshare(account)
        else:
            calendar.share(account, **{k: body[k] for k in ("role",) if k in body})

    def _hand_over(self, calendar: Any, body: dict[str, Any]) -> Any:
        target = self._twin.calendar(body["to"])
        return calendar.hand_over(calendar.event(body["event"]), target)


def _do(name: str, calendar: Any, body: dict[str, Any]) -> Any:
    return getattr(calendar, name)(**_arguments(calendar, body))


def _arguments(calendar: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Turn JSON into the arguments of a calendar's methods."""
    arguments = dict(body)
    for key in ("event", "series"):
        if key in arguments:
            arguments[key] = calendar.event(arguments[key])
    for key in ("start", "end", "to", "original", "first", "before"):
        if isinstance(arguments.get(key), str):
            arguments[key] = _read_time(arguments[key], calendar.time_zone)
    return arguments


def _read_time(text: str, time_zone: str) -> When | time:
    """Read a date, a time of day, or a datetime; without an offset it is local."""
    if len(text) <= len("12:00:00") and ":" in text:
        return time.fromisoformat(text)
    if "T" not in text:
        return date.fromisoformat(text)
    read = datetime.fromisoformat(text)
    zone = known_zone(time_zone)
    return read.astimezone(zone) if read.tzinfo else read.replace(tzinfo=zone)
