"""What a user changed, against what the calendar says."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.builders import add_member, make_user
from tests.support.events import (
    Calendar,
    coming,
    make_event,
    meetings,
    tombstone,
)
from tests.support.sessions import Connection

AsUser = Callable[..., Awaitable[Connection]]

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
async def user(calendar: Calendar, database: Connection, as_user: AsUser) -> Connection:
    """A member of the calendar's organization."""
    user_id = await make_user(database)
    await add_member(database, calendar.organization_id, user_id)
    return await as_user(user_id)


async def only_meeting(database: Connection) -> Any:
    (meeting,) = await meetings(database)
    return meeting


async def edits(database: Connection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await only_meeting(database))["edits"])
    return found


async def conflicts(database: Connection) -> list[dict[str, Any]]:
    rows = await database.fetch(
        """
        select field, base, ours, theirs, winner, resolved_at is not null as resolved
        from public.sync_conflicts
        order by created_at, field
        """
    )
    return [
        dict(row) | {key: json.loads(row[key]) for key in ("base", "ours", "theirs")}
        for row in rows
    ]


async def mark_sent(database: Connection, field: str, value: Any) -> None:
    """Note, as a push does before its call, what it sends of the current version."""
    await database.execute("set role sync_engine")
    await database.execute(
        """
        update public.meetings
        set edits = jsonb_set(edits, array[$1, 'sent'], jsonb_build_object(
          'value', $2::jsonb, 'version', edits -> $1 -> 'version'))
        """,
        field,
        json.dumps(value),
    )
    await database.execute("reset role")


