"""The front door: one address for REST, Auth and Realtime, as SUPABASE_URL is one.

Requests go on to @supabase/lite or to the gateway. On the way the project's JWT keys
become the `sb_` keys that lite takes, and its timestamps become those of PostgREST.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer")
)
# Set anew, because the body may change its length and is no longer compressed.
REWRITTEN = frozenset(("content-length", "content-encoding", "host"))
TIMESTAMP = re.compile(
    rb'"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)(:\d\d)?"'
)
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Keys:
    """What clients send, and what lite wants instead."""

    anon: str
    service_role: str
    publishable: str
    secret: str

    def translate(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Swap a project key for lite's; a user's own token stays as it is."""
        swap = {self.anon: self.publishable, self.service_role: self.secret}
        kept = {
            name: value
            for name, value in headers.items()
            if name not in HOP_BY_HOP | REWRITTEN
        }
        key = kept.get("apikey")
        if key is not None:
            kept["apikey"] = swap.get(key, key)
        bearer = kept.get("authorization", "").removeprefix("Bearer ")
        if bearer in swap:
            # lite reads a bearer as a user's session: the key alone says the role.
            del kept["authorization"]
            kept["apikey"] = swap[bearer]
        return kept


def make_door(*, lite_url: str, gateway_url: str, keys: Keys) -> Starlette:
    """Return the app that stands where a project's API gateway would."""
    client = httpx2.AsyncClient(timeout=TIMEOUT_S)

    async def rest(request: Request) -> Response:
        headers = keys.translate(request.headers)
        answer = await _pass_on(client, lite_url, request, headers)
        return _answer(answer, TIMESTAMP.sub(_rfc3339, answer.content))

    async def realtime(request: Request) -> Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in HOP_BY_HOP | REWRITTEN
        }
        answer = await _pass_on(client, gateway_url, request, headers)
        return _answer(answer, answer.content)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    return Starlette(
        routes=[
            Route("/rest/v1/{path:path}", rest, methods=METHODS),
            Route("/auth/v1/{path:path}", rest, methods=METHODS),
            Route("/realtime/v1/{path:path}", realtime, methods=METHODS),
            Route("/health", health),
        ],
        lifespan=lifespan,
    )


async def _pass_on(
    client: httpx2.AsyncClient,
    base_url: str,
    request: Request,
    headers: Mapping[str, str],
) -> httpx2.Response:
    query = f"?{request.url.query}" if request.url.query else ""
    path = request.scope["raw_path"].decode("ascii").partition("?")[0]
    try:
        return await client.request(
            request.method,
            f"{base_url}{path}{query}",
            headers=dict(headers),
            content=await request.body(),
        )
    except httpx2.TransportError as error:
        message = (
            f"the service behind this door does not answer: {type(error).__name__}"
        )
        return httpx2.Response(502, json={"message": message})


def _answer(answer: httpx2.Response, content: bytes) -> Response:
    response = Response(content, answer.status_code)
    response.raw_headers = [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.decode("ascii").lower() not in HOP_BY_HOP | REWRITTEN
    ] + [(b"content-length", str(len(content)).encode())]
    return response


def _rfc3339(stamp: re.Match[bytes]) -> bytes:
    day, time, hours, minutes = stamp.groups()
    return b'"%sT%s%s%s"' % (day, time, hours, minutes or b":00")
