"""How clients reach a provider: with a token, and a twin without a network."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2

from local_stack.twins.app import TwinApp

C = TypeVar("C")


@asynccontextmanager
async def calls_to(twin: TwinApp[Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """Have a twin answer in this process, whatever the host of a URL is."""
    async with twin, httpx2.AsyncClient(transport=httpx2.ASGITransport(twin)) as http:
        yield http


def clients(
    kind: Callable[[httpx2.AsyncClient, str, Callable[[], Awaitable[str]]], C],
    http: httpx2.AsyncClient,
    url: str,
) -> Callable[[str], C]:
    """Return what makes a client of a token, which is never refreshed."""

    def client_with(token: str) -> C:
        async def access_token() -> str:
            return token

        return kind(http, url, access_token)

    return client_with
