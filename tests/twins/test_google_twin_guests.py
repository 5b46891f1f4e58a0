"""Invitations: the organizer's event and its guests' copies."""

import pytest

from local_stack.twins.google import Account, Calendar, Event, GoogleTwin
from tests.twins.google_calls import EVENTS, Calls, Inbox, berlin, refusal


@pytest.fixture
def ben(google: GoogleTwin) -> Account:
    return google.account("ben@example.org", time_zone="America/New_York")


@pytest.fixture
def invited(calendar: Calendar, ben: Account) -> Event:
    return calendar.add("Gespräch", berlin(24, 9), attendees=[ben.email])


def copy_of(event: Event, guest: Account) -> Event:
    return guest.primary.event(event.id)


async def test_a_guest_gets_a_copy_under_the_same_ids(
    invited: Event, ben: Account
) -> None:
    copy = copy_of(invited, ben).body

    assert copy["iCalUID"] == invited.body["iCalUID"]
    assert copy["organizer"] == {"email": "ada@example.org"}
    assert copy["attendees"] == [
        {"email": "ben@example.org", "responseStatus": "needsAction", "self": True}
    ]
    assert copy["start"]["dateTime"] == "2026-11-24T03:00:00-05:00"
    assert "self" not in invited.body["attendees"][0]


async def test_a_guests_answer_reaches_the_organizer(
    invited: Event, ben: Account
) -> None:
    ben.primary.answer(copy_of(invited, ben), "accepted")

    assert invited.body["attendees"][0]["responseStatus"] == "accepted"
    assert copy_of(invited, ben).body["attendees"][0]["responseStatus"] == "accepted"


async def test_a_guest_may_not_change_what_is_the_organizers(
    google: GoogleTwin, invited: Event, ben: Account
) -> None:
    async with Calls(google, ben.sign_in().access_token) as bens:
        url = f"{EVENTS}/{invited.id}"
        refused = await bens.http.patch(url, json={"summary": "meins"})
        personal = await bens.http.patch(url, json={"transparency": "transparent"})

    assert refusal(refused) == (403, "forbiddenForNonOrganizer", "calendar")
    assert personal.status_code == 200
    assert invited.title == "Gespräch"


async def test_the_organizers_changes_reach_the_copy_and_keep_what_is_personal(
    calendar: Calendar, invited: Event, ben: Account
) -> None:
    copy = copy_of(invited, ben)
    ben.primary.change(copy, reminders={"useDefault": False})

    calendar.move(invited, berlin(25, 12))

    assert copy.start == invited.start
    assert copy.body["reminders"] == {"useDefault": False}


async def test_a_guest_who_deletes_the_copy_declines_and_the_meeting_stays(
    calendar: Calendar, invited: Event, ben: Account
) -> None:
    copy = copy_of(invited, ben)
    ben.primary.cancel(copy)

    assert copy.cancelled
    assert not invited.cancelled
    assert invited.body["attendees"][0]["responseStatus"] == "declined"

    calendar.rename(invited, "ohne Ben")
    assert copy.cancelled


async def test_cancelling_and_uninviting_withdraw_the_copy(
    calendar: Calendar, invited: Event, ben: Account
) -> None:
    copy = copy_of(invited, ben)
    calendar.change(invited, attendees=[])
    assert copy.cancelled

    calendar.change(invited, attendees=[{"email": ben.email}])
    assert not copy.cancelled

    calendar.cancel(invited)
    assert copy.cancelled


async def test_a_series_is_shared_with_its_exceptions(
    calendar: Calendar, ben: Account
) -> None:
    series = calendar.add(
        "Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=4", attendees=[ben.email]
    )
    calendar.move_occurrence(series, berlin(24, 9), berlin(24, 15))
    calendar.cancel_occurrence(series, berlin(25, 9))

    window = berlin(1, 0), berlin(30, 0)
    assert [e.start for e in ben.primary.events(*window)] == [
        e.start for e in calendar.events(*window)
    ]


async def test_a_guest_of_one_occurrence_holds_it_without_its_series(
    google: GoogleTwin, calendar: Calendar, ben: Account
) -> None:
    series = calendar.add("Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=4")
    occurrence = calendar.occurrence(series, berlin(24, 9))

    calendar.change(occurrence, attendees=[{"email": ben.email}])

    async with Calls(google, ben.sign_in().access_token) as bens:
        [held] = await bens.items()
        series_there = await bens.http.get(f"{EVENTS}/{series.id}")
    assert held["id"] == occurrence.id
    assert held["recurringEventId"] == series.id
    assert series_there.status_code == 404
    assert len(ben.primary.events(berlin(1, 0), berlin(30, 0))) == 1


async def test_a_guest_declines_one_occurrence(
    calendar: Calendar, ben: Account
) -> None:
    series = calendar.add(
        "Kurs", berlin(23, 9), recurrence="FREQ=DAILY;COUNT=4", attendees=[ben.email]
    )
    theirs = ben.primary.occurrence(copy_of(series, ben), berlin(24, 9))

    ben.primary.answer(theirs, "declined")

    def answers(event: Event) -> str:
        return str(event.body["attendees"][0]["responseStatus"])

    assert answers(calendar.occurrence(series, berlin(24, 9))) == "declined"
    assert answers(calendar.occurrence(series, berlin(25, 9))) == "needsAction"
    assert answers(series) == "needsAction"


async def test_an_invitation_pushes_to_the_guests_channels_too(
    google: GoogleTwin, calendar: Calendar, ben: Account, inbox: Inbox
) -> None:
    async with Calls(google, ben.sign_in().access_token) as bens:
        channel = (await bens.watch()).json()
        calendar.add("Gespräch", berlin(24, 9), attendees=[ben.email])
        await google.pushes.drain()

    states = [r.state for r in google.pushes.log if r.channel_id == channel["id"]]
    assert states == ["sync", "exists"]
