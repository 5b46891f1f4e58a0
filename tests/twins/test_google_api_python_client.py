"""Google's own Python client works on the twin, unchanged, over loopback."""

from collections.abc import Iterator
from typing import Any

import httplib2
import pytest
from google.oauth2.credentials import Credentials
from google_auth_httplib2 import AuthorizedHttp
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from local_stack.twins.google import Account, GoogleTwin, serving_in_thread
from tests.twins.google_calls import berlin, timed


@pytest.fixture
def account() -> Iterator[tuple[Account, str]]:
    twin = GoogleTwin()
    with serving_in_thread(twin) as url:
        yield twin.account("ada@example.org"), url


@pytest.fixture
def ada(account: tuple[Account, str]) -> Account:
    return account[0]


@pytest.fixture
def google(account: tuple[Account, str]) -> Iterator[Any]:
    ada, url = account
    grant = ada.sign_in()
    credentials = Credentials(
        token="long forgotten",
        refresh_token=grant.refresh_token,
        token_uri=f"{url}/token",
        client_id="client",
        client_secret="secret",
    )
    service = build(
        "calendar",
        "v3",
        http=AuthorizedHttp(credentials, http=httplib2.Http(proxy_info=None)),
        static_discovery=True,
        client_options={"api_endpoint": f"{url}/calendar/v3/"},
    )
    yield service
    service.close()


def status_and_reason(error: pytest.ExceptionInfo[HttpError]) -> tuple[int, str]:
    return error.value.status_code, error.value.error_details[0]["reason"]


def test_it_refreshes_its_token_inserts_and_gets(google: Any) -> None:
    body = {"summary": "Erstgespräch", **timed(24, 10)}

    made = google.events().insert(calendarId="primary", body=body).execute()
    read = google.events().get(calendarId="primary", eventId=made["id"]).execute()

    assert read == made
    assert read["summary"] == "Erstgespräch"
    assert read["organizer"] == {"email": "ada@example.org", "self": True}


def test_it_pages_through_a_list_with_list_next(google: Any, ada: Account) -> None:
    titles = {ada.primary.add(f"Nr. {n}", berlin(24, n)).title for n in range(1, 8)}
    found = []

    request = google.events().list(calendarId="primary", maxResults=3)
    while request is not None:
        page = request.execute()
        found.append([item["summary"] for item in page["items"]])
        request = google.events().list_next(request, page)

    assert [len(page) for page in found] == [3, 3, 1]
    assert {title for page in found for title in page} == titles


def test_it_patches_updates_and_deletes(google: Any, ada: Account) -> None:
    event = ada.primary.add("Chor", berlin(24, 19), location="Saal")
    where = {"calendarId": "primary", "eventId": event.id}

    google.events().patch(**where, body={"summary": "Probe"}).execute()
    assert (event.title, event.body["location"]) == ("Probe", "Saal")

    google.events().update(
        **where, body={"summary": "Nur das", **timed(25, 9)}
    ).execute()
    assert event.title == "Nur das"
    assert "location" not in event.body

    assert google.events().delete(**where).execute() == ""
    with pytest.raises(HttpError) as error:
        google.events().delete(**where).execute()
    assert status_and_reason(error) == (410, "deleted")


def test_its_stale_write_is_refused(google: Any, ada: Account) -> None:
    event = ada.primary.add("Chor", berlin(24, 19))
    request = google.events().patch(
        calendarId="primary", eventId=event.id, body={"summary": "zu spät"}
    )
    request.headers["If-Match"] = event.etag
    ada.primary.rename(event, "schneller")

    with pytest.raises(HttpError) as error:
        request.execute()

    assert status_and_reason(error) == (412, "conditionNotMet")
    assert event.title == "schneller"


