"""Outlook's events in our words."""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import available_timezones

import msgspec
import pytest
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from providers.microsoft.events import ItemReader, read_event
from providers.microsoft.zones import WINDOWS_ZONES, iana_name
from providers.model import Event, Item, Malformed

PLAIN: dict[str, Any] = {
    "@odata.type": "#microsoft.graph.event",
    "@odata.etag": 'W/"DwAAABYAAABq1xT7uQ9m"',
    "id": "AAkALgAAPzE7aaa=",
    "changeKey": "DwAAABYAAABq1xT7uQ9m",
    "createdDateTime": "2026-11-18T10:00:00.1234567Z",
    "lastModifiedDateTime": "2026-11-21T07:13:02.7654321Z",
    "originalStartTimeZone": "W. Europe Standard Time",
    "originalEndTimeZone": "W. Europe Standard Time",
    "iCalUId": "040000008200E00074C5B7101A82E008000000009F2A",
    "transactionId": "acme-evt-7201-1",
    "subject": "Budget review",
    "bodyPreview": "Bring numbers",
    "importance": "normal",
    "sensitivity": "normal",
    "isAllDay": False,
    "isCancelled": False,
    "isOrganizer": True,
    "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
    "showAs": "busy",
    "type": "singleInstance",
    "seriesMasterId": None,
    "recurrence": None,
    "isOnlineMeeting": True,
    "onlineMeetingProvider": "teamsForBusiness",
    "onlineMeeting": {"joinUrl": "https://teams.example/l/meetup-join/abc"},
    "onlineMeetingUrl": None,
    "body": {"contentType": "html", "content": "<p>Bring numbers</p>"},
    "start": {"dateTime": "2026-11-24T14:00:00.0000000", "timeZone": "UTC"},
    "end": {"dateTime": "2026-11-24T14:45:00.0000000", "timeZone": "UTC"},
    "location": {"displayName": "Room 4"},
    "attendees": [
        {
            "type": "required",
            "status": {"response": "accepted", "time": "2026-11-20T00:00:00Z"},
            "emailAddress": {"name": "Ben", "address": "ben@example.org"},
        },
        {
            "type": "resource",
            "status": {"response": "none", "time": "0001-01-01T00:00:00Z"},
            "emailAddress": {"name": "Room 4", "address": "room4@example.org"},
        },
    ],
    "organizer": {"emailAddress": {"name": "Mira", "address": "mira@example.org"}},
}
WHOLE_DAY: dict[str, Any] = {
    "isAllDay": True,
    "start": {"dateTime": "2026-11-24T00:00:00.0000000", "timeZone": "UTC"},
    "end": {"dateTime": "2026-11-26T00:00:00.0000000", "timeZone": "UTC"},
}


def item_of(event: dict[str, Any], *, projection: bytes = b"") -> Item:
    return ItemReader(projection).answer(msgspec.json.encode(event))


def mapped(**changes: Any) -> Event:
    event = read_event(item_of(PLAIN | changes))
    assert isinstance(event, Event), event
    return event


def test_a_plain_event_is_mapped_field_by_field() -> None:
    event = mapped()
    assert event.provider_event_id == "AAkALgAAPzE7aaa="
    assert (event.role, event.status) == ("single", "confirmed")
    assert event.ical_uid == PLAIN["iCalUId"]
    assert event.etag == PLAIN["@odata.etag"]
    assert (event.title, event.description) == ("Budget review", "<p>Bring numbers</p>")
    assert event.location == "Room 4"
    assert event.starts_at == datetime(2026, 11, 24, 14, tzinfo=UTC)
    assert event.ends_at == datetime(2026, 11, 24, 14, 45, tzinfo=UTC)
    assert (event.all_day, event.start_date) == (False, None)
    assert event.time_zone == "Europe/Berlin"
    assert (event.organizer_email, event.is_organizer) == ("mira@example.org", True)
    assert event.own_response == "accepted"
    assert event.conference_url == "https://teams.example/l/meetup-join/abc"
    assert event.provider_updated_at == datetime(
        2026, 11, 21, 7, 13, 2, 765432, tzinfo=UTC
    )
    assert event.attendees is not None
    ben, room = event.attendees
    assert (ben.email, ben.name, ben.response) == ("ben@example.org", "Ben", "accepted")
    assert (ben.organizer, ben.is_self, ben.resource) == (False, False, False)
    assert (room.response, room.resource) == (None, True)


