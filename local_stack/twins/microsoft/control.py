"""`/_twin`: what tests and demos in other processes do to the twin, over HTTP."""

from collections.abc import Awaitable, Callable
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.fault_routes import json_answer
from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.errors import ApiError
from local_stack.twins.microsoft.personal_calendars import Calendar
from local_stack.twins.microsoft.personal_events import Event
from local_stack.twins.microsoft.zones import zone_named
from local_stack.twins.moments import When

if TYPE_CHECKING:
    from local_stack.twins.microsoft.twin import MicrosoftTwin

Handler: TypeAlias = Callable[[Request, dict[str, Any]], Any]


class ControlRoutes:
    """The control surface of one twin."""

    def __init__(self, twin: "MicrosoftTwin") -> None:
        self._twin = twin

    def routes(self) -> list[Route]:
        one = "/_twin/calendars/{calendar_id}"
        return [
            self._route("GET", "/_twin/state", self._state),
            self._route("GET", "/_twin/behaviour", lambda *_: self._twin.behaviour),
            self._route("PATCH", "/_twin/behaviour", self._change_behaviour),
            self._route("POST", "/_twin/clock", self._move_clock),
            self._route("GET", "/_twin/pushes", self._pushes),
            self._route("GET", "/_twin/calls", self._calls),
            self._route("POST", "/_twin/accounts", self._add_account),
            self._route("POST", "/_twin/accounts/{email}/grants", self._sign_in),
            self._route("POST", "/_twin/accounts/{email}/revoke", self._revoke),
            self._route(
                "POST", "/_twin/accounts/{email}/calendars", self._add_calendar
            ),
            self._route("GET", f"{one}/events", self._events),
            self._route("POST", f"{one}/import", self._import),
            self._route("POST", f"{one}/actions", self._act),
            self._route("GET", "/_twin/subscriptions", self._subscriptions),
            self._route("POST", "/_twin/subscriptions/{id}/lifecycle", self._lifecycle),
            self._route("POST", "/_twin/hosts/{host}/judge", self._judge),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        return Route(path, self._guarded(handler), methods=[method])

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self._twin.pushes.use_running_loop()
            raw = await request.body()
            try:
                is_json = raw and "json" in request.headers.get("content-type", "json")
                body = msgspec.json.decode(raw) if is_json else {"raw": raw}
                return json_answer(handler(request, body))
            except ApiError as error:
                return json_answer({"error": str(error)}, status=error.status)
            except KeyError as problem:
                return json_answer(
                    {"error": f"unknown or missing: {problem}"}, status=404
                )
            except (TypeError, ValueError, msgspec.MsgspecError) as problem:
                return json_answer({"error": str(problem)}, status=400)

        return endpoint

    def _state(self, _: Request, __: dict[str, Any]) -> Any:
        twin = self._twin
        return {
            "now": twin.clock.now(),
            "accounts": sorted(twin.store.accounts),
            "calendars": [
                {
                    "id": calendar.id,
                    "owner": calendar.owner,
                    "name": calendar.name,
                    "time_zone": calendar.time_zone,
                    "records": len(calendar.records),
                    "subscriptions": [
                        one.id for one in twin.subscriptions.hearing(calendar)
                    ],
                }
                for calendar in twin.store.calendars.values()
            ],
        }

    def _change_behaviour(self, _: Request, body: dict[str, Any]) -> Any:
        current = msgspec.to_builtins(self._twin.behaviour)
        wanted = msgspec.convert(current | body, Behaviour)
        for name in body:
            setattr(self._twin.behaviour, name, getattr(wanted, name))
        return self._twin.behaviour

    def _move_clock(self, _: Request, body: dict[str, Any]) -> Any:
        if "to" in body:
            self._twin.clock.set(datetime.fromisoformat(body["to"]))
        else:
            self._twin.clock.advance(timedelta(seconds=body["advance_s"]))
        return {"now": self._twin.clock.now()}

    def _pushes(self, request: Request, _: dict[str, Any]) -> Any:
        return _after(list(self._twin.pushes.log), request)

    def _calls(self, request: Request, _: dict[str, Any]) -> Any:
        return _after(list(self._twin.calls.records), request)

    def _add_account(self, _: Request, body: dict[str, Any]) -> Any:
        account = self._twin.account(
            body["email"],
            name=body.get("name"),
            time_zone=body.get("time_zone", "Europe/Berlin"),
        )
        return {"email": account.email, "calendars": [c.id for c in account.calendars]}

    def _sign_in(self, request: Request, body: dict[str, Any]) -> Any:
        account = self._twin.account(request.path_params["email"])
        known = {k: body[k] for k in ("client_id", "scopes") if k in body}
        grant = account.sign_in(**known)
        return {
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "expires_at": grant.expires_at,
            "scope": " ".join(grant.scopes),
        }

    def _revoke(self, request: Request, body: dict[str, Any]) -> Any:
        account = self._twin.account(request.path_params["email"])
        account.revoke(body.get("client_id"))
        return {}

    def _add_calendar(self, request: Request, body: dict[str, Any]) -> Any:
        account = self._twin.account(request.path_params["email"])
        known = ("time_zone", "calendar_id")
        calendar = account.add_calendar(
            body["name"], **{k: body[k] for k in known if k in body}
        )
        return {"id": calendar.id}

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
        """Do one of the actions below; answers the event it left."""
        action = str(body.pop("action"))
        method = ACTIONS[action]
        calendar = self._calendar(request)
        done = method(self, calendar, body)
        if not isinstance(done, Event):
            return {}
        if done.cancelled:
            return {"id": done.id, "calendar_id": done.calendar.id, "event": None}
        return {"id": done.id, "calendar_id": done.calendar.id, "event": done.body}

    def _calendar(self, request: Request) -> Calendar:
        return self._twin.calendar(request.path_params["calendar_id"])

    def _subscriptions(self, _: Request, __: dict[str, Any]) -> Any:
        return [one.answer() for one in self._twin.subscriptions.live()]

    def _lifecycle(self, request: Request, body: dict[str, Any]) -> Any:
        """Say one of Graph's three lifecycle events to a subscriber."""
        say = {
            "reauthorizationRequired": self._twin.ask_to_reauthorize,
            "subscriptionRemoved": self._twin.remove_subscription,
            "missed": self._twin.say_missed,
        }[body["event"]]
        return {"told": say(request.path_params["id"])}

    def _judge(self, request: Request, body: dict[str, Any]) -> Any:
        self._twin.pushes.hosts.judge(request.path_params["host"], body["state"])
        return {}

    def _share(self, calendar: Calendar, body: dict[str, Any]) -> None:
        account = self._twin.account(body["account"])
        role = body.get("role", "read")
        if role == "none":
            calendar.unshare(account)
        else:
            calendar.share(account, role)

    def _hand_over(self, calendar: Calendar, body: dict[str, Any]) -> Event:
        target = self._twin.calendar(body["to"])
        return calendar.hand_over(calendar.event(body["event"]), target)


def _arguments(calendar: Calendar, body: dict[str, Any]) -> dict[str, Any]:
    """Turn JSON into the arguments of a calendar's methods."""
    arguments = dict(body)
    for key in ("event", "series"):
        if key in arguments:
            arguments[key] = calendar.event(arguments[key])
    for key in ("start", "end", "to", "original", "first", "before"):
        if isinstance(arguments.get(key), str):
            arguments[key] = _read_time(arguments[key], calendar)
    return arguments


def _read_time(text: str, calendar: Calendar) -> When | time:
    """Read a date, a time of day, or a datetime; without an offset it is local."""
    if len(text) <= len("12:00:00") and ":" in text:
        return time.fromisoformat(text)
    if "T" not in text:
        return date.fromisoformat(text)
    read = datetime.fromisoformat(text)
    zone = zone_named(calendar.time_zone)
    return read.astimezone(zone) if read.tzinfo else read.replace(tzinfo=zone)


def _does(name: str) -> Callable[[ControlRoutes, Calendar, dict[str, Any]], Any]:
    def act(_: ControlRoutes, calendar: Calendar, body: dict[str, Any]) -> Any:
        return getattr(calendar, name)(**_arguments(calendar, body))

    return act


ACTIONS: dict[str, Callable[[ControlRoutes, Calendar, dict[str, Any]], Any]] = {
    name: _does(name)
    for name in (
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
        "expire_delta_tokens",
    )
}
ACTIONS["share"] = ControlRoutes._share
ACTIONS["hand_over"] = ControlRoutes._hand_over


def _after(records: list[Any], request: Request) -> dict[str, Any]:
    """Return a log from a position on, and the position to ask from next."""
    since = int(request.query_params.get("after", 0))
    return {"records": records[since:], "next": len(records)}
