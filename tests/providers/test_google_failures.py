"""What the twin cannot be made to say; the rest is in test_google_client.py."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from providers import errors
from providers.google.client import GoogleClient
from providers.google.oauth import refresh
from providers.model import Tokens
from runtime.clock import ManualClock

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
CALENDAR = "mira@example.org"
Answer = Callable[[httpx2.Request], httpx2.Response]


async def access_token() -> str:
    return "ya29.secret"


async def call(answer: Answer, what: str = "list_changes") -> Any:
    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport) as http:
        client = GoogleClient(
            http, "https://twin.test/v3", access_token, clock=ManualClock(NOW)
        )
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "list_changes": lambda: client.list_changes(CALENDAR, cursor="c"),
            "instances": lambda: client.instances(
                CALENDAR, "series", start=NOW, end=NOW + timedelta(1)
            ),
            "get": lambda: client.get(CALENDAR, "event"),
            "watch": lambda: client.watch(
                CALENDAR,
                channel_id=UUID(int=1),
                token="v1.secret",
                address="https://a.test",
            ),
            "stop": lambda: client.stop(UUID(int=1), "resource"),
            "calendars": client.calendars,
        }
        return await calls[what]()


def refusing(status: int, reason: str, **headers: str) -> Answer:
    message = f"No access to {CALENDAR}"
    error = {
        "errors": [{"domain": "calendar", "reason": reason, "message": message}],
        "code": status,
        "message": message,
    }
    return lambda _: httpx2.Response(status, json={"error": error}, headers=headers)


async def failure(answer: Answer, what: str = "list_changes") -> errors.ProviderError:
    with pytest.raises(errors.ProviderError) as refused:
        await call(answer, what)
    return refused.value


@pytest.mark.parametrize(
    ("what", "status", "reason", "kind"),
    [
        ("list_changes", 400, "invalid", errors.Rejected),
        ("list_changes", 401, "authError", errors.AccessExpired),
        ("list_changes", 403, "rateLimitExceeded", errors.RateLimited),
        ("list_changes", 403, "userRateLimitExceeded", errors.RateLimited),
        ("list_changes", 403, "quotaExceeded", errors.RateLimited),
        ("list_changes", 403, "dailyLimitExceeded", errors.RateLimited),
        ("list_changes", 403, "insufficientPermissions", errors.AccessLost),
        ("list_changes", 403, "forbidden", errors.Rejected),
        ("list_changes", 404, "notFound", errors.Gone),
        ("list_changes", 410, "fullSyncRequired", errors.CursorExpired),
        ("list_changes", 410, "", errors.CursorExpired),
        ("instances", 410, "deleted", errors.Gone),
        ("get", 404, "notFound", errors.Gone),
        ("get", 410, "deleted", errors.Gone),
        ("get", 412, "conditionNotMet", errors.PreconditionFailed),
        ("get", 409, "duplicate", errors.Rejected),
        ("get", 429, "rateLimitExceeded", errors.RateLimited),
        ("get", 408, "", errors.Unavailable),
        ("get", 500, "backendError", errors.Unavailable),
        ("get", 503, "backendError", errors.Unavailable),
        ("watch", 400, "channelIdNotUnique", errors.Rejected),
        ("watch", 400, "push.webhookUrlNotHttps", errors.Rejected),
        ("watch", 401, "push.webhookUrlUnauthorized", errors.Rejected),
        (
            "watch",
            400,
            "pushNotSupportedForRequestedResource",
            errors.Unwatchable,
        ),
    ],
)
async def test_a_refusal_is_sorted_by_what_to_do(
    what: str, status: int, reason: str, kind: type[errors.ProviderError]
) -> None:
    refused = await failure(refusing(status, reason), what)
    assert type(refused) is kind
    assert (refused.status, refused.reason) == (status, reason)


@pytest.mark.parametrize("status", [404, 410])
async def test_a_channel_that_is_gone_is_stopped(status: int) -> None:
    assert await call(refusing(status, "notFound"), "stop") is None


async def test_a_message_says_what_happened_and_names_nobody() -> None:
    refused = await failure(
        refusing(410, "fullSyncRequired", **{"x-goog-request-id": "8c1f"})
    )
    assert str(refused) == "google events.list: 410 fullSyncRequired (request 8c1f)"


async def test_a_reason_that_is_a_sentence_is_not_repeated() -> None:
    refused = await failure(refusing(400, f"no {CALENDAR}", **{"x-request-id": "a@b"}))
    assert str(refused) == "google events.list: 400"


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("17", 17),
        ("Sat, 21 Nov 2026 07:31:00 GMT", 60),
        ("Sat, 21 Nov 2026 07:29:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("", None),
    ],
)
async def test_retry_after_is_read_in_seconds_or_as_a_date(
    header: str, wait_s: float | None
) -> None:
    for status in (403, 429, 503):
        answer = refusing(status, "rateLimitExceeded", **{"retry-after": header})
        refused = await failure(answer)
        assert isinstance(refused, errors.Transient)
        assert refused.retry_after_s == wait_s


@pytest.mark.parametrize(
    "problem",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("cut"),
        httpx2.PoolTimeout("busy"),
    ],
)
async def test_no_answer_is_unavailable(problem: httpx2.RequestError) -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise problem

    refused = await failure(answer)
    assert isinstance(refused, errors.Unavailable)
    assert str(refused) == f"google events.list: {type(problem).__name__}"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b'{"items":7}', b'{"items":[', b"[" * 100_000],
)
@pytest.mark.parametrize("what", ["list_changes", "watch", "calendars"])
async def test_an_answer_that_makes_no_sense_is_unavailable(
    what: str, content: bytes
) -> None:
    refused = await failure(lambda _: httpx2.Response(200, content=content), what)
    assert isinstance(refused, errors.Unavailable)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"error":[]}', b"\xff"])
async def test_a_refusal_without_an_envelope_is_sorted_by_its_status(
    content: bytes,
) -> None:
    refused = await failure(lambda _: httpx2.Response(502, content=content))
    assert isinstance(refused, errors.Unavailable)


@pytest.mark.parametrize("expiration", ["1795851000000", 1795851000000])
async def test_a_channels_end_may_be_a_text_or_a_number(
    expiration: str | int,
) -> None:
    granted = {"resourceId": "r", "expiration": expiration}
    channel = await call(lambda _: httpx2.Response(200, json=granted), "watch")
    assert channel.expires_at == datetime(2026, 11, 28, 7, 30, tzinfo=UTC)


async def test_a_calendars_address_is_escaped_in_the_path() -> None:
    seen: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.raw_path)
        return httpx2.Response(200, json={})

    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport) as http:
        client = GoogleClient(http, "https://twin.test/v3/", access_token)
        await client.list_changes("en.x#holiday@group/..", cursor="a+b=")
    path, _, query = seen[0].partition(b"?")
    assert path == b"/v3/calendars/en.x%23holiday%40group%2F../events"
    assert b"syncToken=a%2Bb%3D" in query
    assert b"singleEvents=false" in query


async def refreshed(answer: Answer) -> Tokens:
    transport = httpx2.MockTransport(answer)
    async with httpx2.AsyncClient(transport=transport) as http:
        return await refresh(
            http,
            auth_url="https://oauth.test/",
            client_id="client",
            client_secret="hunter2",
            refresh_token="1//secret",
        )


async def test_a_refresh_sends_a_form_and_keeps_what_came() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert str(request.url) == "https://oauth.test/token"
        assert request.content == (
            b"grant_type=refresh_token&client_id=client&client_secret=hunter2"
            b"&refresh_token=1%2F%2Fsecret"
        )
        granted = {"access_token": "ya29.new", "expires_in": 3599, "scope": "a b"}
        return httpx2.Response(200, json=granted)

    tokens = await refreshed(answer)
    assert tokens == Tokens("ya29.new", None, 3599, "a b")
    assert "ya29" not in repr(tokens)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "invalid_grant", errors.AccessLost),
        (401, "invalid_grant", errors.AccessLost),
        (400, "admin_policy_enforced", errors.AccessLost),
        (401, "invalid_client", errors.Rejected),
        (401, "unauthorized_client", errors.Rejected),
        (400, "invalid_request", errors.Rejected),
        (404, "", errors.Rejected),
        (400, "temporarily_unavailable", errors.Unavailable),
        (500, "server_error", errors.Unavailable),
        (503, "", errors.Unavailable),
        (429, "rate_limited", errors.RateLimited),
    ],
)
async def test_only_a_lost_grant_asks_the_user_to_reconnect(
    status: int, error: str, kind: type[errors.ProviderError]
) -> None:
    answer = {"error": error, "error_description": f"Revoked by {CALENDAR}."}
    with pytest.raises(kind) as refused:
        await refreshed(lambda _: httpx2.Response(status, json=answer))
    assert CALENDAR not in str(refused.value)


async def test_a_time_out_is_never_a_revoked_grant() -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("slow")

    with pytest.raises(errors.Unavailable):
        await refreshed(answer)


async def test_a_refresh_that_makes_no_sense_is_unavailable() -> None:
    with pytest.raises(errors.Unavailable):
        await refreshed(lambda _: httpx2.Response(200, json={"expires_in": 1}))
