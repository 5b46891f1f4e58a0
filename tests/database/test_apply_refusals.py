"""What can't be applied is set aside, what isn't wanted makes no meeting."""

import asyncio
from base64 import b32encode
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import pytest

from tests.support.events import (
    Calendar,
    Event,
    all_day,
    coming,
    make_event,
    make_occurrence,
    make_series,
    meetings,
    mirrored,
    tombstone,
)
from tests.support.sessions import Connection

NEVER = {"starts_at": None, "ends_at": None}
# More than an index holds, and nothing that compresses.
LONG = b32encode(b"".join(sha256(b"%d" % n).digest() for n in range(125))).decode()
DAY = date(2027, 3, 1)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(make_event("bad") | NEVER, "it has no start", id="no start"),
        pytest.param(
            make_event("bad", ends_at=coming() - timedelta(hours=1)),
            "its end is before its start",
            id="end before start",
        ),
        pytest.param(
            make_event("bad", time_zone="Mars/Olympus"),
            "unknown time zone Mars/Olympus",
            id="zone",
        ),
        pytest.param(
            make_event("bad", time_zone="+05"), "unknown time zone +05", id="no place"
        ),
        pytest.param(
            make_event("bad", time_zone="EST5EDT,M3.2.0/2,M11.1.0/2"),
            "unknown time zone EST5EDT,M3.2.0/2,M11.1.0/2",
            id="a rule with slashes",
        ),
        pytest.param(
            all_day("bad", DAY) | {"start_date": None}, "it has no start", id="no date"
        ),
        pytest.param(
            all_day("bad", DAY, days=0), "its end is not after its start", id="no day"
        ),
        pytest.param(
            make_event("bad", title="x" * 1_000_000),
            "its title has 1000000 characters",
            id="a title of 1 MB",
        ),
        pytest.param(
            make_event("bad", role="occurrence", series_provider_id="s"),
            "an occurrence without its original start",
            id="no original start",
        ),
        pytest.param(
            make_event("bad", ical_uid=LONG),
            "its iCalUID has 6400 bytes",
            id="a long iCalUID",
        ),
        pytest.param(
            make_event("bad", series_provider_id=LONG)
            | {"role": "exception", "original_start": coming()},
            "the id of its series has 6400 bytes",
            id="a long id of a series",
        ),
        pytest.param(
            make_event("bad", role=None),
            "it does not say whether it is a single event or of a series",
            id="no role",
        ),
    ],
)
async def test_a_bad_event_is_set_aside_and_the_pages_others_are_applied(
    calendar: Calendar, database: Connection, bad: Event, reason: str
) -> None:
    counts = await calendar.apply(make_event("a"), bad, make_event("b"))
    assert counts == {"created": 2, "set_aside": 1}
    (aside,) = await database.fetch("select * from sync.set_aside_events")
    assert (aside["provider_event_id"], aside["reason"]) == ("bad", reason)
    assert len(aside["raw"]) < 70_000
    # It comes again well.
    assert await calendar.apply(make_event("bad")) == {"created": 1}
    assert await database.fetch("select * from sync.set_aside_events") == []


async def test_an_event_without_an_id_is_set_aside(
    calendar: Calendar, database: Connection
) -> None:
    counts = await calendar.apply(make_event(""), make_event("a"))
    assert counts == {"created": 1, "set_aside": 1}
    reason = await database.fetchval("select reason from sync.set_aside_events")
    assert reason == "it has no id"


async def test_an_id_longer_than_any_providers_stops_no_page(
    calendar: Calendar, database: Connection
) -> None:
    unread = {"provider_event_id": LONG.lower(), "reason": "no event", "raw": {}}
    counts = await calendar.apply(make_event(LONG), make_event("a"), malformed=[unread])
    assert counts == {"created": 1, "set_aside": 2}
    reasons = await database.fetch("select reason from sync.set_aside_events")
    assert {row["reason"] for row in reasons} == {"its id has 6400 bytes", "no event"}
    # Nor does a full round that meets it.
    places = await database.fetchval(
        "select sync.compare_hashes($1, $2, $3, true)", calendar.id, [LONG], [b""]
    )
    assert places == [1]


