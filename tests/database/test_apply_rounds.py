"""What a round saves, and in which transaction."""

from datetime import timedelta

from tests.support.events import ZONE, Calendar, coming, make_event
from tests.support.sessions import Connection


async def state(calendar: Calendar, database: Connection) -> dict[str, object]:
    row = await database.fetchrow(
        """
        select state.cursor, state.cursor_parameters, calendar.backfill,
          state.last_changed_at is not null as has_changed
        from public.calendars as calendar
        left join sync.calendar_state as state on state.calendar_id = calendar.id
        where calendar.id = $1
        """,
        calendar.id,
    )
    assert row is not None
    return dict(row)


async def test_the_cursor_is_saved_with_the_events_it_covers(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("a"), cursor="c1", cursor_parameters="p")
    assert await state(calendar, database) == {
        "cursor": "c1",
        "cursor_parameters": "p",
        "backfill": "pending",
        "has_changed": True,
    }
    # A page without a cursor leaves it alone.
    await calendar.apply(make_event("b"))
    assert (await state(calendar, database))["cursor"] == "c1"


async def test_an_empty_round_changes_no_public_row(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(cursor="c1", cursor_parameters="p", backfill="complete")
    before = await database.fetch("select xmin::text, * from public.calendars")
    await calendar.apply(cursor="c2", cursor_parameters="p", backfill="complete")
    assert await database.fetch("select xmin::text, * from public.calendars") == before
    assert await state(calendar, database) == {
        "cursor": "c2",
        "cursor_parameters": "p",
        "backfill": "complete",
        "has_changed": False,
    }


async def test_backfill_only_moves_on(calendar: Calendar, database: Connection) -> None:
    for step, then in (
        ("upcoming", "upcoming"),
        ("complete", "complete"),
        ("upcoming", "complete"),
    ):
        await calendar.apply(backfill=step)
        assert (await state(calendar, database))["backfill"] == then


async def test_a_full_round_saves_its_window(
    calendar: Calendar, database: Connection
) -> None:
    start, end = coming(0), coming(0) + timedelta(days=200)
    await calendar.full_round(
        window_start=start, window_end=end, cursor="c", cursor_parameters="p"
    )
    row = await database.fetchrow("select * from sync.calendar_state")
    assert row is not None
    assert row["window_start"].astimezone(ZONE) == start
    assert row["window_end"].astimezone(ZONE) == end


async def test_nothing_is_left_staged(calendar: Calendar, database: Connection) -> None:
    await calendar.apply(make_event("a"), make_event("b", time_zone="nowhere"))
    assert await database.fetchval("select count(*) from sync.staged_events") == 0
