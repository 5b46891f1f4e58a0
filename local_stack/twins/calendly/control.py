"""`/_twin`: what hosts and invitees do, over HTTP."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calendly.bodies import invitee_body
from local_stack.twins.calendly.people import Booking, Host
from local_stack.twins.control_routes import ControlRoutes

if TYPE_CHECKING:
    from local_stack.twins.calendly.twin import CalendlyTwin

BOOKING_ACTIONS = ("reschedule", "cancel", "did_not_come", "came_after_all")


class HostRoutes:
    """The control surface of this twin."""

    def __init__(self, twin: "CalendlyTwin", control: ControlRoutes) -> None:
        self._twin = twin
        self._control = control

    def routes(self) -> list[Route]:
        one = "/_twin/hosts/{email}"
        add = self._control.route
        return [
            *self._control.routes(),
            add("GET", "/_twin/state", self._state),
            add("POST", "/_twin/hosts", self._add_host),
            add("POST", f"{one}/grants", self._sign_in),
            add("POST", f"{one}/revoke", self._revoke),
            add("POST", f"{one}/event_types", self._add_event_type),
            add("POST", f"{one}/bookings", self._book),
            add("GET", f"{one}/bookings", self._bookings),
            add("POST", "/_twin/bookings/{id}/actions", self._act),
        ]

    def _state(self, _: Request, __: dict[str, Any]) -> Any:
        known = self._twin.store.known
        return {
            "now": self._twin.clock.now(),
            "hosts": sorted(known.users),
            "subscriptions": len(known.subscriptions),
            "invitees": len(known.invitees),
        }

    def _add_host(self, _: Request, body: dict[str, Any]) -> Any:
        host = self._twin.host(body.pop("email"), **body)
        return {"email": host.email, "uri": host.uri}

    def _sign_in(self, request: Request, body: dict[str, Any]) -> Any:
        host = self._host(request)
        if body.get("personal"):
            return {"access_token": host.personal_token()}
        access, refresh = host.sign_in(**body)
        return {"access_token": access, "refresh_token": refresh}

    def _revoke(self, request: Request, _: dict[str, Any]) -> Any:
        self._host(request).revoke()
        return {}

    def _add_event_type(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._host(request).event_type(body.pop("name"), **body)
        return {"id": kind.id}

    def _book(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._twin.store.known.types[body.pop("event_type")]
        start = datetime.fromisoformat(body.pop("start"))
        return _shown(self._host(request).book(kind, start, **body))

    def _bookings(self, request: Request, _: dict[str, Any]) -> Any:
        return [_shown(booking) for booking in self._host(request).bookings]

    def _act(self, request: Request, body: dict[str, Any]) -> Any:
        """Do one of the actions above; answers the booking it left."""
        action = str(body.pop("action"))
        booking = Booking(self._twin, request.path_params["id"])
        if action not in BOOKING_ACTIONS or not booking.uri:
            raise KeyError(action)
        if "start" in body:
            body["start"] = datetime.fromisoformat(body["start"])
        done = getattr(booking, action)(**body)
        return _shown(done if isinstance(done, Booking) else booking)

    def _host(self, request: Request) -> Host:
        email = request.path_params["email"]
        return Host(self._twin, self._twin.store.user(email).email)


def _shown(booking: Booking) -> Mapping[str, Any]:
    return {"id": booking.id, **invitee_body(booking.invitee)}
