"""`/_twin` of the twins of booking providers: what hosts do, and who books them."""

from abc import abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.booking_twin import BookingTwin
from local_stack.twins.control_routes import ControlRoutes
from local_stack.twins.fault_routes import json_answer
from local_stack.twins.rest import Refusal


class HostControl(ControlRoutes):
    """The control surface of a twin that can be booked."""

    _twin: BookingTwin[Any, Any]
    refusal = Refusal
    type_named_by: ClassVar[str]
    booking_actions: ClassVar[tuple[str, ...]]

    def routes(self) -> list[Route]:
        one = "/_twin/hosts/{email}"
        return [
            *super().routes(),
            self._route("POST", "/_twin/hosts", self._add_host),
            self._route("POST", f"{one}/revoke", self._revoke),
            self._route("POST", f"{one}/event_types", self._add_event_type),
            self._route("POST", f"{one}/bookings", self._book),
            self._route("GET", f"{one}/bookings", self._bookings),
            self._route("POST", "/_twin/bookings/{id}/actions", self._act),
        ]

    @abstractmethod
    def _add_host(self, request: Request, body: dict[str, Any]) -> Any: ...

    @abstractmethod
    def _host_named(self, email: str) -> Any: ...

    @abstractmethod
    def _booking(self, booking_id: str, body: dict[str, Any]) -> Any:
        """Return a booking; KeyError where there is none."""

    @abstractmethod
    def _shown(self, booking: Any) -> Mapping[str, Any]: ...

    def _host(self, request: Request) -> Any:
        email = request.path_params["email"]
        return self._host_named(self._twin.store.known.users[email].email)

    def _revoke(self, request: Request, _: dict[str, Any]) -> Any:
        self._host(request).revoke()
        return {}

    def _add_event_type(self, request: Request, body: dict[str, Any]) -> Any:
        name = body.pop(self.type_named_by)
        return {"id": self._host(request).event_type(name, **body).id}

    def _book(self, request: Request, body: dict[str, Any]) -> Any:
        kind = self._twin.store.known.types[body.pop("event_type")]
        start = datetime.fromisoformat(body.pop("start"))
        return self._shown(self._host(request).book(kind, start, **body))

    def _bookings(self, request: Request, _: dict[str, Any]) -> Any:
        return [self._shown(booking) for booking in self._host(request).bookings]

    def _act(self, request: Request, body: dict[str, Any]) -> Any:
        """Do something with a booking; answers the booking it left."""
        action = str(body.pop("action"))
        if action not in self.booking_actions:
            raise KeyError(action)
        booking = self._booking(request.path_params["id"], body)
        if "start" in body:
            body["start"] = datetime.fromisoformat(body["start"])
        done = getattr(booking, action)(**body)
        return self._shown(done if isinstance(done, type(booking)) else booking)

    def _refused(self, refusal: Refusal) -> Response:
        return json_answer(refusal.answer.body, status=refusal.answer.status)
