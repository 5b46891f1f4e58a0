import json
from datetime import UTC, date, datetime
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.google import events
from providers.google.events import ItemReader, read_event
from providers.model import Event, Item, Malformed

Json = dict[str, Any]
TIMED: Json = {
    "kind": "calendar#event",
    "etag": '"3528190328240000"',
    "id": "5f0c2b7e9a1d4c38b6e0",
    "status": "confirmed",
    "updated": "2026-11-21T07:12:44.120Z",
    "summary": "Budget review",
    "description": "<b>Bring</b> figures",
    "location": "Room 2",
    "organizer": {"email": "mira@example.org", "self": True},
    "start": {"dateTime": "2026-11-24T15:00:00+01:00", "timeZone": "Europe/Rome"},
    "end": {"dateTime": "2026-11-24T15:45:00+01:00", "timeZone": "Europe/Rome"},
    "iCalUID": "5f0c2b7e9a1d4c38b6e0@google.com",
    "sequence": 2,
    "eventType": "default",
}
STANDUP = {
    "id": "k2m4standup_20261125T080000Z",
    "status": "confirmed",
    "recurringEventId": "k2m4standup",
    "originalStartTime": {"dateTime": "2026-11-25T09:00:00+01:00"},
    "start": {"dateTime": "2026-11-25T09:00:00+01:00", "timeZone": "Europe/Rome"},
    "end": {"dateTime": "2026-11-25T09:15:00+01:00", "timeZone": "Europe/Rome"},
}
MOVED = STANDUP | {"start": {"dateTime": "2026-11-25T11:00:00+01:00"}}


def item(event: object) -> Item:
    return ItemReader().item(msgspec.json.encode(event))


def mapped(event: Json, *, expanded: bool = False) -> Event:
    read = read_event(item(event), expanded=expanded)
    assert isinstance(read, Event), read
    return read


def malformed(event: object) -> Malformed:
    read = read_event(item(event), expanded=False)
    assert isinstance(read, Malformed), read
    return read


def test_a_timed_event_keeps_all_that_is_ours_to_know() -> None:
    event = mapped(TIMED)
    assert event.role == "single"
    assert event.status == "confirmed"
    assert event.title == "Budget review"
    assert event.description == "<b>Bring</b> figures"
    assert event.location == "Room 2"
    assert event.starts_at == datetime(2026, 11, 24, 14, tzinfo=UTC)
    assert event.ends_at == datetime(2026, 11, 24, 14, 45, tzinfo=UTC)
    assert event.time_zone == "Europe/Rome"
    assert (event.all_day, event.start_date, event.end_date) == (False, None, None)
    assert event.ical_uid == "5f0c2b7e9a1d4c38b6e0@google.com"
    assert event.etag == '"3528190328240000"'
    assert event.sequence == 2
    assert (event.organizer_email, event.is_organizer) == ("mira@example.org", True)
    assert event.attendees == []
    assert event.own_response is None
    assert event.visibility == "default"
    expected = datetime(2026, 11, 21, 7, 12, 44, 120000, tzinfo=UTC)
    assert event.provider_updated_at == expected
    assert msgspec.json.decode(event.raw) == TIMED


def test_the_json_of_an_event_has_the_keys_that_the_database_reads() -> None:
    encoded = msgspec.to_builtins(msgspec.structs.replace(mapped(TIMED), raw=None))
    assert set(encoded) == set(Event.__struct_fields__)
    assert encoded["starts_at"] == "2026-11-24T14:00:00Z"
    assert encoded["start_date"] is None
    assert encoded["content_hash"] == item(TIMED).content_hash.hex()


def test_an_all_day_event_has_dates_and_no_times() -> None:
    days = {"start": {"date": "2026-12-24"}, "end": {"date": "2026-12-27"}}
    event = mapped(TIMED | days)
    assert event.all_day
    assert (event.start_date, event.end_date) == (
        date(2026, 12, 24),
        date(2026, 12, 27),
    )
    assert (event.starts_at, event.ends_at, event.time_zone) == (None, None, None)


def test_a_time_without_an_offset_lies_in_the_zone_beside_it() -> None:
    zoned = {"dateTime": "2026-07-01T09:00:00", "timeZone": "Europe/Rome"}
    assert mapped(TIMED | {"start": zoned}).starts_at == datetime(
        2026, 7, 1, 7, tzinfo=UTC
    )


def test_a_zone_that_nobody_knows_is_left_to_the_database() -> None:
    lost = {"dateTime": "2026-07-01T09:00:00+02:00", "timeZone": "Mars/Olympus"}
    event = mapped(TIMED | {"start": lost})
    assert event.starts_at == datetime(2026, 7, 1, 7, tzinfo=UTC)
    assert event.time_zone == "Mars/Olympus"


def test_what_makes_no_sense_but_can_be_read_is_left_to_the_database() -> None:
    backwards = mapped(TIMED | {"end": {"dateTime": "2026-11-24T13:00:00+01:00"}})
    assert backwards.ends_at is not None
    assert backwards.starts_at is not None
    assert backwards.ends_at < backwards.starts_at
    assert mapped({"id": "a", "status": "confirmed"}).starts_at is None
    assert len(mapped(TIMED | {"summary": "x" * 1_000_000}).title or "") == 1_000_000


