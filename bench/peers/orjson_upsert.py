"""orjson + executemany: parse a page and upsert every event, in one transaction.

Reads the page from the file given, applies it as often as told, prints milliseconds.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator"

import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import uvloop

URL = os.environ["PEER_DATABASE_URL"]
TABLE = """
create table if not exists public.events (
  calendar_id uuid not null, provider_event_id text not null, ical_uid text, etag text,
  status text not null, title text, description text, location text,
  starts_at timestamptz, ends_at timestamptz, time_zone text, organizer text,
  attendees jsonb, html_link text, event_type text, provider_updated_at timestamptz,
  raw jsonb not null, updated_at timestamptz not null default now(),
  primary key (calendar_id, provider_event_id)
);
create index if not exists events_start on public.events (calendar_id, starts_at);
create table if not exists public.cursors (calendar_id uuid primary key, cursor text);
"""
UPSERT = """
insert into public.events values (
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
)
on conflict (calendar_id, provider_event_id) do update set
  ical_uid = excluded.ical_uid, etag = excluded.etag, status = excluded.status,
  title = excluded.title, description = excluded.description,
  location = excluded.location, starts_at = excluded.starts_at,
  ends_at = excluded.ends_at, time_zone = excluded.time_zone,
  organizer = excluded.organizer, attendees = excluded.attendees,
  html_link = excluded.html_link, event_type = excluded.event_type,
  provider_updated_at = excluded.provider_updated_at, raw = excluded.raw,
  updated_at = now()
where events.etag is distinct from excluded.etag
"""
SAVE = """
insert into public.cursors values ($1, $2)
on conflict (calendar_id) do update set cursor = excluded.cursor
"""
CALENDAR = "5f0c5a3c-0000-4000-8000-000000000001"


def row(item: dict[str, Any]) -> tuple[Any, ...]:
    """Map an event to the columns."""
    return (
        CALENDAR,
        item["id"],
        item.get("iCalUID"),
        item.get("etag"),
        item["status"],
        item.get("summary"),
        item.get("description"),
        item.get("location"),
        datetime.fromisoformat(item["start"]["dateTime"]),
        datetime.fromisoformat(item["end"]["dateTime"]),
        item["start"].get("timeZone"),
        item["organizer"]["email"],
        orjson.dumps(item.get("attendees", [])).decode(),
        item.get("htmlLink"),
        item.get("eventType"),
        datetime.fromisoformat(item["updated"]),
        orjson.dumps(item).decode(),
    )


async def apply(connection: asyncpg.Connection, content: bytes) -> float:
    """Apply one page; return milliseconds from bytes to committed."""
    began = time.perf_counter()
    page = orjson.loads(content)
    rows = [row(item) for item in page["items"]]
    async with connection.transaction():
        await connection.executemany(UPSERT, rows)
        await connection.execute(SAVE, CALENDAR, page["nextSyncToken"])
    return (time.perf_counter() - began) * 1000


async def main(content: bytes, times: int) -> None:
    """Apply the page once, then as often as told."""
    connection = await asyncpg.connect(URL)
    await connection.execute(TABLE)
    await apply(connection, content)
    await connection.execute("vacuum analyze public.events")
    took = [await apply(connection, content) for _ in range(times)]
    sys.stdout.write(json.dumps({"ms": took}) + "\n")


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]).read_bytes(), int(sys.argv[2])))
