"""Why what stands in a calendar is no meeting: `supacal doctor --calendar`."""

import sys
from collections import Counter
from uuid import UUID

import asyncpg

from runtime.pool import connect
from sql import queries
from supacal.here import database_url

SHOWN = 10  # examples of a reason
MEETING = "it is a meeting"


async def explain(calendar: UUID, event: str | None) -> int:
    """Say of a calendar's events, or of one, why they are no meetings."""
    connection = await connect(
        database_url(), role=None, application_name="supacal doctor"
    )
    try:
        found = await queries.doctor.calendar(connection, calendar_id=calendar)
        if found is None:
            sys.stderr.write(f"There is no calendar {calendar}.\n")
            return 1
        events = [
            row
            async for row in queries.doctor.explain_events(
                connection, calendar_id=calendar, event_id=event
            )
        ]
    finally:
        await connection.close()
    _tell_calendar(found)
    if event is not None:
        return _tell_event(event, events)
    _tell_events(events)
    return 0


def _tell_calendar(found: asyncpg.Record) -> None:
    switch = "on" if found["sync_enabled"] else "off: nothing is read"
    sys.stdout.write(
        f"{found['provider']} calendar {found['id']}: sync is {switch}; read: "
        f"{found['backfill']}; its connection is {found['connection_status']}\n"
    )
    if found["last_error"]:
        sys.stdout.write(f"  last error: {found['last_error']}\n")


def _tell_event(event: str, rows: list[asyncpg.Record]) -> int:
    for row in rows:
        meeting = f" ({row['meeting_id']})" if row["meeting_id"] else ""
        sys.stdout.write(f"  {row['reason']}{meeting}\n")
    if not rows:
        sys.stdout.write(
            f"  the provider has not told of {event}: it lies outside of the "
            "calendar's window, is in another one, or came after the last pull\n"
        )
    return 0 if rows else 1


def _tell_events(rows: list[asyncpg.Record]) -> None:
    reasons = Counter(row["reason"] for row in rows)
    for reason, count in reasons.most_common():
        sys.stdout.write(f"  {count:>6}  {reason}\n")
        if reason == MEETING:
            continue
        for row in [one for one in rows if one["reason"] == reason][:SHOWN]:
            at = f"{row['starts_at']:%Y-%m-%d %H:%M}" if row["starts_at"] else "-"
            sys.stdout.write(f"          {at}  {row['provider_event_id']}\n")
    if not rows:
        sys.stdout.write("  the provider has told of no events yet\n")