async def test_an_address_longer_than_any_makes_no_client(
    calendar: Calendar, database: Connection
) -> None:
    people = [{"email": f"{LONG}@example.com"}, {"email": "ann@example.com"}]
    assert await calendar.apply(make_event("a", attendees=people)) == {"created": 1}
    (meeting,) = await meetings(database)
    assert meeting["attendee_email"] == "ann@example.com"


async def test_a_text_made_to_keep_us_busy_is_not_searched_to_its_end(
    calendar: Calendar, database: Connection
) -> None:
    text = "#visit " + "".join(f"&#{n};" for n in range(1, 55_000))
    async with asyncio.timeout(2):  # to the end it takes half a minute
        found = await database.fetchval("select sync.has_tag('#visit', '', $1)", text)
        missing = await database.fetchval("select sync.has_tag('#call', '', $1)", text)
    assert (found, missing) == (True, False)


async def test_what_the_worker_could_not_read_is_kept_with_its_reason(
    calendar: Calendar, database: Connection
) -> None:
    unread: list[dict[str, Any]] = [
        {"provider_event_id": "a", "reason": "start: not a date", "raw": {"id": "a"}},
        {"provider_event_id": None, "reason": "not an object", "raw": []},
    ]
    assert await calendar.apply(malformed=unread) == {"set_aside": 2}
    assert await calendar.apply(malformed=unread) == {"set_aside": 2}
    reasons = await database.fetch(
        "select reason from sync.set_aside_events order by reason"
    )
    assert [row["reason"] for row in reasons] == ["not an object", "start: not a date"]


async def test_an_id_told_twice_counts_as_told_last(
    calendar: Calendar, database: Connection
) -> None:
    counts = await calendar.apply(
        make_event("a", title="First"), make_event("a", title="Last")
    )
    assert counts == {"created": 1}
    assert [meeting["title"] for meeting in await meetings(database)] == ["Last"]


@pytest.mark.parametrize(
    "unwanted",
    [
        {"event_type": "birthday"},
        {"event_type": "workingLocation"},
        {"event_type": "focusTime"},
        {"event_type": "outOfOffice"},
        {"event_type": "fromGmail"},
        {"own_response": "declined"},
        {"role": "slot"},
    ],
    ids=str,
)
async def test_what_is_not_wanted_is_mirrored_and_makes_no_meeting(
    calendar: Calendar, database: Connection, unwanted: dict[str, Any]
) -> None:
    assert await calendar.apply(make_event("a", **unwanted)) == {}
    assert await meetings(database) == []
    scope = (await mirrored(database, "a"))["scope"]
    assert scope == ("in" if "role" in unwanted else "out_of_scope")


async def test_what_was_made_out_of_a_mail_is_a_meeting_where_that_is_wanted(
    calendar: Calendar, database: Connection
) -> None:
    await database.execute("update calendars set mail_events = true")
    assert await calendar.apply(make_event("a", event_type="fromGmail")) == {
        "created": 1
    }


async def test_a_declined_invitation_leaves_its_meeting_without_it(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("a", own_response="accepted"))
    (before,) = await meetings(database)
    assert await calendar.apply(make_event("a", own_response="declined")) == {
        "detached": 1
    }
    (after,) = await meetings(database)
    assert (after["id"], after["status"]) == (before["id"], "confirmed")
    assert after["sync_state"] == "local"
    assert (await mirrored(database, "a"))["scope"] == "detached"


