"""`/_twin`: what tests and demos in other processes do to a twin, over HTTP.

What is the same at every twin; each adds what its people do.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.app import TwinApp
from local_stack.twins.fault_routes import fault_routes, json_answer

Handler: TypeAlias = Callable[[Request, dict[str, Any]], Any]


class ControlRoutes(ABC):
    """The control surface of one twin."""

    refusal: ClassVar[type[Exception]]
    """How this twin says no."""

    def __init__(self, twin: TwinApp[Any]) -> None:
        self._twin = twin

    def routes(self) -> list[Route]:
        """Return what every twin has."""
        return [
            *fault_routes(self._twin.switchboard),
            self._route("GET", "/_twin/state", self._state),
            self._route("GET", "/_twin/behaviour", lambda *_: self._twin.behaviour),
            self._route("PATCH", "/_twin/behaviour", self._change_behaviour),
            self._route("POST", "/_twin/clock", self._move_clock),
            self._route("GET", "/_twin/pushes", self._pushes),
            self._route("GET", "/_twin/calls", self._calls),
        ]

    @abstractmethod
    def _state(self, request: Request, body: dict[str, Any]) -> Any:
        """Return what the twin knows, in short."""

    @abstractmethod
    def _refused(self, refusal: Any) -> Response:
        """Pass on that the twin said no."""

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        """Return a route that answers what its handler returns, as JSON."""
        return Route(path, self._guarded(handler), methods=[method])

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            self._twin.outbox.use_running_loop()
            raw = await request.body()
            try:
                return json_answer(handler(request, self._body(request, raw)))
            except self.refusal as refusal:
                return self._refused(refusal)
            except KeyError as problem:
                return json_answer(
                    {"error": f"unknown or missing: {problem}"}, status=404
                )
            except (TypeError, ValueError, msgspec.MsgspecError) as problem:
                return json_answer({"error": str(problem)}, status=400)

        return endpoint

    def _body(self, _: Request, raw: bytes) -> dict[str, Any]:
        return msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}

    def _change_behaviour(self, _: Request, body: dict[str, Any]) -> Any:
        behaviour = self._twin.behaviour
        current = msgspec.to_builtins(behaviour)
        wanted = msgspec.convert(current | body, type(behaviour))
        for name in body:
            setattr(behaviour, name, getattr(wanted, name))
        return behaviour

    def _move_clock(self, _: Request, body: dict[str, Any]) -> Any:
        clock = self._twin.clock
        if "to" in body:
            clock.set(datetime.fromisoformat(body["to"]))
        else:
            clock.advance(timedelta(seconds=body["advance_s"]))
        return {"now": clock.now()}

    def _pushes(self, request: Request, _: dict[str, Any]) -> Any:
        return _after(list(self._twin.pushes.log), request)

    def _calls(self, request: Request, _: dict[str, Any]) -> Any:
        return _after(list(self._twin.calls.records), request)


def _after(records: list[Any], request: Request) -> dict[str, Any]:
    """Return a log from a position on, and the position to ask from next."""
    since = int(request.query_params.get("after", 0))
    return {"records": records[since:], "next": len(records)}
