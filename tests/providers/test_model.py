from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from providers.clients import CLIENTS
from providers.errors import Gone, ProviderError, RateLimited, Transient
from providers.google.adopted import NONE
from providers.model import Provider, StoredTokens, Tokens
from providers.receivers import calendar_receivers

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
STORED = StoredTokens("access", "refresh", NOW, "calendar")


def test_stored_tokens_come_back_as_they_were_sealed() -> None:
    assert StoredTokens.from_json(STORED.to_json()) == STORED


def test_stored_tokens_are_read_by_what_the_sealed_text_is_promised_to_hold() -> None:
    text = (
        b'{"access_token":"access","refresh_token":"refresh",'
        b'"expires_at":"2026-11-21T08:30:00+01:00","scope":"calendar"}'
    )
    assert StoredTokens.from_json(text) == STORED


def test_a_refresh_without_a_refresh_token_keeps_the_old_one() -> None:
    renewed = STORED.renewed(Tokens("new", None, 3599, None), now=NOW)
    expires_at = NOW + timedelta(seconds=3599)
    assert renewed == StoredTokens("new", "refresh", expires_at, "calendar")


def test_a_refresh_with_a_refresh_token_replaces_the_old_one() -> None:
    renewed = STORED.renewed(Tokens("new", "newer", 3599, "less"), now=NOW)
    assert (renewed.refresh_token, renewed.scope) == ("newer", "less")


@pytest.mark.parametrize("tokens", [STORED, Tokens("access", "refresh", 1, None)])
def test_tokens_are_not_shown(tokens: Tokens | StoredTokens) -> None:
    assert "access" not in repr(tokens)
    assert "refresh" not in repr(tokens)


def test_an_error_says_who_what_and_why() -> None:
    gone = Gone(Provider.GOOGLE, "events.get", status=404, reason="notFound")
    assert str(gone) == "google events.get: 404 notFound"
    assert str(ProviderError(Provider.CALCOM, "x")) == "calcom x: failed"


def test_what_passes_by_itself_can_say_when() -> None:
    limited = RateLimited(Provider.GOOGLE, "events.list", retry_after_s=17)
    assert isinstance(limited, Transient)
    assert limited.retry_after_s == 17


async def test_an_adapter_is_found_by_its_provider() -> None:
    async def token() -> str:
        return ""

    assert Provider.GOOGLE in calendar_receivers(adopted=NONE)
    async with httpx2.AsyncClient() as http:
        client = CLIENTS[Provider.GOOGLE](http, "https://a.test", token)
    assert client.parameters == "maxResults=2500&singleEvents=false"
