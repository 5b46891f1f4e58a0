"""The twin as others reach it: over HTTP, on loopback, from a file, as a process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import recurring_ical_events
from icalendar import Calendar as IcsCalendar

from local_stack.twins.microsoft import (
    Calendar,
    MicrosoftTwin,
    serving,
    serving_in_thread,
)
from tests.twins.graph_calls import Endpoint, Graph, berlin

DATA = Path(__file__).parents[1] / "data"
SHARED = Path(os.environ.get("SUPACAL_SHARED", "../shared")) / "data" / "calendars"
FILES = sorted([*DATA.rglob("*.ics"), *SHARED.glob("*.ics")])
YEARS = ("2015-01-01", "2026-01-01")


@pytest.fixture
async def control(outlook: MicrosoftTwin) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(outlook), base_url="http://twin.test/_twin"
    ) as http:
        yield http


async def test_people_can_be_played_over_http(
    control: httpx2.AsyncClient, outlook: MicrosoftTwin
) -> None:
    account = (await control.post("/accounts", json={"email": "ben@x.org"})).json()
    [calendar_id] = account["calendars"]
    actions = f"/calendars/{calendar_id}/actions"
    added = await control.post(
        actions,
        json={
            "action": "add",
            "title": "Kurs",
            "start": "2026-11-24T09:00",
            "recurrence": "FREQ=DAILY;COUNT=3",
        },
    )
    series = added.json()["id"]
    await control.post(
        actions,
        json={"action": "retime_series", "series": series, "to": "11:00"},
    )
    cancelled = await control.post(
        actions,
        json={
            "action": "cancel_occurrence",
            "series": series,
            "original": "2026-11-25T11:00",
        },
    )
    assert cancelled.json() == {}
    window = {"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z"}
    found = await control.get(f"/calendars/{calendar_id}/events", params=window)
    starts = [one["start"]["dateTime"][:13] for one in found.json()]
    assert starts == ["2026-11-24T10", "2026-11-26T10"]
    grant = (await control.post("/accounts/ben@x.org/grants", json={})).json()
    async with Graph(outlook, grant["access_token"]) as graph:
        assert (await graph.page("/me"))["mail"] == "ben@x.org"


async def test_switches_clock_faults_and_logs_are_reachable(
    control: httpx2.AsyncClient, outlook: MicrosoftTwin, agenda: Calendar
) -> None:
    changed = await control.patch("/behaviour", json={"delta_lag_s": 30})
    assert changed.json()["delta_lag_s"] == 30
    assert outlook.behaviour.delta_lag_s == 30
    odd = await control.patch("/behaviour", json={"invented": 1})
    assert odd.status_code == 400
    before = outlook.clock.now()
    await control.post("/clock", json={"advance_s": 60})
    assert outlook.clock.now() - before == timedelta(minutes=1)
    fault = {"kind": "answer", "operation": "me.get", "status": 503}
    assert (await control.post("/faults", json=fault)).status_code == 201
    state = (await control.get("/state")).json()
    assert state["calendars"][0]["id"] == agenda.id
    assert (await control.get("/calls")).json()["records"] == []


async def test_lifecycle_events_can_be_asked_for(
    control: httpx2.AsyncClient,
    outlook: MicrosoftTwin,
    graph: Graph,
    endpoint: Endpoint,
) -> None:
    await graph.subscribe(lifecycleNotificationUrl="https://hooks.test/l")
    [known] = (await control.get("/subscriptions")).json()
    path = f"/subscriptions/{known['id']}/lifecycle"
    told = await control.post(path, json={"event": "missed"})
    assert told.json() == {"told": True}
    await outlook.pushes.drain()
    assert endpoint.kinds() == ["missed"]
    assert (await control.post(path, json={"event": "odd"})).status_code == 404


async def test_it_serves_on_loopback() -> None:
    twin = MicrosoftTwin()
    token = twin.account("mira@example.org").sign_in().access_token
    async with serving(twin) as url, httpx2.AsyncClient() as http:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await http.get(f"{url}/v1.0/me/calendars", headers=headers)
        assert [one["name"] for one in answer.json()["value"]] == ["Calendar"]


def test_it_serves_from_a_thread() -> None:
    twin = MicrosoftTwin()
    token = twin.account("mira@example.org").sign_in().access_token
    with serving_in_thread(twin) as url:
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx2.get(f"{url}/v1.0/me", headers=headers).status_code == 200


def test_it_runs_alone() -> None:
    command = [sys.executable, "-m", "local_stack.twins.microsoft"]
    process = subprocess.Popen(
        [*command, "--account", "mira@example.org"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["accounts"] == ["mira@example.org"]
        assert httpx2.get(f"{ready['url']}/_twin/state").status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stdout is not None
        process.stdout.close()


def key(when: date) -> str:
    if isinstance(when, datetime):
        aware = when if when.tzinfo else when.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat()
    return when.isoformat()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_imported_file_has_the_occurrences_that_others_find_in_it(
    file: Path,
) -> None:
    parsed = IcsCalendar.from_ical(file.read_bytes())
    zone = str(parsed.get("X-WR-TIMEZONE", "Europe/Berlin"))
    calendar = MicrosoftTwin().account("mira@example.org", time_zone=zone).primary
    calendar.import_ics(file)
    begin, end = (datetime.fromisoformat(day).replace(tzinfo=UTC) for day in YEARS)
    expected = {
        key(event["DTSTART"].dt)
        for event in recurring_ical_events.of(parsed).between(begin, end)
        if str(event.get("STATUS", "")) != "CANCELLED"
    }
    found = {key(event.start) for event in calendar.events(begin, end)}
    assert expected
    assert found == expected


async def test_a_file_can_be_imported_around_now(
    agenda: Calendar, graph: Graph
) -> None:
    file = next(one for one in FILES)
    agenda.import_ics(file, into_present=True)
    window = {"startDateTime": "2026-01-01", "endDateTime": "2027-12-31"}
    assert await graph.all("/me/calendarView", window)
    assert agenda.events(berlin(1, 0, month=1), berlin(31, 0, month=12))
