"""`/_twin`: what hosts and guests do, over HTTP."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calcom.people import Booked, Host
from local_stack.twins.control_routes import ControlRoutes

if TYPE_CHECKING:
    from local_stack.twins.calcom.twin import CalcomTwin

BOOKING_ACTIONS = (
    "pay",
    "approve",
    "decline",
    "reschedule",
    "cancel",
    "cancel_series",
    "ask_to_move",
    "did_not_come",
    "came_after_all",
    "take_place",
    "change",
)


class HostRoutes:
    """The control surface of this twin."""

    def __init__(self, twin: "CalcomTwin", control: ControlRoutes) -> None:
        self._twin = twin
        self._control = control

    def routes(self) -> list[Route]:
        one = "/_twin/hosts/{email}"
        add = self._control.route
        return [
            *self._control.routes(),
            add("GET", "/_twin/state", self._state),
            add("POST", "/_twin/hosts", self._add_host),
            add("POST", f"{one}/keys", self._add_key),
            add("POST", f"{one}/revoke", self._revoke),
            add("POST", f"{one}/event_types", self._add_event_type),
            add("POST", f"{one}/webhooks", self._add_webhook),
            add("POST", f"{one}/webhooks/{{id}}/ping", self._ping),
            add("POST", f"{one}/bookings", self._book),
            add("GET", f"{one}/bookings", self._bookings),
            add("POST", "/_twin/bookings/{uid}/actions", self._act),
        ]

    def _state(self, _: Request, __: dict[str, Any]) -> Any:
        known = self._twin.store.known
        return {
            "now": self._twin.clock.now(),
            "hosts": sorted(known.users),
            "webhooks": len(known.webhooks),
            "bookings": len(known.bookings),
        }

    def _add_host(self, _: Request, body: dict[str, Any]) -> Any:
        return {"email": self._twin.host(body.pop("email"), **body).email}

    def _add_key(self, request: Request, _: dict[str, Any]) -> Any:
        return {"api_key": self._host(request).api_key()}

    def _revoke(self, request: Request, _: dict[str, Any]) -> Any:
        self._host(request).revoke()
        return {}

    def _add_event_type(self, request: Request, body: dict[str, Any]) -> Any:
        return {"id": self._host(request).event_type(body.pop("title"), **body).id}

    def _add_webhook(self, request: Request, body: dict[str, Any]) -> Any:
        host = self._host(request)
        secret = body.pop("secret", None)
        return {"id": host.add_webhook(body.pop("url"), secret=secret, **body).id}

    def _ping(self, request: Request, _: dict[str, Any]) -> Any:
        webhook = self._twin.store.known.webhooks[request.path_params["id"]]
        self._host(request).ping(webhook)
        return {}

    def _book(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._twin.store.known.types[body.pop("event_type")]
        start = datetime.fromisoformat(body.pop("start"))
        return _shown(self._host(request).book(kind, start, **body))

    def _bookings(self, request: Request, _: dict[str, Any]) -> Any:
        return [_shown(booked) for booked in self._host(request).bookings]

    def _act(self, request: Request, body: dict[str, Any]) -> Any:
        """Do one of the actions above; answers the booking it left."""
        action = str(body.pop("action"))
        seat_id = body.pop("seat_id", None)
        booked = Booked(self._twin, request.path_params["uid"], seat_id)
        if action not in BOOKING_ACTIONS or not booked.row.uid:
            raise KeyError(action)
        if "start" in body:
            body["start"] = datetime.fromisoformat(body["start"])
        done = getattr(booked, action)(**body)
        return _shown(done if isinstance(done, Booked) else booked)

    def _host(self, request: Request) -> Host:
        email = request.path_params["email"]
        return Host(self._twin, self._twin.store.known.users[email].email)


def _shown(booked: Booked) -> Mapping[str, Any]:
    row = booked.row
    return {
        "uid": row.uid,
        "seat_id": booked.seat_id,
        "status": row.status,
        "start": row.starts_at,
        "from_uid": row.from_uid,
        "attendees": [one.email for one in row.attendees],
    }