async def test_an_edit_is_noted_with_its_base(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Ours'")
    await user.execute("update public.meetings set title = 'Ours, again'")
    meeting = await only_meeting(database)
    assert (meeting["sync_state"], meeting["version"]) == ("pending", 3)
    noted = await edits(database)
    assert set(noted) == {"title"}
    assert noted["title"]["base"] == "Visit"
    assert noted["title"]["version"] == 3
    assert datetime.fromisoformat(noted["title"]["at"]) <= datetime.now(UTC)


async def test_start_and_end_are_one_edit(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute(
        "update public.meetings set ends_at = ends_at + interval '1 hour'"
    )
    noted = await edits(database)
    assert set(noted) == {"time"}
    base = noted["time"]["base"]
    assert datetime.fromisoformat(base["starts_at"]) == coming()
    assert datetime.fromisoformat(base["ends_at"]) == coming() + timedelta(hours=1)


async def test_an_edit_taken_back_is_none(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Ours'")
    await user.execute("update public.meetings set title = 'Visit '")
    assert await edits(database) == {}
    assert (await only_meeting(database))["sync_state"] == "synced"


@pytest.mark.parametrize(
    "change",
    [
        "client_id = null",
        "metadata = '{\"room\": 2}'",
        "attendee_phone = '1'",
        "status = 'completed'",
        "status = 'scheduled'",
        "title = 'Visit'",
    ],
)
async def test_what_no_calendar_knows_is_no_edit(
    calendar: Calendar, database: Connection, user: Connection, change: str
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute(f"update public.meetings set {change}")
    assert await edits(database) == {}
    assert (await only_meeting(database))["sync_state"] == "synced"


async def test_a_calendar_that_is_only_read_has_nothing_to_be_told(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, direction="inbound")
    await calendar.apply(make_event("a"))
    await database.execute("update public.meetings set title = 'Ours'")
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["edits"]) == ("Ours", "{}")
    assert meeting["sync_state"] == "synced"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", uuid4()),
        ("organization_id", uuid4()),
        ("calendar_id", uuid4()),
        ("event_id", uuid4()),
        ("sync_state", "failed"),
        ("sync_error", "x"),
        ("edits", '{"a": 1}'),
        ("version", 9),
        ("merged_into", uuid4()),
        ("created_at", LONG_AGO),
    ],
)
async def test_nobody_but_the_engine_writes_its_columns(
    calendar: Calendar, database: Connection, column: str, value: object
) -> None:
    await calendar.apply(make_event("a"))
    with pytest.raises(asyncpg.PostgresError, match=column) as refused:
        await database.execute(f"update public.meetings set {column} = $1", value)
    assert refused.value.sqlstate == "CS030"


async def test_a_meeting_that_a_user_makes_is_here_only(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await user.execute(
        """
        insert into public.meetings (organization_id, title, starts_at, ends_at)
        values ($1, 'Mine', now(), now())
        """,
        calendar.organization_id,
    )
    await database.execute(
        """
        insert into public.meetings
          (organization_id, title, starts_at, ends_at, sync_state, edits, version)
        values ($1, 'Forged', now(), now(), 'synced', '{"title": {}}', 7)
        """,
        calendar.organization_id,
    )
    for meeting in await meetings(database):
        assert meeting["sync_state"] == "local"
        assert (meeting["edits"], meeting["version"]) == ("{}", 1)


async def test_what_was_not_edited_follows_the_calendar(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Ours'")
    assert await calendar.apply(make_event("a", location="Room 2")) == {"updated": 1}
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["location"]) == ("Ours", "Room 2")
    assert meeting["sync_state"] == "pending"
    assert set(await edits(database)) == {"title"}
    assert await conflicts(database) == []


async def test_both_sides_saying_the_same_settles_the_edit(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set description = E'One\\nTwo'")
    await calendar.apply(make_event("a", description=" One\r\nTwo\n"))
    meeting = await only_meeting(database)
    assert meeting["description"] == "One\nTwo"
    assert (meeting["edits"], meeting["sync_state"]) == ("{}", "synced")
    assert await conflicts(database) == []


async def test_an_echo_of_what_was_sent_settles_that_version(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Sent'")
    await mark_sent(database, "title", "Sent")
    await calendar.apply(make_event("a", title="Sent"))
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["edits"]) == ("Sent", "{}")
    assert meeting["sync_state"] == "synced"


async def test_an_echo_of_an_older_version_keeps_the_newer_edit(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Sent'")
    await mark_sent(database, "title", "Sent")
    await user.execute("update public.meetings set title = 'Newer'")
    await calendar.apply(make_event("a", title="Sent"))
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["sync_state"]) == ("Newer", "pending")
    noted = await edits(database)
    assert noted["title"]["base"] == "Sent"
    assert "sent" not in noted["title"]
    assert await conflicts(database) == []


async def test_an_edit_back_to_the_base_stays_while_something_else_was_sent(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Sent'")
    await mark_sent(database, "title", "Sent")
    await user.execute("update public.meetings set title = 'Visit'")
    await calendar.apply(make_event("a", title="Sent"))
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["sync_state"]) == ("Visit", "pending")


@pytest.mark.parametrize(
    ("policy", "theirs_at", "winner", "shown"),
    [
        ("latest", LONG_AGO, "ours", "Ours"),
        ("latest", LATER, "theirs", "Theirs"),
        ("provider", LONG_AGO, "theirs", "Theirs"),
        ("local", LATER, "ours", "Ours"),
    ],
)
async def test_a_conflict_is_decided_by_the_calendars_policy(
    database: Connection,
    worker: Connection,
    policy: str,
    theirs_at: datetime,
    winner: str,
    shown: str,
) -> None:
    calendar = await Calendar.create(database, worker, conflict_policy=policy)
    await calendar.apply(make_event("a"))
    await database.execute("update public.meetings set title = 'Ours'")
    theirs = make_event("a", title="Theirs", provider_updated_at=theirs_at)
    await calendar.apply(theirs)
    meeting = await only_meeting(database)
    assert meeting["title"] == shown
    assert await conflicts(database) == [
        {
            "field": "title",
            "base": "Visit",
            "ours": "Ours",
            "theirs": "Theirs",
            "winner": winner,
            "resolved": True,
        }
    ]
    if winner == "ours":
        assert meeting["sync_state"] == "pending"
        assert (await edits(database))["title"]["base"] == "Theirs"
    else:
        assert (meeting["sync_state"], meeting["edits"]) == ("synced", "{}")
    # The same value of theirs was weighed; it is no conflict again.
    await calendar.apply(
        make_event("a", title="Theirs", provider_updated_at=theirs_at, etag='"2"')
    )
    assert len(await conflicts(database)) == 1


async def test_where_a_person_is_asked_ours_is_shown_and_the_conflict_stays_open(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, conflict_policy="ask")
    await calendar.apply(make_event("a"))
    await database.execute("update public.meetings set title = 'Ours'")
    await calendar.apply(make_event("a", title="Theirs"))
    await calendar.apply(make_event("a", title="Theirs, again"))
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["sync_state"]) == ("Ours", "conflict")
    (open_,) = await conflicts(database)
    assert (open_["theirs"], open_["winner"]) == ("Theirs, again", None)
    assert not open_["resolved"]
    # Another field goes on meanwhile.
    await calendar.apply(make_event("a", title="Theirs, again", location="Room 2"))
    meeting = await only_meeting(database)
    assert (meeting["location"], meeting["sync_state"]) == ("Room 2", "conflict")
    # Theirs becomes what ours is: nobody needs to be asked.
    await calendar.apply(make_event("a", title="Ours", location="Room 2"))
    meeting = await only_meeting(database)
    assert (meeting["edits"], meeting["sync_state"]) == ("{}", "synced")
    (closed,) = await conflicts(database)
    assert closed["resolved"]


async def test_a_moved_start_conflicts_as_one_field(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute(
        "update public.meetings set starts_at = starts_at - interval '1 hour'"
    )
    theirs = coming(hour=14)
    await calendar.apply(make_event("a", starts_at=theirs, provider_updated_at=LATER))
    meeting = await only_meeting(database)
    assert (meeting["starts_at"], meeting["ends_at"]) == (
        theirs,
        theirs + timedelta(hours=1),
    )
    (conflict,) = await conflicts(database)
    assert (conflict["field"], conflict["winner"]) == ("time", "theirs")


async def test_a_deletion_there_against_a_status_set_here_is_a_conflict(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, conflict_policy="local")
    await calendar.apply(make_event("a", status="tentative"))
    await database.execute("update public.meetings set status = 'confirmed'")
    await calendar.apply(tombstone("a"))
    assert (await only_meeting(database))["status"] == "confirmed"
    (conflict,) = await conflicts(database)
    assert (conflict["field"], conflict["winner"]) == ("status", "ours")


async def test_a_deletion_there_cancels_a_meeting_whose_title_was_edited_here(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set title = 'Ours'")
    assert await calendar.apply(tombstone("a")) == {"cancelled": 1}
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["status"]) == ("Ours", "cancelled")
    assert set(await edits(database)) == {"title"}


async def test_a_meeting_cancelled_here_stays_so_while_its_event_is_not_told(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set status = 'cancelled'")
    await calendar.apply(make_event("a", location="Room 2"))
    meeting = await only_meeting(database)
    assert (meeting["status"], meeting["location"]) == ("cancelled", "Room 2")
    assert set(await edits(database)) == {"status"}


async def test_what_was_edited_without_the_event_is_known_when_it_comes_back(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(
        database, worker, event_tag="#v", conflict_policy="local"
    )
    await calendar.apply(make_event("a", title="Ann #v"))
    await calendar.apply(make_event("a", title="Ann"))
    await database.execute("update public.meetings set title = 'Ann B'")
    assert (await only_meeting(database))["sync_state"] == "local"
    await calendar.apply(make_event("a", title="Ann #v", location="Room 2"))
    meeting = await only_meeting(database)
    assert (meeting["title"], meeting["location"]) == ("Ann B", "Room 2")
    assert meeting["sync_state"] == "pending"


async def test_a_scheduled_meeting_stays_so_while_its_calendar_confirms(
    calendar: Calendar, database: Connection, user: Connection
) -> None:
    await calendar.apply(make_event("a"))
    await user.execute("update public.meetings set status = 'scheduled'")
    await calendar.apply(make_event("a", location="Room 2"))
    assert (await only_meeting(database))["status"] == "scheduled"
    await calendar.apply(make_event("a", status="tentative"))
    assert (await only_meeting(database))["status"] == "tentative"


async def test_what_a_merge_of_two_meetings_drops_is_kept_as_a_conflict(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    other = await Calendar.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="bob@example.org",
    )
    await calendar.apply(make_event("a", title="Older"))
    older = (await only_meeting(database))["id"]
    await other.apply(make_event("b", title="Younger", ical_uid="b"))
    await database.execute(
        "update public.meetings set title = 'Edited' where title = 'Younger'"
    )
    # The other calendar's event turns out to be the same thing.
    await other.apply(
        make_event("b", ical_uid="a@google.com", is_organizer=False, title="Younger")
    )
    meeting = await only_meeting(database)
    assert (meeting["id"], meeting["title"]) == (older, "Older")
    merged = await database.fetchrow(
        "select * from public.meetings where merged_into is not null"
    )
    assert merged is not None
    assert merged["merged_into"] == older
    (conflict,) = await conflicts(database)
    assert (conflict["ours"], conflict["theirs"]) == ("Edited", "Older")
    linked = await database.fetch(
        "select distinct meeting_id from public.calendar_events"
    )
    assert [row["meeting_id"] for row in linked] == [older]
    keys = await database.fetch("select meeting_id from sync.meeting_keys")
    assert {row["meeting_id"] for row in keys} == {UUID(str(older))}