@pytest.mark.parametrize(
    ("title", "description", "has"),
    [
        ("Visit #Client", None, True),
        ("Visit", "for a <b>#cli</b>ent", True),
        ("Visit", "<p>one</p><p>#client</p>", True),
        ("Visit", "&#35;client &amp; more", True),
        ("Visit", "<a href='#client'>there</a>", False),
        ("Visit #clients", None, False),
        ("client", "#", False),
        (None, None, False),
    ],
)
async def test_the_tag_is_looked_for_as_a_person_reads(
    database: Connection,
    worker: Connection,
    title: str | None,
    description: str | None,
    has: bool,
) -> None:
    calendar = await Calendar.create(database, worker, event_tag="#client")
    await calendar.apply(make_event("a", title=title, description=description))
    assert (len(await meetings(database)) == 1) is has


async def test_a_tag_taken_off_and_put_back_is_the_same_meeting(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, event_tag="[visit]")
    await calendar.apply(make_event("a", title="Ann [VISIT]"))
    (before,) = await meetings(database)
    assert await calendar.apply(make_event("a", title="Ann")) == {"detached": 1}
    (kept,) = await meetings(database)
    assert (kept["title"], kept["status"]) == ("Ann [VISIT]", "confirmed")
    assert await calendar.apply(make_event("a", title="Ann B [visit]")) == {
        "updated": 1
    }
    (back,) = await meetings(database)
    assert (back["id"], back["title"]) == (before["id"], "Ann B [visit]")
    assert back["sync_state"] == "synced"
    assert (await mirrored(database, "a"))["scope"] == "in"


async def test_a_detached_event_that_is_deleted_leaves_its_meeting_alone(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, event_tag="#v")
    await calendar.apply(make_event("a", title="Ann #v"))
    await calendar.apply(make_event("a", title="Ann"))
    assert await calendar.apply(tombstone("a")) == {}
    (meeting,) = await meetings(database)
    assert meeting["status"] == "confirmed"


@pytest.mark.parametrize("visibility", ["private", "confidential"])
async def test_a_private_event_shows_as_busy_to_everybody_but_its_owner(
    calendar: Calendar, database: Connection, visibility: str
) -> None:
    secret = make_event(
        "a",
        title="Divorce lawyer",
        description="case 12",
        location="Court",
        attendees=[{"email": "lawyer@example.com", "name": "L"}],
        conference_url="https://meet.example.com/secret",
        organizer_email="office@lawyer.example.com",
        visibility=visibility,
    )
    await calendar.apply(secret)
    (meeting,) = await meetings(database)
    row = await mirrored(database, "a")
    for shown in (meeting, row):
        assert shown["title"] == "Busy"
        assert not any(
            word in str(dict(shown))
            for word in ("ivorce", "case 12", "Court", "lawyer")
        )
    details = await database.fetchrow("select * from public.private_event_details")
    assert details is not None
    assert details["title"] == "Divorce lawyer"
    assert "lawyer@example.com" in details["attendees"]
    assert await database.fetchval("select count(*) from public.clients") == 0
    # Made public, it is what it is.
    await calendar.apply(make_event("a", title="Lawyer"))
    assert [meeting["title"] for meeting in await meetings(database)] == ["Lawyer"]
    assert await database.fetch("select * from public.private_event_details") == []


@pytest.mark.parametrize("before", ["private", "default"])
async def test_who_comes_to_a_private_event_stays_known_where_it_is_told_without_them(
    calendar: Calendar, database: Connection, before: str
) -> None:
    lawyer = [{"email": "lawyer@example.com", "name": "L"}]
    await calendar.apply(make_event("a", visibility=before, attendees=lawyer))
    for title in ("Moved", "Moved again"):
        await calendar.apply(
            make_event("a", visibility="private", title=title, attendees=None)
        )

    details = await database.fetchrow("select * from public.private_event_details")
    assert details is not None
    assert details["title"] == "Moved again"
    assert "lawyer@example.com" in details["attendees"]
    assert (await mirrored(database, "a"))["attendees"] == "[]"


