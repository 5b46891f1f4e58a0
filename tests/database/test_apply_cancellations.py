"""Who may cancel, what absence means, and the brake."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.events import (
    ZONE,
    Calendar,
    Event,
    coming,
    expand,
    make_event,
    make_occurrence,
    meetings,
    mirrored,
    tombstone,
    weekly,
)
from tests.support.sessions import Connection

NOW = datetime.now(ZONE).replace(microsecond=0)


async def statuses(database: Connection) -> dict[str, str]:
    return {meeting["title"]: meeting["status"] for meeting in await meetings(database)}


async def colleague_of(
    calendar: Calendar, database: Connection, worker: Connection
) -> Calendar:
    """Another calendar of the same organization."""
    return await Calendar.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )


def copy_of(event: Event, **fields: Any) -> Event:
    """The same event as a guest's calendar has it."""
    return make_event(
        **{
            "event_id": event["provider_event_id"],
            "starts_at": event["starts_at"],
            "title": event["title"],
            "is_organizer": False,
            "own_response": "accepted",
            **fields,
        }
    )


@pytest.mark.parametrize("how", ["deleted", "declined"])
async def test_a_guests_copy_that_goes_leaves_the_meeting(
    calendar: Calendar, database: Connection, how: str
) -> None:
    event = make_event("a", is_organizer=False, own_response="accepted")
    await calendar.apply(event)
    gone = (
        tombstone("a")
        if how == "deleted"
        else make_event("a", is_organizer=False, own_response="declined")
    )
    assert await calendar.apply(gone) == {"detached": 1}
    (meeting,) = await meetings(database)
    assert meeting["status"] == "confirmed"
    assert meeting["sync_state"] == "local"
    assert (await mirrored(database, "a"))["scope"] == "detached"


