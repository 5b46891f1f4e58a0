"""What the receiver tells operators, and anybody who asks."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.routing import Route
from structlog.testing import capture_logs

from providers.model import Notification, Provider
from tests.webhook_api.channels import KEYS, PATH, Channel, make_settings
from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.app import PATHS, TEST_PATHS, Receiver, create_app
from webhook_api.deliveries import Delivery
from webhook_api.journal import LINES_A_FLUSH

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"
GETS = [
    *((path, one.value) for one, paths in PATHS.items() for path in paths),
    *((path, one.value) for one, path in TEST_PATHS.items()),
]


@pytest.mark.parametrize(("path", "provider"), GETS)
async def test_the_endpoint_says_that_it_is_reached_and_what_is_missing(
    client: httpx2.AsyncClient, path: str, provider: str
) -> None:
    response = await client.get(path)
    assert response.status_code == 200
    told = response.json()
    assert (told["status"], told["provider"]) == ("reachable", provider)
    assert told["configured"] is False
    assert "SUPACAL_PUBLIC_URL" in told["missing"]
    assert KEYS not in response.text
    head = await client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (
        200,
        str(len(response.content)),
    )


async def test_the_endpoint_says_its_public_url_and_no_secret() -> None:
    settings = make_settings(
        "postgresql://localhost/x",
        supacal_public_url="https://sync.example.org",
        google_client_id="client.apps.example",
        google_client_secret="never to be seen",
    )
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        response = await http.get("/api/calendar/webhook/test")
    assert response.json() == {
        "status": "reachable",
        "provider": "google",
        "configured": True,
        "missing": [],
        "url": "https://sync.example.org/webhooks/google",
    }


async def test_metrics_are_what_prometheus_reads(
    client: httpx2.AsyncClient, channel: Channel
) -> None:
    await client.post(PATH, headers=channel.headers())
    await client.post(PATH)
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = re.compile(
        r'(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"\\]*",?)+\})? -?[0-9.e+-]+)'
    )
    lines = response.text.splitlines()
    assert [one for one in lines if not line.fullmatch(one)] == []
    for expected in (
        'supacal_deliveries_total{provider="google",outcome="accepted"} 1',
        'supacal_refused_total{provider="google",reason="no token"} 1',
        "supacal_flush_rows_count 1",
        'supacal_flush_rows_bucket{le="1"} 1',
        'supacal_flush_seconds_bucket{le="+Inf"} 1',
        "supacal_deliveries_waiting 0",
        "supacal_database_connected 1",
    ):
        assert expected in lines


async def test_each_delivery_has_a_line_in_the_log_without_its_secret(
    client: httpx2.AsyncClient, channel: Channel
) -> None:
    with capture_logs() as logs:
        await client.post(PATH, headers=channel.headers())
    (line,) = logs
    assert line.pop("duration_ms") > 0
    assert line == {
        "event": "delivery.received",
        "log_level": "info",
        "provider": "google",
        "channel_id": str(channel.id),
        "kind": "change",
        "outcome": "accepted",
    }


async def test_a_large_flush_has_one_line_with_its_counts(
    app: Receiver, channel: Channel
) -> None:
    one = Delivery(
        Notification(Provider.GOOGLE, "change", channel.id, None, {}, None),
        datetime.now(UTC),
    )
    many = [one] * (LINES_A_FLUSH + 1)
    with capture_logs() as logs:
        await asyncio.gather(*(app.batcher.submit(one) for one in many))
    (line,) = logs
    assert (line["event"], line["count"]) == ("deliveries.received", len(many))


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, item in document["paths"].items():
        name = item.get("$ref", path).removeprefix("#/paths/").replace("~1", "/")
        yield from ((path, method.upper()) for method in document["paths"][name])


async def test_the_openapi_document_has_every_route_and_no_other(
    app: Receiver, client: httpx2.AsyncClient
) -> None:
    document = (await client.get("/openapi.json")).json()
    routes = [route for route in app.routes if isinstance(route, Route)]
    served = {
        (route.path, method)
        for route in routes
        for method in (route.methods or {"GET", "POST"}) - {"HEAD"}
    }
    assert set(operations_of(document)) == served


def codes() -> dict[str, int]:
    """Every code that an answer can have, with its status."""
    made = [
        *(one for one in vars(answers).values() if isinstance(one, Answer)),
        answers.method_not_allowed("GET"),
        answers.rate_limited(1),
    ]
    bodies = [(json.loads(bytes(one.body)), one.status_code) for one in made]
    return {body["error"]["code"]: status for body, status in bodies if "error" in body}


async def test_the_openapi_document_and_the_page_have_every_code(
    client: httpx2.AsyncClient,
) -> None:
    document = (await client.get("/openapi.json")).json()
    error = document["components"]["schemas"]["Error"]["properties"]["error"]
    assert set(error["properties"]["code"]["enum"]) == set(codes())
    rows = re.findall(r"\| (\d{3}) \| `(\w+)` \|", DOCUMENT.read_text())
    assert {code: int(status) for status, code in rows} == codes()


async def test_the_page_has_every_route(app: Receiver) -> None:
    page = DOCUMENT.read_text()
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    assert [path for path in paths if f"`{path}`" not in page] == []
