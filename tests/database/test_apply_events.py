"""Singles: mirror and projection."""

import time
from datetime import timedelta

import asyncpg
import pytest

from tests.support.events import (
    Calendar,
    all_day,
    coming,
    make_event,
    meetings,
    mirrored,
    tombstone,
)
from tests.support.sessions import Connection


async def test_an_event_becomes_a_meeting(
    calendar: Calendar, database: Connection
) -> None:
    event = make_event("a", title="Check-up", location="Room 2")
    assert await calendar.apply(event) == {"created": 1}
    (meeting,) = await meetings(database)
    assert meeting["title"] == "Check-up"
    assert meeting["location"] == "Room 2"
    assert meeting["starts_at"] == event["starts_at"]
    assert meeting["ends_at"] == event["ends_at"]
    assert meeting["status"] == "confirmed"
    assert meeting["sync_state"] == "synced"
    assert meeting["calendar_id"] == calendar.id
    row = await mirrored(database, "a")
    assert row["sequence"] == 0
    assert row["meeting_id"] == meeting["id"]
    assert meeting["event_id"] == row["id"]
    assert row["scope"] == "in"


async def test_the_same_page_again_writes_nothing(
    calendar: Calendar, database: Connection
) -> None:
    page = [
        make_event("a"),
        all_day("b", coming().date()),
        make_event("c", visibility="private"),
        make_event("d", own_response="declined"),
        make_event("e", title="x" * 10_001),
        tombstone("f"),
    ]
    await calendar.apply(*page)
    before = await versions(database)
    assert await calendar.apply(*page) == {"unchanged": 5, "set_aside": 1}
    assert await versions(database) == before


async def test_an_event_without_a_hash_or_sequence_is_applied_each_time(
    calendar: Calendar, database: Connection
) -> None:
    event = make_event("a", sequence=None) | {"content_hash": None}
    assert await calendar.apply(event) == {"created": 1}
    assert await calendar.apply(event) == {}
    assert (await mirrored(database, "a"))["sequence"] is None


async def versions(database: Connection) -> list[object]:
    """Which transaction wrote each row."""
    return [
        await database.fetch(
            f"select xmin::text, ctid::text from {table} order by ctid"
        )
        for table in (
            "public.meetings",
            "public.calendar_events",
            "public.private_event_details",
            "public.clients",
            "public.meeting_history",
            "public.sync_conflicts",
            "sync.meeting_keys",
            "sync.set_aside_events",
            "sync.calendar_state",
        )
    ]


async def test_a_deleted_event_cancels_its_meeting_and_comes_back_to_it(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("a"))
    (first,) = await meetings(database)
    assert await calendar.apply(tombstone("a")) == {"cancelled": 1}
    (gone,) = await meetings(database)
    assert (gone["id"], gone["status"]) == (first["id"], "cancelled")
    assert (await mirrored(database, "a"))["title"] == "Visit"
    assert await calendar.apply(make_event("a", etag='"2"')) == {"updated": 1}
    (back,) = await meetings(database)
    assert (back["id"], back["status"]) == (first["id"], "confirmed")


async def test_who_lost_the_lease_writes_nothing(
    calendar: Calendar, database: Connection
) -> None:
    await database.execute("update sync.tasks set lease = gen_random_uuid()")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await calendar.apply(make_event("a"))
    assert refused.value.sqlstate == "CS001"
    assert await meetings(database) == []


async def test_a_moved_event_moves_its_meeting(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("a"))
    (before,) = await meetings(database)
    start = coming(hour=15)
    assert await calendar.apply(make_event("a", starts_at=start)) == {"updated": 1}
    (after,) = await meetings(database)
    assert after["id"] == before["id"]
    assert after["starts_at"] == start
    assert after["ends_at"] == start + timedelta(hours=1)
    assert after["version"] == before["version"] + 1


async def test_a_large_page_is_no_slower_once_its_plans_are_kept(
    calendar: Calendar, database: Connection
) -> None:
    # The sixth call of a session runs on plans made for any page: nested loops over one
    # that the planner takes for a single event would need a hundred times as long.
    spent = []
    for round_ in range(8):
        page = [make_event(f"e{n}", sequence=round_) for n in range(800)]
        began = time.perf_counter()
        await calendar.apply(*page)
        spent.append(time.perf_counter() - began)
    assert min(spent[6:]) < 5 * min(spent[1:4])
