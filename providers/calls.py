"""One connection's calls: a token on each, a limit to each, every failure sorted.

Nothing is retried here: that is the queue's business, once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

import httpx2
import msgspec

from providers.errors import ProviderError, Unavailable
from providers.model import Provider

SILENCE_TIMEOUT_S: Final = 10
CALL_TIMEOUT_S: Final = 30
NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

Failure: TypeAlias = Callable[[httpx2.Response, str], ProviderError]
T = TypeVar("T")


class BearerCalls:
    """Calls of an API that takes and answers JSON."""

    def __init__(
        self,
        provider: Provider,
        http: httpx2.AsyncClient,
        base_url: str,
        access_token: Callable[[], Awaitable[str]],
        *,
        failure: Failure,
    ) -> None:
        self._provider = provider
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._access_token = access_token
        self._failure = failure

    async def __call__(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> bytes:
        """Make one request; what is not a 2xx is raised, sorted."""
        token = await self._access_token()
        # Calendly's front is said to block the default name of Python's clients.
        told = {"User-Agent": "supacal", "Authorization": f"Bearer {token}", **headers}
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                response = await self._http.request(
                    method,
                    self._base_url + path,
                    params=params,
                    json=json,
                    headers=told,
                    timeout=SILENCE_TIMEOUT_S,
                )
        except (httpx2.RequestError, TimeoutError) as problem:
            reason = type(problem).__name__
            raise Unavailable(self._provider, operation, reason=reason) from problem
        if not response.is_success:
            raise self._failure(response, operation)
        return response.content

    def read(self, operation: str, content: bytes, reader: Callable[[bytes], T]) -> T:
        """Read an answer; one that makes no sense was made by something in between."""
        try:
            return reader(content)
        except (msgspec.DecodeError, RecursionError):
            # Not chained: it would carry what it could not read.
            raise Unavailable(
                self._provider, operation, reason="unreadableAnswer"
            ) from None


def given(**parameters: str | None) -> dict[str, str]:
    """Return those parameters that there are."""
    return {name: value for name, value in parameters.items() if value is not None}


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Read a Retry-After header, in seconds or as a date."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
