"""Series that come back as other events keep their meetings."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.events import (
    ZONE,
    Calendar,
    Event,
    all_day,
    coming,
    expand,
    make_event,
    make_occurrence,
    make_series,
    meetings,
    mirrored,
    occurrence_id,
    tombstone,
    weekly,
    without_occurrence,
)
from tests.support.sessions import Connection


async def ids_by_start(database: Connection) -> dict[datetime, Any]:
    return {
        meeting["starts_at"].astimezone(ZONE): meeting["id"]
        for meeting in await meetings(database)
        if meeting["status"] != "cancelled"
    }


async def cancelled(database: Connection) -> list[datetime]:
    return [
        meeting["starts_at"].astimezone(ZONE)
        for meeting in await meetings(database)
        if meeting["status"] == "cancelled"
    ]


async def test_occurrences_become_meetings_and_the_master_does_not(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 4)
    assert await calendar.apply_series(expand("s", starts)) == {"created": 4}
    assert list(await ids_by_start(database)) == starts
    master = await mirrored(database, "s")
    assert master["meeting_id"] is None
    members = await database.fetchval(
        "select count(*) from public.calendar_events where series_id = $1", master["id"]
    )
    assert members == 4


async def test_a_series_applied_again_changes_nothing(
    calendar: Calendar, database: Connection
) -> None:
    series = expand("s", weekly(coming(), 4))
    await calendar.apply_series(series)
    assert await calendar.apply_series(series) == {"unchanged": 5}


@pytest.mark.parametrize(
    ("days", "moved"),
    [
        pytest.param(7, timedelta(hours=2), id="weekly, another hour"),
        pytest.param(7, timedelta(days=1), id="weekly, the next weekday"),
        pytest.param(7, timedelta(days=4, hours=3), id="weekly, Monday to Friday"),
        pytest.param(7, timedelta(days=-1), id="weekly, the weekday before"),
        pytest.param(1, timedelta(hours=1), id="daily, another hour"),
        pytest.param(14, timedelta(days=2), id="every other week"),
    ],
)
async def test_a_series_timed_anew_keeps_every_meeting(
    calendar: Calendar, database: Connection, days: int, moved: timedelta
) -> None:
    starts = weekly(coming(2, weekday=1), 6, days=days)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    counts = await calendar.apply_series(expand("s", [s + moved for s in starts]))
    assert counts == {"updated": 6}
    after = await ids_by_start(database)
    assert after == {start + moved: before[start] for start in starts}
    rows = await database.fetchval(
        "select count(*) from public.calendar_events where role = 'occurrence'"
    )
    assert rows == 6


async def test_a_daily_series_moved_by_a_day_keeps_the_days_it_still_has(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 5, days=1)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    await calendar.apply_series(
        expand("s", [start + timedelta(days=1) for start in starts])
    )
    after = await ids_by_start(database)
    for start in starts[1:]:
        assert after[start] == before[start]
    # By ordinal, the first day's is the last day's now.
    assert after[starts[-1] + timedelta(days=1)] == before[starts[0]]


async def test_ids_made_anew_keep_the_meetings_of_the_same_starts(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    anew = [
        make_occurrence("s", start, event_id=f"anew{place}")
        for place, start in enumerate(starts)
    ]
    await calendar.apply_series((make_series("s", starts[0], etag='"2"'), anew))
    assert await ids_by_start(database) == before


async def test_an_occurrence_that_leaves_its_series_is_cancelled(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 4)
    await calendar.apply_series(expand("s", starts))
    counts = await calendar.apply_series(expand("s", starts[:3]))
    assert counts["cancelled"] == 1
    assert await cancelled(database) == starts[3:]


async def test_a_shift_at_the_windows_edge_moves_every_meeting_by_as_much(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 6)
    end = starts[5] + timedelta(hours=12)
    await calendar.apply_series(expand("s", starts), window_end=end)
    before = await ids_by_start(database)
    # The sixth falls out of the window.
    later = [start + timedelta(days=1) for start in starts]
    await calendar.apply_series(
        (make_series("s", later[0]), expand("s", later[:5])[1]), window_end=end
    )
    after = await ids_by_start(database)
    assert after == {start + timedelta(days=1): before[start] for start in starts[:5]}


async def test_what_lies_outside_the_window_read_is_left_alone(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 6)
    await calendar.apply_series(expand("s", starts))
    head, members = expand("s", starts[2:4], title="Renamed")
    counts = await calendar.apply_series(
        (head, members), window_start=starts[2], window_end=starts[4]
    )
    assert counts == {"updated": 2}
    assert await cancelled(database) == []


async def test_this_and_following_hands_the_rest_to_the_new_series(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 8)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    later = [start + timedelta(days=1, hours=2) for start in starts[3:]]
    counts = await calendar.apply_series(
        expand("s", starts[:3]), expand("s_R2026", later, title="Later")
    )
    assert counts.get("cancelled", 0) == counts.get("created", 0) == 0
    after = await ids_by_start(database)
    assert after == {
        **{start: before[start] for start in starts[:3]},
        **{new: before[old] for old, new in zip(starts[3:], later, strict=True)},
    }


async def test_an_exception_reset_by_this_and_following_keeps_its_meeting(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 6)
    await calendar.apply_series(expand("s", starts))
    moved = make_occurrence(
        "s", starts[4], role="exception", starts_at=starts[4] + timedelta(hours=5)
    )
    await calendar.apply(moved)
    before = [meeting["id"] for meeting in await meetings(database)]
    later = [start + timedelta(hours=1) for start in starts[3:]]
    counts = await calendar.apply_series(
        expand("s", starts[:3]),
        expand("t", later),
        more=[without_occurrence("s", starts[4])],
    )
    assert counts == {"updated": 3, "unchanged": 4}
    assert [meeting["id"] for meeting in await meetings(database)] == before


async def test_another_series_that_starts_later_inherits_nothing_of_a_deleted_one(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    counts = await calendar.apply_series(
        expand("t", [start + timedelta(days=1) for start in starts]),
        more=[tombstone("s")],
    )
    assert counts == {"created": 3, "cancelled": 3}


async def test_a_deleted_series_cancels_what_is_to_come_and_not_what_was(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(-2), 5)
    await calendar.apply_series(expand("s", starts))
    await calendar.apply(tombstone("s"))
    now = datetime.now(ZONE)
    past = [start for start in starts if start + timedelta(hours=1) < now]
    assert await cancelled(database) == [s for s in starts if s not in past]
    assert len(await ids_by_start(database)) == len(past)


async def test_a_moved_occurrence_keeps_its_meeting(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    moved = make_occurrence(
        "s", starts[1], role="exception", starts_at=coming(2, hour=16)
    )
    assert await calendar.apply(moved) == {"updated": 1}
    after = await ids_by_start(database)
    assert after[coming(2, hour=16)] == before[starts[1]]
    assert (await mirrored(database, moved["provider_event_id"]))["role"] == "exception"


async def test_a_known_exception_is_kept_when_its_series_is_read_without_it(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 4)
    await calendar.apply_series(expand("s", starts))
    await calendar.apply(
        make_occurrence("s", starts[1], role="exception", starts_at=coming(2, hour=16))
    )
    others = [starts[0], *starts[2:]]
    head, members = expand("s", others, title="Renamed")
    assert "cancelled" not in await calendar.apply_series((head, members))
    assert await cancelled(database) == []


async def test_an_occurrence_told_as_exception_and_expanded_stays_an_exception(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 2)
    exception = make_occurrence("s", starts[1], role="exception", title="Special")
    expanded = make_occurrence("s", starts[1], title="Special")
    head, members = expand("s", starts)
    await calendar.apply_series((head, [members[0], expanded]), more=[exception])
    row = await mirrored(database, exception["provider_event_id"])
    assert row["role"] == "exception"


async def test_a_deleted_occurrence_cancels_its_meeting_only(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    assert await calendar.apply(without_occurrence("s", starts[1])) == {"cancelled": 1}
    assert await cancelled(database) == [starts[1]]


async def test_a_deleted_occurrence_never_seen_is_kept_as_such(
    calendar: Calendar, database: Connection
) -> None:
    start = coming()
    assert await calendar.apply(without_occurrence("s", start)) == {}
    row = await mirrored(database, occurrence_id("s", start))
    assert (row["role"], row["status"]) == ("exception", "cancelled")
    assert row["original_start"] == start
    assert await meetings(database) == []


async def test_an_occurrence_deleted_in_the_round_that_moves_the_series_is_cancelled(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 5)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    kept = [starts[0], starts[1], starts[3], starts[4]]
    later = [start + timedelta(days=1) for start in kept]
    await calendar.apply_series(
        expand("s", later), more=[without_occurrence("s", starts[2])]
    )
    assert await ids_by_start(database) == {
        start + timedelta(days=1): before[start] for start in kept
    }
    assert await cancelled(database) == [starts[2]]


async def test_an_exception_before_its_series_is_linked_when_that_comes(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    moved = make_occurrence(
        "s", starts[1], role="exception", starts_at=coming(2, hour=16)
    )
    assert await calendar.apply(moved) == {"created": 1}
    assert (await mirrored(database, moved["provider_event_id"]))["series_id"] is None
    head, members = expand("s", starts)
    await calendar.apply_series((head, [members[0], moved, members[2]]))
    assert len(await meetings(database)) == 3
    row = await mirrored(database, moved["provider_event_id"])
    assert row["series_id"] == (await mirrored(database, "s"))["id"]


async def test_a_single_that_becomes_a_series_gives_its_meeting_to_its_occurrence(
    calendar: Calendar, database: Connection
) -> None:
    start = coming()
    await calendar.apply(make_event("s", starts_at=start))
    (single,) = await meetings(database)
    counts = await calendar.apply_series(expand("s", weekly(start, 3)))
    assert counts == {"created": 2, "updated": 1}
    assert (await ids_by_start(database))[start] == single["id"]
    assert (await mirrored(database, "s"))["meeting_id"] is None


async def test_a_single_that_becomes_a_series_elsewhere_gives_it_to_the_closest(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("s", starts_at=coming()))
    (single,) = await meetings(database)
    starts = weekly(coming(weekday=2), 3)
    await calendar.apply_series(expand("s", starts))
    assert (await ids_by_start(database))[starts[0]] == single["id"]


async def test_a_series_that_becomes_a_single_keeps_the_meeting_of_that_time(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    counts = await calendar.apply(make_event("s", starts_at=starts[0], title="Once"))
    assert counts == {"updated": 1, "cancelled": 2}
    assert await ids_by_start(database) == {starts[0]: before[starts[0]]}
    assert (await mirrored(database, "s"))["role"] == "single"


async def test_a_series_timed_there_and_back_keeps_its_meetings_and_keys(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 4)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    await calendar.apply_series(
        expand("s", [start + timedelta(days=1) for start in starts])
    )
    await calendar.apply_series(expand("s", starts, sequence=2))
    assert await ids_by_start(database) == before
    assert await database.fetchval("select count(*) from sync.meeting_keys") == 4


async def test_an_all_day_series_moved_to_another_weekday_keeps_its_meetings(
    calendar: Calendar, database: Connection
) -> None:
    def yearly(shift: int) -> tuple[Event, list[Event]]:
        first = coming().date() + timedelta(days=shift)
        days = [first + timedelta(weeks=week) for week in range(4)]
        master = all_day("s", days[0], role="series")
        return master, [
            all_day(
                f"s_{day:%Y%m%d}",
                day,
                role="occurrence",
                ical_uid="s@google.com",
                series_provider_id="s",
                original_start_date=day,
            )
            for day in days
        ]

    await calendar.apply_series(yearly(0))
    before = [meeting["id"] for meeting in await meetings(database)]
    assert await calendar.apply_series(yearly(2)) == {"updated": 4}
    after = await meetings(database)
    assert [meeting["id"] for meeting in after] == before
    assert after[0]["start_date"] == coming().date() + timedelta(days=2)


async def test_a_series_across_daylight_saving_keeps_its_meetings(
    calendar: Calendar, database: Connection
) -> None:
    first = datetime(datetime.now(ZONE).year + 1, 3, 15, 9, tzinfo=ZONE)
    starts = weekly(first, 5)
    window: dict[str, Any] = {
        "window_start": first - timedelta(days=1),
        "window_end": coming(99),
    }
    await calendar.apply_series(expand("s", starts), **window)
    before = [meeting["id"] for meeting in await meetings(database)]
    later = weekly(first + timedelta(days=1, hours=14), 5)
    await calendar.apply_series(expand("s", later), **window)
    assert [meeting["id"] for meeting in await meetings(database)] == before


async def test_a_deleted_series_that_is_restored_has_its_meetings_again(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    before = await ids_by_start(database)
    await calendar.apply(tombstone("s"))
    assert await calendar.apply_series(expand("s", starts, etag='"2"')) == {
        "updated": 3
    }
    assert await ids_by_start(database) == before


async def test_a_window_that_is_read_first_cancels_nothing(
    calendar: Calendar, database: Connection
) -> None:
    starts = weekly(coming(), 4)
    _, members = expand("s", starts)
    assert await calendar.apply(*members, upsert_only=True) == {"created": 4}
    counts = await calendar.apply_series(expand("s", starts))
    assert counts == {"unchanged": 4}
    row = await mirrored(database, occurrence_id("s", starts[0]))
    assert row["series_id"] is not None
    assert await calendar.apply(tombstone("s"), upsert_only=True) == {"unchanged": 1}
    assert await cancelled(database) == []
