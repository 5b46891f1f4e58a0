"""`/_twin`: what tests and demos in other processes do to a twin, over HTTP.

What is the same at every twin that posts bookings; each adds its people's actions.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.calls import CallLog
from local_stack.twins.fault_routes import json_answer
from local_stack.twins.movable_clock import MovableClock
from local_stack.twins.outbox import Outbox
from local_stack.twins.posts import Poster
from local_stack.twins.rest import Refusal

Handler: TypeAlias = Callable[[Request, dict[str, Any]], Any]


class ControlRoutes:
    """The control surface of one twin."""

    def __init__(
        self,
        *,
        clock: MovableClock,
        behaviour: msgspec.Struct,
        outbox: Outbox,
        poster: Poster,
        calls: CallLog,
    ) -> None:
        self._clock = clock
        self._behaviour = behaviour
        self._outbox = outbox
        self._poster = poster
        self._calls = calls

    def routes(self) -> list[Route]:
        """Return what every such twin has."""
        return [
            self.route("GET", "/_twin/behaviour", lambda *_: self._behaviour),
            self.route("PATCH", "/_twin/behaviour", self._change_behaviour),
            self.route("POST", "/_twin/clock", self._move_clock),
            self.route("GET", "/_twin/pushes", self._pushes),
            self.route("GET", "/_twin/calls", self._called),
        ]

    def route(self, method: str, path: str, handler: Handler) -> Route:
        """Return a route that answers what its handler returns, as JSON."""
        return Route(path, self._guarded(handler), methods=[method])

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self._outbox.use_running_loop()
            raw = await request.body()
            try:
                body = msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
                return json_answer(handler(request, body))
            except Refusal as refusal:
                return json_answer(refusal.answer.body, status=refusal.answer.status)
            except KeyError as problem:
                return json_answer(
                    {"error": f"unknown or missing: {problem}"}, status=404
                )
            except (TypeError, ValueError, msgspec.MsgspecError) as problem:
                return json_answer({"error": str(problem)}, status=400)

        return endpoint

    def _change_behaviour(self, _: Request, body: dict[str, Any]) -> Any:
        current = msgspec.to_builtins(self._behaviour)
        wanted = msgspec.convert(current | body, type(self._behaviour))
        for name in body:
            setattr(self._behaviour, name, getattr(wanted, name))
        return self._behaviour

    def _move_clock(self, _: Request, body: dict[str, Any]) -> Any:
        if "to" in body:
            self._clock.set(datetime.fromisoformat(body["to"]))
        else:
            self._clock.advance(timedelta(seconds=body["advance_s"]))
        return {"now": self._clock.now()}

    def _pushes(self, request: Request, _: dict[str, Any]) -> Any:
        return _after(list(self._poster.log), request)

    def _called(self, request: Request, _: dict[str, Any]) -> Any:
        return _after(list(self._calls.records), request)


def _after(records: list[Any], request: Request) -> dict[str, Any]:
    """Return a log from a position on, and the position to ask from next."""
    since = int(request.query_params.get("after", 0))
    return {"records": records[since:], "next": len(records)}