async def test_the_organizers_deletion_cancels_though_a_guest_still_has_it(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    bobs = await colleague_of(calendar, database, worker)
    event = make_event("a")
    await calendar.apply(event)
    await bobs.apply(copy_of(event))
    assert await calendar.apply(tombstone("a")) == {"cancelled": 1}
    # What the guest's calendar says of it a moment before it hears, revives nothing.
    assert await bobs.apply(copy_of(event, etag='"2"')) == {}
    assert await statuses(database) == {"Visit": "cancelled"}
    assert await bobs.apply(tombstone("a")) == {"detached": 1}


async def test_an_event_of_two_colleagues_is_one_meeting_of_the_organizers_copy(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    bobs = await colleague_of(calendar, database, worker)
    event = make_event("a", title="Ada's words")
    guests = copy_of(event, title="Bob's words")
    assert await bobs.apply(guests) == {"created": 1}
    (meeting,) = await meetings(database)
    assert meeting["calendar_id"] == bobs.id
    assert await calendar.apply(event) == {"updated": 1}
    (taken,) = await meetings(database)
    assert (taken["id"], taken["title"]) == (meeting["id"], "Ada's words")
    assert taken["calendar_id"] == calendar.id
    # The guest's copy is a link, and says nothing any more.
    assert await bobs.apply(copy_of(event, title="Bob again")) == {}
    assert await statuses(database) == {"Ada's words": "confirmed"}
    linked = await database.fetchval(
        "select count(*) from public.calendar_events where meeting_id = $1",
        meeting["id"],
    )
    assert linked == 2


async def test_occurrences_in_two_calendars_are_one_meeting_each(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    bobs = await colleague_of(calendar, database, worker)
    starts = weekly(coming(), 3)
    await calendar.apply_series(expand("s", starts))
    guests = expand("s", starts, is_organizer=False)
    assert await bobs.apply_series(guests) == {}
    assert len(await meetings(database)) == 3
    later = [start + timedelta(days=1) for start in starts]
    before = [meeting["id"] for meeting in await meetings(database)]
    await calendar.apply_series(expand("s", later))
    await bobs.apply_series(expand("s", later, is_organizer=False))
    after = await meetings(database)
    assert [meeting["id"] for meeting in after] == before
    assert [meeting["starts_at"] for meeting in after] == later


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_series_that_a_guest_has_already_is_not_the_rest_of_one_that_is_cut(
    calendar: Calendar, database: Connection, worker: Connection, *, is_known: bool
) -> None:
    bobs = await colleague_of(calendar, database, worker)
    cut, other = weekly(coming(), 2), [coming() + timedelta(days=1)]
    for theirs, is_organizer in ((calendar, True), (bobs, False)):
        whole = [expand("s", cut, is_organizer=is_organizer)]
        if is_known or theirs is bobs:
            whole.append(expand("t", other, is_organizer=is_organizer))
        await theirs.apply_series(*whole)
    if is_known:
        await calendar.apply(tombstone("t"))
    before = {one["starts_at"]: one["id"] for one in await meetings(database)}

    await calendar.apply_series(expand("s", cut[:1]), expand("t", other))
    await bobs.apply_series(expand("s", cut[:1], is_organizer=False))

    after = await meetings(database)
    assert {one["starts_at"]: one["id"] for one in after} == before
    assert {one["starts_at"]: one["status"] for one in after} == {
        cut[0]: "confirmed",
        other[0]: "confirmed",
        cut[1]: "cancelled",
    }


async def test_moves_heard_at_once_cancel_nothing_that_lives_beyond_the_window(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    bobs = await colleague_of(calendar, database, worker)
    monday = weekly(coming(2), 4)
    tuesday = [day + timedelta(days=1) for day in monday]
    a_week_earlier = [tuesday[0] - timedelta(days=7), *tuesday]
    end = {
        "window_end": monday[-1] + timedelta(hours=12),
        "read_until": monday[-1] + timedelta(days=7),
    }
    await calendar.apply_series(expand("s", monday), **end)
    for starts in (monday, tuesday, a_week_earlier):
        await bobs.apply_series(expand("s", starts, is_organizer=False))

    await calendar.apply_series(expand("s", a_week_earlier), **end)

    assert {one["status"] for one in await meetings(database)} == {"confirmed"}


async def test_other_organizations_have_meetings_of_their_own(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    elsewhere = await Calendar.create(database, worker, account_email="x@example.org")
    assert await calendar.apply(make_event("a")) == {"created": 1}
    assert await elsewhere.apply(make_event("a")) == {"created": 1}
    assert len({meeting["id"] for meeting in await meetings(database)}) == 2


@pytest.mark.parametrize("first", ["deleted here", "arrived there"])
async def test_a_move_to_another_calendar_keeps_the_meeting(
    calendar: Calendar, database: Connection, worker: Connection, first: str
) -> None:
    other = await colleague_of(calendar, database, worker)
    await calendar.apply(make_event("a"))
    (before,) = await meetings(database)
    moved = make_event("a", title="Moved", starts_at=coming(hour=12))
    if first == "deleted here":
        assert await calendar.apply(tombstone("a")) == {"cancelled": 1}
        assert await other.apply(moved) == {"updated": 1}
    else:
        await other.apply(moved)
        assert await calendar.apply(tombstone("a")) == {"updated": 1}
    (after,) = await meetings(database)
    assert after["id"] == before["id"]
    assert after["status"] == "confirmed"
    assert after["title"] == "Moved"
    assert after["starts_at"] == coming(hour=12)
    assert after["calendar_id"] == other.id
    assert after["sync_state"] == "synced"


@pytest.mark.parametrize("status", ["completed", "no_show"])
async def test_what_took_place_is_not_cancelled(
    calendar: Calendar, database: Connection, status: str
) -> None:
    await calendar.apply(make_event("a"))
    await database.execute("update public.meetings set status = $1", status)
    assert await calendar.apply(make_event("a", title="Renamed")) == {"updated": 1}
    assert await statuses(database) == {"Renamed": status}
    assert await calendar.apply(tombstone("a")) == {}
    assert await statuses(database) == {"Renamed": status}


async def test_what_is_over_is_not_cancelled(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("a", starts_at=NOW - timedelta(days=1)))
    assert await calendar.apply(tombstone("a")) == {}
    assert await statuses(database) == {"Visit": "confirmed"}
    assert (await mirrored(database, "a"))["status"] == "cancelled"


async def test_what_a_full_round_does_not_meet_is_cancelled(
    calendar: Calendar, database: Connection
) -> None:
    kept, gone = make_event("kept", title="Kept"), make_event("gone", title="Gone")
    before_the_window = make_event(
        "old", title="Old", starts_at=NOW - timedelta(days=31), ends_at=coming()
    )
    await calendar.apply(kept, gone, before_the_window)
    assert await calendar.full_round(kept) == {"unchanged": 1, "cancelled": 1}
    assert await statuses(database) == {
        "Kept": "confirmed",
        "Gone": "cancelled",
        "Old": "confirmed",
    }
    assert await database.fetchval("select count(*) from sync.seen_events") == 0


async def test_what_vanished_by_absence_and_comes_back_unchanged_is_alive_again(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    event = make_event("a")
    await calendar.apply(event)
    (before,) = await meetings(database)
    await calendar.full_round()
    differing = await worker.fetchval(
        "select sync.compare_hashes($1, $2, $3, false)",
        calendar.id,
        ["a"],
        [bytes.fromhex(event["content_hash"])],
    )
    assert differing == [1]
    assert await calendar.apply(event) == {"updated": 1}
    (after,) = await meetings(database)
    assert (after["id"], after["status"]) == (before["id"], "confirmed")


async def test_a_series_not_met_takes_its_occurrences_along(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply_series(expand("s", weekly(coming(), 3)))
    assert await calendar.full_round() == {"cancelled": 3}


async def test_occurrences_follow_their_series_and_not_their_absence(
    calendar: Calendar, database: Connection
) -> None:
    master, members = expand("s", weekly(coming(), 3))
    await calendar.apply_series((master, members))
    assert await calendar.full_round(master) == {"unchanged": 1}
    assert await statuses(database) == {"Visit": "confirmed"}


async def test_the_absence_of_an_exception_or_an_old_series_is_for_a_read_by_id(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    old = weekly(NOW - timedelta(days=70), 20)
    await calendar.apply_series(expand("old", old))
    starts = weekly(coming(), 3)
    master, members = expand("s", starts)
    exception = make_occurrence("s", starts[1], role="exception", title="Moved")
    await calendar.apply_series((master, members), more=[exception])
    await worker.execute(
        "select sync.compare_hashes($1, $2, $3, true)",
        calendar.id,
        ["s"],
        [bytes.fromhex(master["content_hash"])],
    )
    doubtful = await worker.fetch(
        "select sync.doubtful_events($1, $2) as id order by id",
        calendar.id,
        NOW - timedelta(days=30),
    )
    assert [row["id"] for row in doubtful] == ["old", exception["provider_event_id"]]
    assert await calendar.full_round(master) == {"unchanged": 1}
    assert "cancelled" not in (await statuses(database)).values()


def many(count: int) -> list[Event]:
    return [
        make_event(f"e{n}", title=f"E{n}", starts_at=coming() + timedelta(hours=n))
        for n in range(count)
    ]


async def test_ten_deletions_at_once_are_believed(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(*many(12))
    gone = [tombstone(f"e{n}") for n in range(10)]
    assert await calendar.apply(*gone) == {"cancelled": 10}


async def test_a_fifth_of_the_calendar_at_once_is_believed(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(*many(60))
    gone = [tombstone(f"e{n}") for n in range(12)]
    assert await calendar.apply(*gone) == {"cancelled": 12}


async def test_a_series_counts_once_for_the_brake(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply_series(expand("s", weekly(coming(), 20)))
    assert await calendar.apply(tombstone("s")) == {"cancelled": 20}


async def held(calendar: Calendar) -> list[Event]:
    """Eleven of twelve events vanish."""
    events = many(12)
    await calendar.apply(*events)
    assert await calendar.apply(*[tombstone(f"e{n}") for n in range(11)]) == {
        "held": 11
    }
    return events


async def test_more_is_held_for_a_person(
    calendar: Calendar, database: Connection
) -> None:
    await held(calendar)
    assert set((await statuses(database)).values()) == {"confirmed"}
    assert (await mirrored(database, "e0"))["status"] == "confirmed"
    (alert,) = await database.fetch(
        "select * from public.sync_alerts where resolved_at is null"
    )
    assert (alert["kind"], alert["subject_id"]) == ("deletions_held", calendar.id)
    assert alert["organization_id"] == calendar.organization_id
    # What is held neither counts again nor slips through.
    assert await calendar.apply(tombstone("e0", etag='"3"'), tombstone("e11")) == {
        "cancelled": 1
    }


async def test_a_held_series_is_held_whole(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(*many(11))
    await calendar.apply_series(expand("s", weekly(coming(), 3)))
    counts = await calendar.apply(
        *[tombstone(f"e{n}") for n in range(11)], tombstone("s")
    )
    assert counts == {"held": 15}
    assert (await mirrored(database, "s"))["status"] == "confirmed"


async def test_released_deletions_are_carried_out(
    calendar: Calendar, database: Connection
) -> None:
    await held(calendar)
    released = await database.fetchval(
        "select sync.release_held_cancellations($1)", calendar.id
    )
    assert released == 11
    assert list((await statuses(database)).values()).count("cancelled") == 11
    assert await database.fetchval("select count(*) from sync.held_cancellations") == 0
    assert await database.fetchval("select resolved_at from public.sync_alerts")


async def test_dropped_deletions_leave_the_meetings(
    calendar: Calendar, database: Connection
) -> None:
    events = await held(calendar)
    dropped = await database.fetchval(
        "select sync.drop_held_cancellations($1)", calendar.id
    )
    assert dropped == 11
    assert set((await statuses(database)).values()) == {"confirmed"}
    # The provider still has none of them: nothing to hold any more.
    assert await calendar.full_round(events[11]) == {"unchanged": 1}
    before = [meeting["id"] for meeting in await meetings(database)]
    assert await calendar.apply(*events) == {"updated": 11, "unchanged": 1}
    assert [meeting["id"] for meeting in await meetings(database)] == before


async def test_what_comes_back_is_not_held_any_more(
    calendar: Calendar, database: Connection
) -> None:
    events = await held(calendar)
    assert await calendar.apply(*events) == {"unchanged": 1}
    assert await database.fetchval("select count(*) from sync.held_cancellations") == 0
    assert set((await statuses(database)).values()) == {"confirmed"}