def test_an_open_end_is_the_end_that_google_still_sends() -> None:
    assert mapped(TIMED | {"endTimeUnspecified": True}).ends_at is not None


def test_a_series_a_single_and_an_exception_are_told_apart() -> None:
    assert mapped(TIMED | {"recurrence": ["RRULE:FREQ=DAILY"]}).role == "series"
    assert mapped(STANDUP).role == "exception"
    assert mapped(MOVED).role == "exception"


def test_in_an_expanded_list_what_was_not_moved_is_an_occurrence() -> None:
    assert mapped(STANDUP, expanded=True).role == "occurrence"
    assert mapped(MOVED, expanded=True).role == "exception"
    assert mapped(TIMED, expanded=True).role == "single"


def test_an_instance_names_its_series_and_its_original_start() -> None:
    event = mapped(MOVED)
    assert event.series_provider_id == "k2m4standup"
    assert event.original_start == datetime(2026, 11, 25, 8, tzinfo=UTC)
    assert event.starts_at == datetime(2026, 11, 25, 10, tzinfo=UTC)


def test_a_cancelled_exception_of_three_fields_is_an_exception() -> None:
    event = mapped(
        {
            "id": "k2m4standup_20261126",
            "status": "cancelled",
            "recurringEventId": "k2m4standup",
            "originalStartTime": {"date": "2026-11-26"},
        }
    )
    assert (event.role, event.status) == ("exception", "cancelled")
    assert event.original_start_date == date(2026, 11, 26)
    assert (event.title, event.is_organizer, event.attendees) == (None, None, None)


def test_a_bare_tombstone_has_no_role() -> None:
    event = mapped({"id": "0b9e77c1d2", "status": "cancelled"})
    assert (event.role, event.status, event.all_day) == (None, "cancelled", False)


def test_an_organizers_tombstone_may_still_carry_everything() -> None:
    event = mapped(TIMED | {"status": "cancelled"})
    assert (event.role, event.status) == ("single", "cancelled")


def test_a_guest_sees_its_own_answer_and_who_else_comes() -> None:
    event = mapped(
        TIMED
        | {
            "organizer": {"email": "boss@example.org"},
            "attendees": [
                {
                    "email": "boss@example.org",
                    "organizer": True,
                    "responseStatus": "accepted",
                },
                {
                    "email": "mira@example.org",
                    "displayName": "Mira",
                    "self": True,
                    "optional": True,
                    "responseStatus": "declined",
                },
                {
                    "email": "room@example.org",
                    "resource": True,
                    "responseStatus": "new",
                },
            ],
        }
    )
    assert event.is_organizer is False
    assert event.own_response == "declined"
    assert msgspec.to_builtins(event.attendees) == [
        {
            "email": "boss@example.org",
            "name": None,
            "response": "accepted",
            "self": False,
            "organizer": True,
            "optional": False,
            "resource": False,
        },
        {
            "email": "mira@example.org",
            "name": "Mira",
            "response": "declined",
            "self": True,
            "organizer": False,
            "optional": True,
            "resource": False,
        },
        {
            "email": "room@example.org",
            "name": None,
            "response": None,
            "self": False,
            "organizer": False,
            "optional": False,
            "resource": True,
        },
    ]


def test_attendees_left_out_are_not_told_but_the_own_answer_is() -> None:
    own = {"email": "mira@example.org", "self": True, "responseStatus": "tentative"}
    event = mapped(TIMED | {"attendees": [own], "attendeesOmitted": True})
    assert event.attendees is None
    assert event.own_response == "tentative"


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("private", "private"),
        ("confidential", "confidential"),
        ("public", "public"),
        ("invented_later", "private"),
    ],
)
def test_an_unknown_visibility_is_private(given_: str, kept: str) -> None:
    assert mapped(TIMED | {"visibility": given_}).visibility == kept


def test_where_to_meet_is_the_meet_link_or_the_video_entry() -> None:
    def conference(uri: str) -> Json:
        phone = {"entryPointType": "phone", "uri": "tel:+39-1"}
        video = {"entryPointType": "video", "uri": uri}
        return {"conferenceData": {"entryPoints": [phone, video]}}

    meet, zoom = "https://meet.google.com/x", "https://zoom.example.org/j/1"
    assert mapped(TIMED | conference(zoom)).conference_url == zoom
    both = TIMED | conference(zoom) | {"hangoutLink": meet}
    assert mapped(both).conference_url == meet
    assert mapped(TIMED).conference_url is None


