"""`/_twin`: what hosts and guests do, over HTTP."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calcom.people import Booked, Host
from local_stack.twins.host_control import HostControl

if TYPE_CHECKING:
    from local_stack.twins.calcom.twin import CalcomTwin


class CalcomControl(HostControl):
    """The control surface of this twin."""

    _twin: "CalcomTwin"
    type_named_by = "title"
    booking_actions = (
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

    def routes(self) -> list[Route]:
        one = "/_twin/hosts/{email}"
        return [
            *super().routes(),
            self._route("POST", f"{one}/keys", self._add_key),
            self._route("POST", f"{one}/webhooks", self._add_webhook),
            self._route("POST", f"{one}/webhooks/{{id}}/ping", self._ping),
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

    def _add_webhook(self, request: Request, body: dict[str, Any]) -> Any:
        host = self._host(request)
        secret = body.pop("secret", None)
        return {"id": host.add_webhook(body.pop("url"), secret=secret, **body).id}

    def _ping(self, request: Request, _: dict[str, Any]) -> Any:
        webhook = self._twin.store.known.webhooks[request.path_params["id"]]
        self._host(request).ping(webhook)
        return {}

    def _host_named(self, email: str) -> Host:
        return Host(self._twin, email)

    def _booking(self, booking_id: str, body: dict[str, Any]) -> Booked:
        row = self._twin.store.known.bookings[booking_id]
        return Booked(self._twin, row.uid, body.pop("seat_id", None))

    def _shown(self, booking: Booked) -> Mapping[str, Any]:
        row = booking.row
        return {
            "uid": row.uid,
            "seat_id": booking.seat_id,
            "status": row.status,
            "start": row.starts_at,
            "from_uid": row.from_uid,
            "attendees": [one.email for one in row.attendees],
        }