async def test_the_tag_of_a_private_event_is_looked_for_in_what_it_really_says(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, event_tag="#visit")
    await calendar.apply(make_event("a", title="Ann #visit", visibility="private"))
    assert [meeting["title"] for meeting in await meetings(database)] == ["Busy"]


@pytest.mark.parametrize(
    ("zone", "calendar_zone", "midnight"),
    [
        (None, "Europe/Berlin", "2027-02-28T23:00:00+00:00"),
        (None, None, "2027-03-01T05:00:00+00:00"),
        ("Asia/Tokyo", "Europe/Berlin", "2027-02-28T15:00:00+00:00"),
    ],
    ids=["of the calendar", "of the organization", "of the event"],
)
async def test_an_all_day_event_starts_at_midnight_of_the_zone_that_holds(
    database: Connection,
    worker: Connection,
    zone: str | None,
    calendar_zone: str | None,
    midnight: str,
) -> None:
    calendar = await Calendar.create(database, worker, time_zone=calendar_zone)
    await database.execute(
        "update public.organizations set time_zone = 'America/New_York'"
    )
    await calendar.apply(all_day("a", DAY, days=2, time_zone=zone))
    (meeting,) = await meetings(database)
    assert meeting["starts_at"].isoformat() == midnight
    assert meeting["ends_at"] - meeting["starts_at"] == timedelta(days=2)
    assert meeting["start_date"] == DAY
    assert meeting["end_date"] == DAY + timedelta(days=2)
    assert meeting["all_day"]


async def test_the_first_attendee_who_is_none_of_ours_is_whom_the_meeting_is_with(
    calendar: Calendar, database: Connection, worker: Connection
) -> None:
    await Calendar.create(
        database,
        worker,
        organization_id=calendar.organization_id,
        account_email="colleague@example.org",
    )
    people = [
        {"email": "ada@example.org", "self": True, "organizer": True},
        {"email": "room@example.org", "resource": True},
        {"email": "Colleague@example.org"},
        {"email": "Ann@Example.com", "name": "Ann"},
        {"email": "bob@example.com", "name": "Bob"},
    ]
    await calendar.apply(make_event("a", attendees=people))
    (meeting,) = await meetings(database)
    assert meeting["attendee_name"] == "Ann"
    assert meeting["attendee_email"] == "ann@example.com"
    (client,) = await database.fetch("select * from public.clients")
    assert (client["email"], client["name"]) == ("ann@example.com", "Ann")
    assert meeting["client_id"] == client["id"]


async def test_attendees_that_were_left_out_stay_as_they_are_known(
    calendar: Calendar, database: Connection
) -> None:
    await calendar.apply(make_event("a", attendees=[{"email": "ann@example.com"}]))
    await calendar.apply(make_event("a", attendees=None, title="New"))
    (meeting,) = await meetings(database)
    assert (meeting["title"], meeting["attendee_email"]) == ("New", "ann@example.com")
    assert "ann@example.com" in (await mirrored(database, "a"))["attendees"]


async def test_a_declined_series_makes_no_meetings(
    calendar: Calendar, database: Connection
) -> None:
    master = make_series("s", coming(), own_response="declined")
    occurrence = make_occurrence("s", coming(), own_response="declined")
    assert await calendar.apply_series((master, [occurrence])) == {}
    assert await meetings(database) == []


async def test_a_calendar_that_is_only_written_to_makes_no_meetings(
    database: Connection, worker: Connection
) -> None:
    calendar = await Calendar.create(database, worker, direction="outbound")
    assert await calendar.apply(make_event("a")) == {}
    assert (await mirrored(database, "a"))["scope"] == "out_of_scope"


async def test_a_number_too_large_for_us_stops_no_page(
    calendar: Calendar, database: Connection
) -> None:
    assert await calendar.apply(make_event("a", sequence=2**40)) == {"created": 1}
    assert (await mirrored(database, "a"))["sequence"] is None