def test_a_link_that_runs_code_is_no_place_to_meet() -> None:
    event = mapped(TIMED | {"hangoutLink": "javascript:alert(1)"})
    assert event.conference_url is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": {"dateTime": "soon"}},
        {"start": {"dateTime": "2026-11-24T15:00:00"}},
        {"start": {"dateTime": "2026-11-24T15:00:00", "timeZone": "../etc/passwd"}},
        {"start": {"dateTime": "2026-11-24T15:00:00", "timeZone": "America"}},
        {"start": {"dateTime": "0001-01-01T00:00:00+14:00"}},
        {"end": {"date": "24.12.2026"}},
        {"start": "tomorrow"},
        {"sequence": 10**12},
        {"summary": ["Budget review"]},
        {"updated": "yesterday"},
        {"id": 7},
        {"id": ""},
    ],
)
def test_what_cannot_be_read_is_malformed_with_a_reason_that_quotes_nothing(
    wrong: Json,
) -> None:
    refused = malformed(TIMED | wrong)
    assert refused.reason
    for content in ("Budget", "soon", "passwd", "24.12", "tomorrow", "yesterday"):
        assert content not in refused.reason
    assert refused.provider_event_id == (None if "id" in wrong else TIMED["id"])


@pytest.mark.parametrize("thing", [None, 7, "x", [], {}, [TIMED]])
def test_an_item_that_is_no_event_is_malformed(thing: object) -> None:
    assert malformed(thing).provider_event_id is None


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TIMED, "date", "self"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted({*TIMED, *STANDUP, "attendees"})), value=anything)
def test_no_value_of_a_field_breaks_the_page(field: str, value: object) -> None:
    content = json.dumps({"items": [TIMED | {field: value}, TIMED]}).encode()
    if b"NaN" in content or b"Infinity" in content:
        return
    page = ItemReader().page(content)
    for one in page.items:
        read = read_event(one, expanded=False)
        assert isinstance(read, Event | Malformed)
        stored = msgspec.json.encode(read).decode()
        assert "\\u0000" not in stored.replace("\\\\", "")
        json.loads(stored)
    assert isinstance(read_event(page.items[1], expanded=False), Event)


@pytest.mark.parametrize(
    ("escaped", "kept"),
    [
        (r"a\u0000b", "a\ufffdb"),
        (r"a\\u0000b", r"a\u0000b"),
        (r"a\\\u0000b", "a\\\ufffdb"),
        (r"a\ud800b", "a\ufffdb"),
        (r"a\uDC00\ud83d", "a\ufffd\ufffd"),
        (r"\\ud800", r"\ud800"),
        (r"\ud83d\ude00", "😀"),
    ],
)
def test_what_postgres_cannot_keep_is_replaced(escaped: str, kept: str) -> None:
    content = b'{"items":[{"id":"a","summary":"%s"}]}' % escaped.encode()
    (one,) = ItemReader().page(content).items
    event = read_event(one, expanded=False)
    assert isinstance(event, Event)
    assert event.title == kept
    json.loads(bytes(one.raw).decode())


def test_one_odd_event_changes_no_other_events_hash() -> None:
    odd = rb'{"id":"odd","summary":"\ud800 \u0000 \ud83d\ude00"}'
    content = b'{"items":[ %s , %s ]}' % (odd, msgspec.json.encode(TIMED))
    assert ItemReader().page(content).items[1] == item(TIMED)


def test_bytes_that_are_no_utf8_do_not_break_the_page() -> None:
    content = b'{"items":[{"id":"a","summary":"\xff","x":"\xff"},{"id":"b"}]}'
    page = ItemReader().page(content)
    assert [one.provider_event_id for one in page.items] == ["a", "b"]
    bytes(page.items[0].raw).decode()


def test_a_page_tells_its_tokens_and_zone() -> None:
    page = ItemReader().page(
        b'{"items":[],"nextPageToken":"p","timeZone":"Europe/Rome","kind":"x"}'
    )
    assert (page.next_page_token, page.cursor) == ("p", None)
    assert page.time_zone == "Europe/Rome"
    assert ItemReader().page(b'{"nextSyncToken":"s"}').cursor == "s"


def test_a_hash_changes_with_the_item_the_mapping_and_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = msgspec.json.encode(TIMED)
    before = ItemReader().item(content).content_hash
    assert len(before) == 16
    assert ItemReader().item(content).content_hash == before
    assert item(TIMED | {"etag": '"2"'}).content_hash != before
    assert ItemReader(b"tags").item(content).content_hash != before
    monkeypatch.setattr(events, "MAPPER_VERSION", 2)
    assert ItemReader().item(content).content_hash != before


def test_a_hash_is_the_same_in_a_list_and_alone() -> None:
    content = b'{"items":[%s]}' % msgspec.json.encode(TIMED)
    assert ItemReader().page(content).items[0] == item(TIMED)


def test_a_page_of_2500_events_is_split_in_milliseconds() -> None:
    one = TIMED | {"description": "x" * 700}
    content = msgspec.json.encode({"items": [one] * 2500})
    assert len(content) > 2_900_000
    fastest = min(_seconds(content) for _ in range(3))
    # Measured: 8 ms; a bound that only a change of kind breaks.
    assert fastest < 0.1


def _seconds(content: bytes) -> float:
    began = perf_counter()
    ItemReader().page(content)
    return perf_counter() - began