def test_it_moves_an_event_to_another_calendar(google: Any, ada: Account) -> None:
    team = ada.add_calendar("Team")
    event = ada.primary.add("Planung", berlin(24, 10))

    moved = google.events().move(
        calendarId="primary", eventId=event.id, destination=team.id
    )
    answer = moved.execute()

    assert answer["id"] == event.id
    assert answer["organizer"]["email"] == team.id
    assert team.event(event.id).title == "Planung"
    assert event.cancelled


def test_it_reads_and_edits_instances(google: Any, ada: Account) -> None:
    series = ada.primary.add("Kurs", berlin(24, 10), recurrence="FREQ=DAILY;COUNT=4")
    where = {"calendarId": "primary", "eventId": series.id}

    items = google.events().instances(**where).execute()["items"]
    assert [item["id"] for item in items] == [
        f"{series.id}_202611{day}T090000Z" for day in (24, 25, 26, 27)
    ]

    second = {"calendarId": "primary", "eventId": items[1]["id"]}
    google.events().patch(**second, body={"summary": "Ausnahme"}).execute()
    google.events().delete(calendarId="primary", eventId=items[2]["id"]).execute()
    left = google.events().instances(**where).execute()["items"]
    assert [item["summary"] for item in left] == ["Kurs", "Ausnahme", "Kurs"]

    one = google.events().instances(
        **where, originalStart=items[1]["originalStartTime"]["dateTime"]
    )
    assert [item["id"] for item in one.execute()["items"]] == [items[1]["id"]]


def test_it_syncs_incrementally_and_hears_when_its_token_is_gone(
    google: Any, ada: Account
) -> None:
    event = ada.primary.add("Alt", berlin(24, 10))
    events = google.events()
    token = events.list(calendarId="primary").execute()["nextSyncToken"]

    ada.primary.rename(event, "Neu")
    page = events.list(calendarId="primary", syncToken=token).execute()
    assert [item["summary"] for item in page["items"]] == ["Neu"]
    again = events.list(calendarId="primary", syncToken=page["nextSyncToken"])
    assert again.execute()["items"] == []

    ada.primary.expire_sync_tokens()
    with pytest.raises(HttpError) as error:
        events.list(calendarId="primary", syncToken=token).execute()
    assert status_and_reason(error) == (410, "fullSyncRequired")


def test_it_imports_a_private_copy(google: Any) -> None:
    body = {
        "iCalUID": "abc@elsewhere.example",
        "organizer": {"email": "else@where.example"},
        "summary": "Fremd",
        **timed(24, 10),
    }

    made = google.events().import_(calendarId="primary", body=body).execute()
    found = google.events().list(calendarId="primary", iCalUID=body["iCalUID"])

    assert made["organizer"] == {"email": "else@where.example"}
    assert [item["id"] for item in found.execute()["items"]] == [made["id"]]


def test_it_watches_and_stops(google: Any) -> None:
    body = {
        "id": "01f5c6d0-6b1d-4f0e-9e55-0b5a3f0f3a3e",
        "type": "web_hook",
        "address": "http://127.0.0.1:9/never",
        "token": "secret",
        "params": {"ttl": "3600"},
    }
    channel = google.events().watch(calendarId="primary", body=body).execute()
    assert (channel["id"], channel["token"]) == (body["id"], "secret")

    stop = {"id": channel["id"], "resourceId": channel["resourceId"]}
    assert google.channels().stop(body=stop).execute() == ""
    with pytest.raises(HttpError) as error:
        google.events().watch(calendarId="primary", body=body).execute()
    assert status_and_reason(error) == (400, "channelIdNotUnique")


def test_it_lists_calendars(google: Any, ada: Account) -> None:
    team = ada.add_calendar("Team", time_zone="America/New_York")

    listed = google.calendarList().list().execute()["items"]
    entry = google.calendarList().get(calendarId="primary").execute()
    calendar = google.calendars().get(calendarId=team.id).execute()

    assert [(item["id"], item.get("primary")) for item in listed] == [
        ("ada@example.org", True),
        (team.id, None),
    ]
    assert entry["accessRole"] == "owner"
    assert calendar["timeZone"] == "America/New_York"
