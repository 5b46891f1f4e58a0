"""Routes for who runs the receiver: is it alive, is it ready, what does it count."""

from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.metrics import CONTENT_TYPE, Metrics
from webhook_api.store import Store

HEALTHY = Answer(200, {"status": "ok"})
READY = Answer(200, {"status": "ready"})
OPENAPI = Answer(
    200,
    msgspec.json.decode(Path(__file__).with_name("openapi.json").read_bytes()),
)


def operations(store: Store, metrics: Metrics) -> list[Route]:
    """Make the routes that are no business of providers."""

    async def ready(_: Request) -> Response:
        return READY if await store.can_store() else answers.DATABASE_UNAVAILABLE

    async def counters(_: Request) -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    return [
        get("/healthz", HEALTHY),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", counters, methods=["GET"]),
        get("/openapi.json", OPENAPI),
    ]


def get(path: str, answer: Answer) -> Route:
    """Route GET to something that is always the same."""
    return Route(path, answer, methods=["GET"])
