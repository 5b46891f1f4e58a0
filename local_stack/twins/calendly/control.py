"""`/_twin`: what hosts and invitees do, over HTTP."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from local_stack.twins.calendly.bodies import invitee_body
from local_stack.twins.calendly.people import Booking, Host
from local_stack.twins.host_control import HostControl

if TYPE_CHECKING:
    from local_stack.twins.calendly.twin import CalendlyTwin


class CalendlyControl(HostControl):
    """The control surface of this twin."""

    _twin: "CalendlyTwin"
    type_named_by = "name"
    booking_actions = ("reschedule", "cancel", "did_not_come", "came_after_all")

    def routes(self) -> list[Route]:
        grants = "/_twin/hosts/{email}/grants"
        return [*super().routes(), self._route("POST", grants, self._sign_in)]

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

    def _host_named(self, email: str) -> Host:
        return Host(self._twin, email)

    def _booking(self, booking_id: str, _: dict[str, Any]) -> Booking:
        invitee = self._twin.store.known.invitees[booking_id]
        return Booking(self._twin, invitee.id)

    def _shown(self, booking: Booking) -> Mapping[str, Any]:
        return {"id": booking.id, **invitee_body(booking.invitee)}