@pytest.mark.parametrize(
    "zone", ["UTC", "Tokyo Standard Time", "Pacific Standard Time"]
)
def test_a_whole_day_is_a_date_and_never_shifted(zone: str) -> None:
    shown = {"dateTime": "2026-11-24T00:00:00.0000000", "timeZone": zone}
    event = mapped(**WHOLE_DAY | {"start": shown, "originalStartTimeZone": zone})
    assert (event.all_day, event.starts_at, event.ends_at) == (True, None, None)
    assert (event.start_date, event.end_date) == (
        date(2026, 11, 24),
        date(2026, 11, 26),
    )


@pytest.mark.parametrize(
    ("zone", "told", "day"),
    [
        ("W. Europe Standard Time", "2026-11-23T23:00:00Z", 24),
        ("Pacific Standard Time", "2026-11-24T08:00:00Z", 24),
        ("UTC", "2026-11-24T00:00:00Z", 24),
        ("tzone://Microsoft/Custom", "2026-11-23T18:30:00Z", 24),
        ("tzone://Microsoft/Custom", "2026-11-24T05:00:00Z", 24),
    ],
)
def test_the_original_day_of_a_whole_day_is_that_of_its_own_zone(
    zone: str, told: str, day: int
) -> None:
    event = mapped(
        **WHOLE_DAY,
        type="occurrence",
        seriesMasterId="AAkMaster=",
        originalStartTimeZone=zone,
        originalStart=told,
    )
    assert event.original_start_date == date(2026, 11, day)
    assert event.original_start is None


def test_times_in_another_zone_than_asked_for_are_understood() -> None:
    start = {"dateTime": "2026-11-24T14:00:00", "timeZone": "W. Europe Standard Time"}
    end = {"dateTime": "2026-11-24T15:00:00.0000000", "timeZone": "Europe/Rome"}
    event = mapped(start=start, end=end)
    assert event.starts_at == datetime(2026, 11, 24, 13, tzinfo=UTC)
    assert event.ends_at == datetime(2026, 11, 24, 14, tzinfo=UTC)


def test_a_zone_that_nobody_knows_refuses_only_times_that_are_told_in_it() -> None:
    nobodys = "tzone://Microsoft/Custom"
    event = mapped(originalStartTimeZone=nobodys)
    assert event.time_zone is None
    assert event.starts_at == datetime(2026, 11, 24, 14, tzinfo=UTC)
    told = {"dateTime": "2026-11-24T14:00:00", "timeZone": nobodys}
    refused = read_event(item_of(PLAIN | {"start": told}))
    assert isinstance(refused, Malformed)
    assert "start is not a time" in refused.reason


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("singleInstance", "single"),
        ("seriesMaster", "series"),
        ("occurrence", "occurrence"),
        ("exception", "exception"),
    ],
)
def test_an_item_says_itself_what_it_is(kind: str, role: str) -> None:
    event = mapped(
        type=kind,
        seriesMasterId="AAkMaster=",
        originalStart="2026-11-24T14:00:00.0000000Z",
    )
    assert event.role == role
    assert event.series_provider_id == "AAkMaster="
    assert event.original_start == datetime(2026, 11, 24, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        ("accepted", "accepted"),
        ("declined", "declined"),
        ("tentativelyAccepted", "tentative"),
        ("notResponded", "needsAction"),
        ("none", None),
    ],
)
def test_answers_are_ours(answer: str, response: str | None) -> None:
    assert mapped(responseStatus={"response": answer}).own_response == response


@pytest.mark.parametrize(
    ("sensitivity", "visibility"),
    [
        ("normal", "default"),
        ("personal", "private"),
        ("private", "private"),
        ("confidential", "confidential"),
        ("invented", "private"),
        (None, "default"),
    ],
)
def test_what_is_sensitive_is_kept_from_others(
    sensitivity: str | None, visibility: str
) -> None:
    assert mapped(sensitivity=sensitivity).visibility == visibility


