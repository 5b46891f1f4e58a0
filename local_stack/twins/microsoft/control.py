"""`/_twin`: what tests and demos in other processes do to the twin, over HTTP."""

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.calendar_control import CalendarControl
from local_stack.twins.fault_routes import json_answer
from local_stack.twins.microsoft.errors import ApiError
from local_stack.twins.microsoft.personal_events import Event
from local_stack.twins.microsoft.state import CalendarState

if TYPE_CHECKING:
    from local_stack.twins.microsoft.twin import MicrosoftTwin


class MicrosoftControl(CalendarControl):
    """The control surface of this twin."""

    _twin: "MicrosoftTwin"
    refusal = ApiError
    calendar_named_by = "name"
    own_actions = ("expire_delta_tokens",)

    def routes(self) -> list[Route]:
        subscriptions = "/_twin/subscriptions"
        return [
            *super().routes(),
            self._route("GET", subscriptions, self._subscriptions),
            self._route("POST", f"{subscriptions}/{{id}}/lifecycle", self._lifecycle),
            self._route("POST", "/_twin/hosts/{host}/judge", self._judge),
        ]

    def _refused(self, refusal: ApiError) -> Response:
        return json_answer({"error": str(refusal)}, status=refusal.status)

    def _described(self, calendar: CalendarState) -> dict[str, Any]:
        hearing = self._twin.subscriptions.hearing(calendar)
        return {
            "id": calendar.id,
            "owner": calendar.owner,
            "name": calendar.name,
            "time_zone": calendar.time_zone,
            "records": len(calendar.records),
            "subscriptions": [one.id for one in hearing],
        }

    def _shown(self, event: Event) -> Any:
        return None if event.cancelled else event.body

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
