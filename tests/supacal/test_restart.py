"""What a stack has and knows survives its end, whichever end that was."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from tests.support.eventually import eventually
from tests.support.stacks import Dev, environment, running

SINGLE_TITLE = "Kept over a restart"
MEETINGS = """
select meeting.id, meeting.title, meeting.starts_at, meeting.status, meeting.deleted_at
from public.meetings as meeting
order by meeting.id
"""
# Every calendar has been read whole, and is watched, since the stack was started. Only
# Google says hello.
SETTLED = """
select bool_and(
  calendar.full_round_asked_at is null
  and (calendar.backfill = 'complete' or calendar.kind = 'bookings')
  and exists (
    select from public.calendar_watch_channels as channel
    join sync.channel_state as state on state.channel_id = channel.id
    where channel.calendar_id = calendar.id and channel.status = 'active'
      and (state.hello_at is not null or connection.provider <> 'google')
  )
)
from public.calendars as calendar
join public.calendar_connections as connection on connection.id = calendar.connection_id
where calendar.sync_enabled
"""
GOOGLE_S = """
select calendar.provider_calendar_id from public.calendars as calendar
join public.calendar_connections as connection on connection.id = calendar.connection_id
where connection.provider = 'google'
order by 1
"""


class Living:
    """A stack, its database and its twin."""

    def __init__(self, dev: Dev, database: "psycopg.Connection[DictRow]") -> None:
        self.dev = dev
        self.database = database

    async def settled(self) -> None:
        await eventually(lambda: self._all(SETTLED)[0]["bool_and"], within_s=30)

    def meetings(self) -> list[DictRow]:
        return self._all(MEETINGS)

    def meeting(self, title: str) -> DictRow | None:
        return next((one for one in self.meetings() if one["title"] == title), None)

    def act(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Have a person do something in Google Calendar."""
        twin = self.dev.facts["twins"]["google"]
        url = f"{twin}/_twin/calendars/{quote(self.calendar)}/actions"
        answer = httpx2.post(url, json={"action": action, **arguments})
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    @property
    def calendar(self) -> str:
        return str(self._all(GOOGLE_S)[0]["provider_calendar_id"])

    def switch(self, *, on: bool) -> None:
        self.database.execute(
            "update calendars set sync_enabled = %s where provider_calendar_id = %s",
            (on, self.calendar),
        )

    def _all(self, query: str) -> list[DictRow]:
        return self.database.execute(query.encode()).fetchall()


@contextmanager
def living(scratch: Path, environ: dict[str, str]) -> Iterator[Living]:
    with (
        running(environ, scratch) as dev,
        psycopg.connect(
            dev.facts["database_url"], autocommit=True, row_factory=dict_row
        ) as database,
    ):
        yield Living(dev, database)


@pytest.fixture
def environ(scratch: Path) -> dict[str, str]:
    return environment(scratch / "state")


def next_week() -> str:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return (start + timedelta(days=7)).isoformat()


def kept_start(scratch: Path, event_id: str) -> datetime | None:
    """When the event starts by the file that the twin is kept in."""
    memory = json.loads((scratch / "state" / "twins" / "google.json").read_bytes())
    for event in (
        one for calendar in memory["calendars"] for one in calendar["events"]
    ):
        if event["id"] == event_id:
            return datetime.fromisoformat(event["body"]["start"]["dateTime"])
    return None


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_lost_doubled_or_cancelled_by_a_restart(
    scratch: Path, environ: dict[str, str], how: signal.Signals
) -> None:
    with living(scratch, environ) as first:
        await first.settled()
        added = first.act("add", title=SINGLE_TITLE, start=next_week())
        await eventually(lambda: first.meeting(SINGLE_TITLE), within_s=10)
        moved_to = datetime.fromisoformat(next_week()) + timedelta(hours=5)
        first.act("move", event=added["id"], to=moved_to.isoformat())

        def is_moved() -> bool:
            meeting = first.meeting(SINGLE_TITLE)
            return meeting is not None and meeting["starts_at"] == moved_to

        await eventually(is_moved, within_s=10)
        if how == signal.SIGKILL:  # what happened in the last half second may be lost
            await eventually(lambda: kept_start(scratch, added["id"]) == moved_to)
        before = first.meetings()
        first.dev.process.send_signal(how)
        first.dev.process.wait(30)
    with living(scratch, environ) as second:
        await second.settled()
        assert second.meetings() == before


async def test_a_change_after_a_restart_comes_through_to_the_meeting_of_before(
    scratch: Path, environ: dict[str, str]
) -> None:
    with living(scratch, environ) as first:
        await first.settled()
        added = first.act("add", title=SINGLE_TITLE, start=next_week())
        known = await eventually(lambda: first.meeting(SINGLE_TITLE), within_s=10)
    with living(scratch, environ) as second:
        await second.settled()
        second.act("rename", event=added["id"], title="Renamed after it")
        found = await eventually(
            lambda: second.meeting("Renamed after it"), within_s=10
        )
        assert found["id"] == known["id"]


async def test_a_calendar_that_was_switched_off_stays_off(
    scratch: Path, environ: dict[str, str]
) -> None:
    with living(scratch, environ) as first:
        await first.settled()
        first.switch(on=False)
    with living(scratch, environ) as second:
        await second.settled()
        rows = second.database.execute(
            "select provider_calendar_id from calendars where not sync_enabled"
        ).fetchall()
        assert [row["provider_calendar_id"] for row in rows] == [second.calendar]


async def test_a_twin_s_file_of_another_version_is_replaced(
    scratch: Path, environ: dict[str, str]
) -> None:
    with living(scratch, environ) as first:
        await first.settled()
        before = [row["id"] for row in first.meetings()]
    (scratch / "state" / "twins" / "google.json").write_text('{"form": 0}')
    with living(scratch, environ) as second:
        await second.settled()
        assert "kept by another version" in second.dev.said
        assert [row["id"] for row in second.meetings()] == before