def test_a_cancelled_copy_and_a_tentative_one_are_told() -> None:
    assert mapped(isCancelled=True).status == "cancelled"
    assert mapped(showAs="tentative").status == "tentative"


def test_what_was_removed_is_a_bare_tombstone() -> None:
    item = item_of({"id": "AAkGone77=", "@removed": {"reason": "deleted"}})
    event = read_event(item)
    assert isinstance(event, Event)
    assert (event.provider_event_id, event.status, event.role) == (
        "AAkGone77=",
        "cancelled",
        None,
    )


@pytest.mark.parametrize(
    ("body", "preview", "description"),
    [
        ("<p>Tea</p>", "Tea", "<p>Tea</p>"),
        ("<html><body>\r\n</body></html>", "", None),
        ('<body><IMG src="cid:1"></body>', "", '<body><IMG src="cid:1"></body>'),
        ("", "", None),
        ("<p>Tea</p>", None, "<p>Tea</p>"),
    ],
)
def test_html_is_kept_and_an_empty_frame_is_no_text(
    body: str, preview: str | None, description: str | None
) -> None:
    event = mapped(body={"contentType": "html", "content": body}, bodyPreview=preview)
    assert event.description == description


def test_only_links_that_a_page_may_show_are_taken() -> None:
    assert (
        mapped(onlineMeeting={"joinUrl": "javascript:alert(1)"}).conference_url is None
    )
    old = mapped(onlineMeeting=None, onlineMeetingUrl="https://meet.example/1")
    assert old.conference_url == "https://meet.example/1"


def test_nulls_are_as_good_as_nothing() -> None:
    names = set(PLAIN) - {"id", "start", "end", "type"}
    event = mapped(**dict.fromkeys(names))
    assert (event.title, event.attendees, event.is_organizer) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"type": "somethingNew"}, "type"),
        ({"start": {"dateTime": "soon", "timeZone": "UTC"}}, "start"),
        ({"start": {"dateTime": "2026-11-24T10:00:00", "timeZone": "Mars"}}, "start"),
        ({"end": {"dateTime": "9999-99-99"}, "isAllDay": True}, "end"),
        ({"originalStart": "2026-11-24T10:00:00"}, "originalStart"),
        ({"attendees": {}}, "attendees"),
    ],
)
def test_what_cannot_be_parsed_is_malformed_and_quotes_nothing(
    changes: dict[str, Any], named: str
) -> None:
    found = read_event(item_of(PLAIN | changes))
    assert isinstance(found, Malformed)
    assert named in found.reason
    assert "Budget" not in found.reason


def test_a_delta_and_a_single_answer_hash_alike() -> None:
    bare = {k: v for k, v in PLAIN.items() if k != "@odata.type"}
    alone = {"@odata.context": "https://graph.microsoft.com/v1.0/$metadata", **bare}
    hashes = {item_of(one).content_hash for one in (PLAIN, bare, alone)}
    assert len(hashes) == 1


def test_a_hash_follows_content_and_projection() -> None:
    same = item_of(PLAIN).content_hash
    assert item_of(PLAIN | {"subject": "x"}).content_hash != same
    assert item_of(PLAIN, projection=b"tag").content_hash != same


def test_what_postgres_cannot_keep_is_replaced() -> None:
    content = msgspec.json.encode(PLAIN | {"subject": "a\x00b"})
    event = read_event(ItemReader().answer(content))
    assert isinstance(event, Event)
    assert event.title == "a\ufffdb"


def test_every_windows_zone_of_cldr_is_known_and_there() -> None:
    for name, zone in WINDOWS_TO_OLSON.items():
        assert WINDOWS_ZONES[name] == zone
    assert set(WINDOWS_ZONES.values()) <= available_timezones()


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("W. Europe Standard Time", "Europe/Berlin"),
        ("UTC", "UTC"),
        ("Europe/Rome", "Europe/Rome"),
        ("tzone://Microsoft/Utc", "UTC"),
        ("tzone://Microsoft/Custom", None),
        ("Customized Time Zone", None),
        ("../../etc/passwd", None),
        ("", None),
        (None, None),
    ],
)
def test_zones_go_by_either_name(name: str | None, zone: str | None) -> None:
    assert iana_name(name) == zone
