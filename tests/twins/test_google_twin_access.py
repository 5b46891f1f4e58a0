"""Who may call: tokens, scopes, consent, revocation, quotas."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from local_stack.twins.google import Account, Calendar, GoogleTwin
from local_stack.twins.switchboard import Fault, FaultKind
from runtime.clock import ManualClock
from tests.twins.google_calls import EVENTS, Calls, berlin, refusal, timed

SCOPE = "https://www.googleapis.com/auth/"
BACK = "https://app.test/back"


@pytest.fixture
async def browser(google: GoogleTwin) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(google)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://google.test"
    ) as client:
        yield client


def refresh(token: str) -> dict[str, str]:
    return {
        "grant_type": "refresh_token",
        "refresh_token": token,
        "client_id": "supacal",
        "client_secret": "secret",
    }


async def test_an_access_token_ends_after_an_hour_and_is_refreshed(
    browser: httpx2.AsyncClient, calls: Calls, ada: Account, clock: ManualClock
) -> None:
    grant = ada.sign_in()
    clock.advance(timedelta(hours=1))
    assert refusal(await calls.http.get(EVENTS)) == (401, "authError", "global")

    answer = (await browser.post("/token", data=refresh(grant.refresh_token))).json()

    assert sorted(answer) == ["access_token", "expires_in", "scope", "token_type"]
    assert (answer["expires_in"], answer["token_type"]) == (3599, "Bearer")
    calls.http.headers["Authorization"] = f"Bearer {answer['access_token']}"
    assert (await calls.http.get(EVENTS)).status_code == 200


@pytest.mark.parametrize("token", ["", "ya29.erfunden"])
async def test_no_token_and_a_made_up_one_are_refused(calls: Calls, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}

    answer = await calls.http.get(EVENTS, headers=headers)

    assert refusal(answer) == (401, "authError", "global")
    error = answer.json()["error"]["errors"][0]
    assert (error["locationType"], error["location"]) == ("header", "Authorization")


async def test_revoking_ends_every_grant_of_the_account(
    browser: httpx2.AsyncClient, calls: Calls, ada: Account, google: GoogleTwin
) -> None:
    first, second = ada.sign_in(), ada.sign_in()
    ben = google.account("ben@example.org").sign_in()

    revoked = await browser.post("/revoke", data={"token": first.refresh_token})

    assert revoked.status_code == 200
    assert (await calls.http.get(EVENTS)).status_code == 401
    dead = await browser.post("/token", data=refresh(second.refresh_token))
    assert (dead.status_code, dead.json()) == (
        400,
        {
            "error": "invalid_grant",
            "error_description": "Token has been expired or revoked.",
        },
    )
    alive = await browser.post("/token", data=refresh(ben.refresh_token))
    assert alive.status_code == 200


async def test_the_oldest_of_101_refresh_tokens_dies_without_a_word(
    browser: httpx2.AsyncClient, ada: Account
) -> None:
    grants = [ada.sign_in() for _ in range(101)]

    oldest = await browser.post("/token", data=refresh(grants[0].refresh_token))
    second = await browser.post("/token", data=refresh(grants[1].refresh_token))

    assert oldest.json()["error"] == "invalid_grant"
    assert second.status_code == 200


async def test_a_registered_client_must_know_its_secret(
    browser: httpx2.AsyncClient, google: GoogleTwin, ada: Account
) -> None:
    google.oauth.clients = {"supacal": "another"}

    answer = await browser.post("/token", data=refresh(ada.sign_in().refresh_token))

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_a_code_is_exchanged_once_with_its_verifier(
    browser: httpx2.AsyncClient, ada: Account
) -> None:
    verifier = "v" * 43
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "client_id": "supacal",
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": f"{SCOPE}calendar.events openid",
        "state": "s1",
        "login_hint": ada.email,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    consented = await browser.get("/o/oauth2/v2/auth", params=asked)
    back = parse_qs(urlsplit(consented.headers["location"]).query)
    assert (consented.status_code, back["state"]) == (302, ["s1"])
    form = {
        "grant_type": "authorization_code",
        "code": back["code"][0],
        "redirect_uri": BACK,
        "client_id": "supacal",
        "code_verifier": verifier,
    }

    first = await browser.post("/token", data=form)
    again = await browser.post("/token", data=form)

    assert first.json()["scope"] == asked["scope"]
    assert first.json()["refresh_token"]
    assert again.json()["error"] == "invalid_grant"
    who = {"Authorization": f"Bearer {first.json()['access_token']}"}
    info = (await browser.get("/v1/userinfo", headers=who)).json()
    assert (info["email"], info["email_verified"]) == (ada.email, True)


async def test_a_scope_that_was_not_given_is_missed(
    google: GoogleTwin, ada: Account
) -> None:
    reader = ada.sign_in(scopes=[f"{SCOPE}calendar.events.readonly"])

    async with Calls(google, reader.access_token) as readers:
        assert (await readers.http.get(EVENTS)).status_code == 200
        for answer in (
            await readers.http.post(EVENTS, json=timed(24, 9)),
            await readers.http.get("/users/me/calendarList"),
        ):
            assert refusal(answer)[:2] == (403, "insufficientPermissions")


async def test_over_quota_the_answers_alternate_and_the_minute_slides(
    google: GoogleTwin, calls: Calls, clock: ManualClock
) -> None:
    google.behaviour.user_requests_per_minute = 2
    google.behaviour.quota_retry_after_s = 7

    answers = [await calls.http.get(EVENTS) for _ in range(4)]

    assert [a.status_code for a in answers] == [200, 200, 403, 429]
    assert refusal(answers[2])[1:] == ("userRateLimitExceeded", "usageLimits")
    assert refusal(answers[3])[1:] == ("rateLimitExceeded", "usageLimits")
    assert answers[3].headers["retry-after"] == "7"
    clock.advance(timedelta(seconds=60))
    assert (await calls.http.get(EVENTS)).status_code == 200


async def test_a_patch_costs_three_units(google: GoogleTwin, calls: Calls) -> None:
    made = await calls.insert()
    google.behaviour.requests_per_minute = 3

    patched = await calls.http.patch(f"{EVENTS}/{made['id']}", json={"summary": "x"})
    listed = await calls.http.get(EVENTS)

    assert (patched.status_code, listed.status_code) == (200, 403)


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (410, None, "fullSyncRequired"),
        (412, None, "conditionNotMet"),
        (429, None, "rateLimitExceeded"),
        (403, None, "userRateLimitExceeded"),
        (403, "quotaExceeded", "quotaExceeded"),
        (500, None, "backendError"),
        (503, None, "backendError"),
    ],
)
async def test_the_switchboard_answers_in_googles_words_and_does_nothing(
    google: GoogleTwin, calls: Calls, status: int, reason: str | None, said: str
) -> None:
    google.switchboard.answer("events.insert", status, reason=reason, retry_after_s=3)

    refused = await calls.http.post(EVENTS, json=timed(24, 9))

    assert refusal(refused)[:2] == (status, said)
    assert await calls.items() == []
    assert (await calls.http.post(EVENTS, json=timed(24, 9))).status_code == 200


async def test_a_fault_strikes_its_operation_and_subject_until_it_is_cleared(
    google: GoogleTwin, calls: Calls, ada: Account
) -> None:
    team = ada.add_calendar("Team")
    fault = google.switchboard.answer("events.*", 503, times=None, subject=team.id)
    url = f"/calendars/{team.id}/events"

    assert (await calls.http.get(EVENTS)).status_code == 200
    assert [(await calls.http.get(url)).status_code for _ in range(3)] == [503] * 3
    google.switchboard.clear(fault.id)
    assert (await calls.http.get(url)).status_code == 200


async def test_a_cut_connection_may_have_written_or_not(
    google: GoogleTwin, calls: Calls, calendar: Calendar
) -> None:
    for after, expected in ((False, []), (True, ["da"])):
        google.switchboard.cut("events.insert", after=after)
        with pytest.raises(httpx2.RemoteProtocolError):
            await calls.http.post(EVENTS, json={"summary": "da", **timed(24, 9)})
        assert [item["summary"] for item in await calls.items()] == expected


@pytest.mark.parametrize("operation", ["token", "events.list"])
async def test_a_grant_can_be_revoked_in_the_middle_of_a_call(
    google: GoogleTwin,
    browser: httpx2.AsyncClient,
    calls: Calls,
    ada: Account,
    operation: str,
) -> None:
    grant = ada.sign_in()
    google.switchboard.add(Fault(kind=FaultKind.REVOKE, operation=operation))

    listed = await calls.http.get(EVENTS)
    refreshed = await browser.post("/token", data=refresh(grant.refresh_token))

    assert listed.status_code == (200 if operation == "token" else 401)
    assert refreshed.json()["error"] == "invalid_grant"
    assert (await calls.http.get(EVENTS)).status_code == 401


async def test_the_token_endpoint_fails_in_its_own_words(
    google: GoogleTwin, browser: httpx2.AsyncClient, ada: Account
) -> None:
    google.switchboard.answer("token", 503)

    answer = await browser.post("/token", data=refresh(ada.sign_in().refresh_token))

    assert (answer.status_code, answer.json()["error"]) == (503, "internal_failure")


async def test_the_calendar_list_has_its_own_sync_token(
    google: GoogleTwin, calls: Calls, ada: Account
) -> None:
    team = ada.add_calendar("Team")
    listing = "/users/me/calendarList"
    token = (await calls.page(listing))["nextSyncToken"]

    ada.unsubscribe(team)
    new = ada.add_calendar("Neu")

    delta: dict[str, Any] = {
        entry["id"]: entry.get("deleted", False)
        for entry in await calls.items(listing, syncToken=token)
    }
    assert delta == {team.id: True, new.id: False}
    ids = [entry["id"] for entry in await calls.items(listing, maxResults=1)]
    assert ids == [ada.email, new.id]


async def test_calls_are_logged_with_what_they_took(
    google: GoogleTwin, calls: Calls, calendar: Calendar
) -> None:
    calendar.add("da", berlin(24, 9))
    await calls.items()
    await calls.http.get(f"{EVENTS}/fehlt")

    log = [(r.operation, r.status) for r in google.calls.records]

    assert log == [("events.list", 200), ("events.get", 404)]
    assert google.calls.count("events.list") == 1
