"""What the twin cannot be made to say; the rest is in test_microsoft_client.py."""

from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest

from providers import errors
from providers.microsoft import oauth
from providers.microsoft.client import MicrosoftClient
from providers.microsoft.failures import DELTA, SUBSCRIBE, failure
from providers.microsoft.links import tail

LOST = "resyncRequired"
NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)


def sorted_as(
    status: int,
    code: object,
    operation: str = "events.get",
    headers: dict[str, str] | None = None,
) -> errors.ProviderError:
    body = {"error": {"code": code, "message": "about mira@example.org"}}
    response = httpx2.Response(status, json=body, headers=headers or {})
    return failure(response, operation, now=NOW)


@pytest.mark.parametrize(
    ("status", "code", "operation", "kind"),
    [
        (400, "ErrorInvalidRequest", "events.get", errors.Rejected),
        (400, "InvalidDeltaToken", DELTA, errors.CursorExpired),
        (400, "syncStateInvalid", DELTA, errors.CursorExpired),
        (410, "resyncRequired", DELTA, errors.CursorExpired),
        (410, "somethingNew", DELTA, errors.CursorExpired),
        (410, "ErrorItemNotFound", "events.get", errors.Gone),
        (401, "InvalidAuthenticationToken", DELTA, errors.AccessExpired),
        (403, "insufficient_claims", DELTA, errors.AccessLost),
        (403, "Authorization_RequestDenied", "events.update", errors.AccessLost),
        (403, "ErrorAccessDenied", DELTA, errors.Gone),
        (403, "ErrorAccessDenied", "events.update", errors.Rejected),
        (403, "ErrorAccessDenied", SUBSCRIBE, errors.Unwatchable),
        (404, "ErrorItemNotFound", "events.get", errors.Gone),
        (404, "ResourceNotFound", SUBSCRIBE, errors.Unwatchable),
        (404, "MailboxNotEnabledForRESTAPI", DELTA, errors.AccessLost),
        (409, "ErrorIrresolvableConflict", "events.update", errors.PreconditionFailed),
        (412, "ErrorIrresolvableConflict", "events.update", errors.PreconditionFailed),
        (412, "ErrorIrresolvableConflict", "events.get", errors.Unavailable),
        (409, "Conflict", SUBSCRIBE, errors.Rejected),
        (423, "ErrorItemLocked", "events.update", errors.Unavailable),
        (429, "activityLimitReached", DELTA, errors.RateLimited),
        (503, "serviceNotAvailable", DELTA, errors.Unavailable),
        (504, "UnknownError", DELTA, errors.Unavailable),
    ],
)
def test_a_refusal_is_sorted_by_what_to_do_about_it(
    status: int, code: str, operation: str, kind: type[errors.ProviderError]
) -> None:
    error = sorted_as(status, code, operation)
    assert type(error) is kind
    assert error.reason == code
    assert "mira" not in str(error)


def test_a_claims_challenge_is_met_by_signing_in_again() -> None:
    challenge = {"www-authenticate": 'Bearer error="insufficient_claims", claims="eyJ"'}
    error = sorted_as(401, "InvalidAuthenticationToken", DELTA, challenge)
    assert type(error) is errors.AccessLost


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("12", 12.0),
        ("Sat, 21 Nov 2026 07:31:00 GMT", 60.0),
        ("Sat, 21 Nov 2026 07:00:00 GMT", 0.0),
        ("soon", None),
        (None, None),
    ],
)
def test_a_pause_is_read_in_seconds_or_as_a_date(
    asked: str | None, seconds: float | None
) -> None:
    error = sorted_as(
        429, "TooManyRequests", DELTA, {"retry-after": asked} if asked else {}
    )
    assert isinstance(error, errors.RateLimited)
    assert error.retry_after_s == seconds


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (b"<html>busy</html>", ""),
        (b"[]", ""),
        (b'{"error":"invalid_grant"}', "invalid_grant"),
        (b'{"error":{"code":"a b c@example.org"}}', ""),
        (b'{"error":{"code":"X","innererror":{"code":"ErrorQuota"}}}', "ErrorQuota"),
        (
            b'{"error":{"code":"resyncRequired","innerError":{"code":"X"}}}',
            "resyncRequired",
        ),
    ],
)
def test_envelopes_vary_and_none_breaks_us(content: bytes, reason: str) -> None:
    error = failure(httpx2.Response(400, content=content), DELTA, now=NOW)
    assert error.reason == reason


def test_a_link_to_another_api_is_refused() -> None:
    assert tail(None, DELTA) is None
    with pytest.raises(errors.Rejected):
        tail("https://graph.microsoft.com/beta/me", DELTA)


async def ask(answer: httpx2.Response, call: str = "list_changes") -> Any:
    transport = httpx2.MockTransport(lambda _: answer)

    async def token() -> str:
        return "secret"

    async with httpx2.AsyncClient(transport=transport) as http:
        client = MicrosoftClient(http, "https://graph.test/v1.0", token)
        calls: dict[str, Any] = {
            "list_changes": lambda: client.list_changes("c", cursor=None),
            "get": lambda: client.get("c", "e"),
            "calendars": client.calendars,
            "immutable_ids": lambda: client.immutable_ids(["a"]),
            "renew": lambda: client.renew(None, "s"),  # type: ignore[arg-type]
        }
        return await calls[call]()


@pytest.mark.parametrize(
    "call", ["list_changes", "get", "calendars", "immutable_ids", "renew"]
)
@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"\xff", b"[" * 50_000])
async def test_an_answer_that_makes_no_sense_was_not_graphs(
    call: str, content: bytes
) -> None:
    with pytest.raises(errors.Unavailable):
        await ask(httpx2.Response(200, content=content), call)


async def test_one_odd_item_breaks_no_page() -> None:
    odd = [{"id": 7}, {"subject": "no id"}, 5, {"id": "a", "type": "singleInstance"}]
    answer = httpx2.Response(200, json={"value": odd})
    page = await ask(answer)
    assert sorted(item.provider_event_id for item in page.items) == ["", "", "", "a"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "invalid_grant", "error_codes": [700082]}, errors.AccessLost),
        (400, {"error": "interaction_required"}, errors.AccessLost),
        (400, {"error": "consent_required", "error_codes": [65001]}, errors.AccessLost),
        (400, {"error": "invalid_grant", "error_codes": [7000222]}, errors.Rejected),
        (401, {"error": "invalid_client", "error_codes": [7000215]}, errors.Rejected),
        (400, {"error": "unauthorized_client"}, errors.Rejected),
        (400, {"error": "temporarily_unavailable"}, errors.Unavailable),
        (429, {"error": "slow_down"}, errors.RateLimited),
        (502, "busy", errors.Unavailable),
        (400, {"error": "invalid_grant", "error_codes": "odd"}, errors.AccessLost),
    ],
)
async def test_only_what_the_user_can_mend_loses_access(
    status: int, body: Any, kind: type[errors.ProviderError]
) -> None:
    content = msgspec.json.encode(body)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=content))
    async with httpx2.AsyncClient(transport=transport) as http:
        with pytest.raises(errors.ProviderError) as refused:
            await oauth.refresh(
                http,
                auth_url="https://login.test/",
                tenant="common",
                client_id="c",
                client_secret="s",
                refresh_token="r",
            )
    assert type(refused.value) is kind
