"""The switchboard over HTTP: `/_twin/faults`, the same at every twin."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_stack.twins.switchboard import Fault, Switchboard


def fault_routes(switchboard: Switchboard) -> list[Route]:
    """List, set and clear faults of a twin from another process."""

    async def list_faults(_: Request) -> Response:
        return json_answer(switchboard.faults)

    async def add_fault(request: Request) -> Response:
        try:
            fault = msgspec.json.decode(await request.body(), type=Fault)
        except msgspec.MsgspecError as problem:
            return json_answer({"error": f"this is no fault: {problem}"}, status=400)
        return json_answer(switchboard.add(fault), status=201)

    async def clear_faults(request: Request) -> Response:
        fault_id = request.path_params.get("fault_id")
        switchboard.clear(None if fault_id is None else int(fault_id))
        return Response(status_code=204)

    return [
        Route("/_twin/faults", list_faults, methods=["GET"]),
        Route("/_twin/faults", add_fault, methods=["POST"]),
        Route("/_twin/faults", clear_faults, methods=["DELETE"]),
        Route("/_twin/faults/{fault_id:int}", clear_faults, methods=["DELETE"]),
    ]


def json_answer(value: object, *, status: int = 200) -> Response:
    """Answer anything msgspec can encode."""
    return Response(
        msgspec.json.encode(value), status_code=status, media_type="application/json"
    )
