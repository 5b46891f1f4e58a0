"""The twin as a process of its own, steered over HTTP."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_stack.twins.google import GoogleTwin, serving
from tests.twins.google_calls import EVENTS, berlin

CHOIR = Path(__file__).parent.parent / "data" / "calendars" / "choir.ics"
ADA = "ada@example.org"


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A twin on a loopback port, with Ada signed in."""
    async with (
        serving(GoogleTwin()) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        await http.post("/_twin/accounts", json={"email": ADA, "name": "Ada"})
        grant = (await http.post(f"/_twin/accounts/{ADA}/grants")).json()
        http.headers["Authorization"] = f"Bearer {grant['access_token']}"
        yield http


async def act(http: httpx2.AsyncClient, action: str, **arguments: Any) -> Any:
    answer = await http.post(
        f"/_twin/calendars/{ADA}/actions", json={"action": action, **arguments}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def titles(http: httpx2.AsyncClient) -> list[str]:
    window = {"start": "2026-11-01T00:00:00+00:00", "end": "2026-12-01T00:00:00+00:00"}
    shown = await http.get(f"/_twin/calendars/{ADA}/events", params=window)
    return [event["summary"] for event in shown.json()]


async def test_a_person_acts_from_another_process(http: httpx2.AsyncClient) -> None:
    course = await act(
        http,
        "add",
        title="Kurs",
        start="2026-11-23T09:00",
        recurrence="FREQ=DAILY;COUNT=4",
    )
    lunch = await act(http, "add", title="Essen", start="2026-11-23T12:00:00+01:00")
    series = course["id"]

    await act(http, "rename", event=lunch["id"], title="Mittag")
    await act(http, "move", event=lunch["id"], to="2026-11-22T12:00")
    await act(
        http,
        "move_occurrence",
        series=series,
        original="2026-11-24T09:00",
        to="2026-11-24T15:00",
    )
    await act(http, "cancel_occurrence", series=series, original="2026-11-25T09:00")
    await act(http, "retime_series", series=series, to="10:30")
    follow = {"series": series, "first": "2026-11-26T10:30", "summary": "Folge"}
    await act(http, "trim_and_follow", **follow)

    assert await titles(http) == ["Mittag", "Kurs", "Kurs", "Folge"]
    await act(http, "cancel", event=lunch["id"])
    assert await titles(http) == ["Kurs", "Kurs", "Folge"]


async def test_files_are_imported_over_http(http: httpx2.AsyncClient) -> None:
    answer = await http.post(
        f"/_twin/calendars/{ADA}/import?into_present=1",
        content=CHOIR.read_bytes(),
        headers={"Content-Type": "text/calendar"},
    )

    assert len(answer.json()["ids"]) == 8
    page = (await http.get(f"/calendar/v3{EVENTS}")).json()
    assert len(page["items"]) == 8


async def test_faults_behaviour_and_clock_are_set_over_http(
    http: httpx2.AsyncClient,
) -> None:
    fault = {"kind": "answer", "operation": "events.list", "status": 429}
    made = await http.post("/_twin/faults", json=fault)
    url = f"/calendar/v3{EVENTS}"
    assert (made.status_code, (await http.get(url)).status_code) == (201, 429)
    assert (await http.get("/_twin/faults")).json()[0]["struck"] == 1
    assert (await http.delete("/_twin/faults")).status_code == 204

    changed = await http.patch("/_twin/behaviour", json={"empty_pages": True})
    assert changed.json()["empty_pages"] is True
    assert (await http.patch("/_twin/behaviour", json={"x": 1})).status_code == 400

    await http.post("/_twin/clock", json={"advance_s": 3600})
    assert (await http.get(url)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/_twin/faults", {"kind": "typhoon"}, 400),
        ("POST", f"/_twin/calendars/{ADA}/actions", {"action": "explode"}, 404),
        ("POST", f"/_twin/calendars/{ADA}/actions", {"action": "cancel"}, 400),
        ("POST", "/_twin/calendars/nobody/actions", {"action": "add"}, 404),
        ("GET", "/_twin/nothing", None, 404),
        ("GET", "/calendar/v3/nothing", None, 404),
    ],
)
async def test_control_that_makes_no_sense_is_refused(
    http: httpx2.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    assert (await http.request(method, path, json=body)).status_code == status


async def test_pushes_and_calls_can_be_followed_from_outside(
    http: httpx2.AsyncClient,
) -> None:
    channel = {"id": "c1", "type": "web_hook", "address": "http://127.0.0.1:9/g"}
    await http.post(f"/calendar/v3{EVENTS}/watch", json=channel)
    await act(http, "add", title="da", start=berlin(24, 9).isoformat())

    state = (await http.get("/_twin/state")).json()
    calls = (await http.get("/_twin/calls")).json()

    assert state["calendars"][0]["channels"] == ["c1"]
    assert [r["operation"] for r in calls["records"]] == ["events.watch"]
    later = await http.get("/_twin/calls", params={"after": calls["next"]})
    assert later.json()["records"] == []


async def test_a_cut_connection_is_cut_on_the_wire(http: httpx2.AsyncClient) -> None:
    fault = {"kind": "cut_after", "operation": "events.list"}
    await http.post("/_twin/faults", json=fault)

    with pytest.raises(httpx2.TransportError):
        await http.get(f"/calendar/v3{EVENTS}")


async def test_it_runs_alone_and_leaves_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "local_stack.twins.google",
        "--account",
        ADA,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(20):
        ready = await process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        code = await process.wait()

    assert b'"url":"http://127.0.0.1:' in ready
    assert ADA.encode() in ready
    assert code == 0
