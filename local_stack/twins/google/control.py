"""`/_twin`: what tests and demos in other processes do to the twin, over HTTP."""

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from local_stack.twins.calendar_control import CalendarControl
from local_stack.twins.google.errors import ApiError
from local_stack.twins.google.state import CalendarState

if TYPE_CHECKING:
    from local_stack.twins.google.twin import GoogleTwin


class GoogleControl(CalendarControl):
    """The control surface of this twin."""

    _twin: "GoogleTwin"
    refusal = ApiError
    calendar_named_by = "summary"
    calendar_options = ("time_zone", "calendar_id", "generated")
    own_actions = ("inject", "expire_sync_tokens")

    def _refused(self, refusal: ApiError) -> Response:
        return Response(refusal.body(), refusal.status)

    def _described(self, calendar: CalendarState) -> dict[str, Any]:
        return {
            "id": calendar.id,
            "owner": calendar.owner,
            "summary": calendar.summary,
            "time_zone": calendar.time_zone,
            "records": len(calendar.events),
            "channels": [c.id for c in self._twin.channels.of(calendar)],
        }
