"""Who gets in: sign-in, rotating tokens, scopes, throttling, faults."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from local_stack.twins.connection_cut import ConnectionCut
from local_stack.twins.microsoft import Account, Calendar, MicrosoftTwin
from local_stack.twins.switchboard import Fault, FaultKind
from runtime.clock import ManualClock
from tests.twins.graph_calls import DELTA, NOVEMBER, Graph, berlin, ids, refusal

TOKEN = "http://graph.test/common/oauth2/v2.0/token"


async def refreshed(graph: Graph, refresh_token: str, **more: str) -> httpx2.Response:
    form = {
        "grant_type": "refresh_token",
        "client_id": "supacal",
        "refresh_token": refresh_token,
        **more,
    }
    return await graph.http.post(TOKEN, data=form)


async def test_a_refresh_brings_a_new_refresh_token_and_the_old_one_still_works(
    graph: Graph, mira: Account
) -> None:
    first = mira.sign_in().refresh_token
    answer = (await refreshed(graph, first)).json()
    assert answer["refresh_token"] != first
    assert answer["expires_in"] == 3_900
    again = await refreshed(graph, first)
    assert again.status_code == 200
    graph.http.headers["Authorization"] = f"Bearer {answer['access_token']}"
    assert (await graph.page("/me"))["mail"] == "mira@example.org"


@pytest.mark.parametrize(
    ("days", "number"), [(91, 700082), (0, 50173)], ids=["inactive", "revoked"]
)
async def test_a_dead_refresh_token_is_invalid_grant_with_a_number(
    graph: Graph, mira: Account, clock: ManualClock, days: int, number: int
) -> None:
    token = mira.sign_in().refresh_token
    clock.advance(timedelta(days=days))
    if not days:
        mira.revoke()
    answer = await refreshed(graph, token)
    body = answer.json()
    assert (answer.status_code, body["error"]) == (400, "invalid_grant")
    assert body["error_codes"] == [number]
    assert body["error_description"].startswith(f"AADSTS{number}: ")


async def test_without_offline_access_there_is_no_refresh_token(
    graph: Graph, mira: Account
) -> None:
    grant = mira.sign_in(scopes=["Calendars.ReadWrite"])
    assert grant.refresh_token == ""


async def test_a_wrong_secret_is_the_clients_fault(
    graph: Graph, outlook: MicrosoftTwin, mira: Account
) -> None:
    token = mira.sign_in().refresh_token
    outlook.oauth.clients["supacal"] = "right"
    wrong = await refreshed(graph, token, client_secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.json()["error_codes"] == [7000215]
    right = await refreshed(graph, token, client_secret="right")
    assert right.status_code == 200


async def test_consent_brings_a_code_that_works_once(graph: Graph) -> None:
    asked = {
        "client_id": "supacal",
        "redirect_uri": "https://app.test/back",
        "state": "s1",
        "login_hint": "mira@example.org",
        "scope": "offline_access Calendars.ReadWrite",
    }
    url = "http://graph.test/common/oauth2/v2.0/authorize"
    sent_back = await graph.http.get(url, params=asked)
    query = parse_qs(urlsplit(sent_back.headers["location"]).query)
    assert query["state"] == ["s1"]
    form = {
        "grant_type": "authorization_code",
        "client_id": "supacal",
        "redirect_uri": "https://app.test/back",
        "code": query["code"][0],
    }
    answer = await graph.http.post(TOKEN, data=form)
    assert answer.json()["scope"] == "Calendars.ReadWrite"
    again = await graph.http.post(TOKEN, data=form)
    assert again.json()["error_codes"] == [54005]


async def test_an_access_token_ends_after_an_hour_or_so(
    graph: Graph, clock: ManualClock
) -> None:
    clock.advance(timedelta(minutes=66))
    answer = await graph.http.get("/me")
    assert refusal(answer) == (401, "InvalidAuthenticationToken")


async def test_revoking_ends_every_token_of_the_account_whoever_holds_it(
    graph: Graph, mira: Account
) -> None:
    other = mira.sign_in(client_id="another app")
    mira.revoke()
    assert refusal(await graph.http.get("/me"))[0] == 401
    assert (await refreshed(graph, other.refresh_token)).status_code == 400


async def test_a_scope_that_was_left_out_is_403(
    outlook: MicrosoftTwin, mira: Account
) -> None:
    grant = mira.sign_in(scopes=["Calendars.Read"])
    async with Graph(outlook, grant.access_token) as reader:
        assert await reader.all("/me/events") == []
        answer = await reader.http.post("/me/events", json={})
        assert refusal(answer) == (403, "ErrorAccessDenied")


async def test_other_mailboxes_are_closed(
    graph: Graph, outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    outlook.account("ben@example.org")
    own = await graph.all("/users/mira@example.org/events")
    assert own == []
    answer = await graph.http.get("/users/ben@example.org/events")
    assert refusal(answer) == (403, "ErrorAccessDenied")


async def test_a_calendar_shared_for_reading_cannot_be_written(
    graph: Graph, outlook: MicrosoftTwin, mira: Account
) -> None:
    ben = outlook.account("ben@example.org").primary
    path = f"/me/calendars/{ben.id}/events"
    assert refusal(await graph.http.get(path))[0] == 404
    ben.share(mira)
    event = ben.add("Seminar", berlin(24, 9))
    assert ids(await graph.all(path)) == [event.id]
    # Without the calendar's id only the own mailbox is searched.
    assert refusal(await graph.http.get(f"/me/events/{event.id}"))[0] == 404
    answer = await graph.http.patch(f"{path}/{event.id}", json={"subject": "x"})
    assert refusal(answer) == (403, "ErrorAccessDenied")
    entries = await graph.all("/me/calendars")
    facts = [(one["canEdit"], one["isDefaultCalendar"]) for one in entries]
    assert facts == [(True, True), (False, False)]
    ben.unshare(mira)
    assert refusal(await graph.http.get(path))[0] == 404


async def test_four_calls_at_a_time_and_no_more(
    graph: Graph, outlook: MicrosoftTwin
) -> None:
    outlook.behaviour.mailbox_concurrency = 4
    outlook.behaviour.throttle_retry_after_s = 12
    outlook.switchboard.slow("me.get", 0.1, times=None)
    answers = await asyncio.gather(*(graph.http.get("/me") for _ in range(5)))
    refused = [one for one in answers if one.status_code != 200]
    assert [refusal(one) for one in refused] == [(429, "ApplicationThrottled")]
    assert refused[0].headers["retry-after"] == "12"
    assert "MailboxConcurrency" in refused[0].text


async def test_so_many_calls_in_ten_minutes_and_no_more(
    graph: Graph, outlook: MicrosoftTwin, clock: ManualClock
) -> None:
    outlook.behaviour.requests_per_ten_minutes = 2
    outlook.behaviour.throttle_retry_after_s = None
    assert [(await graph.http.get("/me")).status_code for _ in range(2)] == [200, 200]
    answer = await graph.http.get("/me")
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    clock.advance(timedelta(minutes=10))
    assert (await graph.http.get("/me")).status_code == 200


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "ErrorAccessDenied"),
        (404, "ErrorItemNotFound"),
        (410, "SyncStateNotFound"),
        (429, "TooManyRequests"),
        (503, "serviceNotAvailable"),
        (504, "UnknownError"),
    ],
)
async def test_faults_speak_as_graph_does(
    graph: Graph, outlook: MicrosoftTwin, status: int, code: str
) -> None:
    outlook.switchboard.answer("events.delta", status, retry_after_s=7)
    answer = await graph.http.get(DELTA, params=NOVEMBER)
    assert refusal(answer) == (status, code)
    assert (await graph.http.get(DELTA, params=NOVEMBER)).status_code == 200


@pytest.mark.parametrize("after", [True, False])
async def test_a_cut_connection_hides_what_became_of_a_call(
    graph: Graph, outlook: MicrosoftTwin, after: bool
) -> None:
    outlook.switchboard.cut("events.create", after=after)
    with pytest.raises(ConnectionCut):
        await graph.create(transactionId="acme-1")
    assert len(await graph.all("/me/events")) == (1 if after else 0)
    await graph.create(transactionId="acme-1")
    assert len(await graph.all("/me/events")) == 1


async def test_a_grant_may_be_revoked_in_the_middle(
    graph: Graph, outlook: MicrosoftTwin, mira: Account
) -> None:
    token = mira.sign_in().refresh_token
    outlook.switchboard.add(Fault(kind=FaultKind.REVOKE, operation="token"))
    answer = await refreshed(graph, token)
    body: dict[str, Any] = answer.json()
    assert body["error_codes"] == [50173]
    assert refusal(await graph.http.get("/me"))[0] == 401


async def test_answers_carry_the_ids_that_support_asks_for(graph: Graph) -> None:
    answer = await graph.http.get("/me", headers={"client-request-id": "mine"})
    assert answer.headers["client-request-id"] == "mine"
    assert answer.headers["request-id"]
