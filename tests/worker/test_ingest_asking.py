"""Promises of an ingest that may ask: webhooks may lag, or not come at all."""

from datetime import timedelta
from typing import Any

import pytest

from local_stack.twins.calcom import Booked
from providers.model import Provider
from tests.support.ingesting import IVO, MIRA, IngestWorld, at

MINUTE = timedelta(minutes=1)
EVERY = {Provider.CALCOM: 15 * MINUTE, Provider.CALENDLY: 60 * MINUTE}
LIST = ("bookings.list", "scheduled_events.list")
GET = ("bookings.get", "invitees.get")


@pytest.fixture
def world(either: IngestWorld) -> IngestWorld:
    """Each of the booking providers."""
    return either


# Bookings that were delivered are asked for.


async def test_a_delivered_booking_is_asked_for_once_however_often_it_was_told(
    world: IngestWorld,
) -> None:
    await world.begin()
    booked = world.book(at(0))
    await world.advance(minutes=1)  # whatever its row did not show, it does
    await world.twin.outbox.drain()
    booked.did_not_come()
    booked.came_after_all()
    before = world.calls(*GET)

    await world.delivered()

    assert world.calls(*GET) == before + 1
    assert await world.to_fetch() == []


async def test_a_fetch_adds_and_never_undoes(calcom: IngestWorld) -> None:
    world = calcom
    await world.begin()
    booked = world.book(at(0))
    await world.delivered()
    await world.advance(minutes=10)
    await world.work("ingest")
    assert await world.to_fetch() == []

    # Cal.com says it before its own row shows it.
    booked.cancel()
    await world.delivered()

    assert await world.shown() == [(MIRA["name"], at(0), "cancelled")]
    assert await world.to_fetch() == [timedelta(seconds=30)]
    await world.advance(seconds=30)
    await world.work("ingest")
    assert await world.to_fetch() == []
    assert await world.shown() == [(MIRA["name"], at(0), "cancelled")]


async def test_an_answer_that_stays_behind_is_asked_for_twice_more_and_let_be(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    booked = world.book(at(0))
    await world.delivered()
    await world.advance(minutes=10)
    await world.work("ingest")
    world.twin.behaviour.row_lags_s = 10_000
    booked.cancel()
    before = world.calls(*GET)

    await world.delivered()
    assert await world.to_fetch() == [timedelta(seconds=30)]
    await world.advance(seconds=30)
    await world.work("ingest")
    assert await world.to_fetch() == [timedelta(minutes=5)]
    await world.advance(minutes=5)
    await world.work("ingest")

    assert await world.to_fetch() == []
    assert world.calls(*GET) == before + 3
    assert await world.shown() == [(MIRA["name"], at(0), "cancelled")]


async def test_a_link_that_comes_later_is_asked_for(calendly: IngestWorld) -> None:
    world = calendly
    await world.begin()
    world.twin.behaviour.links_come_later = True
    link = "select meeting_url from public.meetings"
    world.book(at(0))
    await world.twin.outbox.drain()
    await world.work("ingest")
    await world.advance(seconds=30)
    await world.work("ingest")

    assert (
        await world.database.fetchval(link) == "https://meet.example.com/abc-defg-hij"
    )
    assert await world.to_fetch() == []


async def test_one_message_for_a_series_has_all_of_it_asked_for(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    kind = world.account.event_type("Course", needs_approval=True)
    booked = world.account.book_series(kind, [at(day) for day in range(3)], **MIRA)
    await world.delivered()
    await world.advance(minutes=1)
    await world.work("ingest")
    assert {status for _, _, status in await world.shown()} == {"tentative"}

    booked[0].approve()
    await world.delivered()
    await world.advance(minutes=6)
    await world.work("ingest")
    assert [status for _, _, status in await world.shown()] == ["confirmed"] * 3

    booked[1].cancel_series()
    await world.delivered()
    await world.advance(minutes=6)
    await world.work("ingest")
    assert [status for _, _, status in await world.shown()] == ["cancelled"] * 3


async def test_a_booking_that_is_not_there_is_no_failure(world: IngestWorld) -> None:
    await world.begin()
    booked = world.book(at(0))
    await world.twin.outbox.drain()
    known = world.twin.store.known
    is_calcom = world.provider is Provider.CALCOM
    del (known.bookings if is_calcom else known.invitees)[
        booked.uid if is_calcom else booked.id
    ]

    [ended] = await world.work("ingest")

    assert ended.error is None
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]
    assert await world.to_fetch() == [timedelta(seconds=30)]


async def test_what_others_ask_for_is_fetched_when_they_say(world: IngestWorld) -> None:
    await world.begin()
    booked = world.book(at(0))
    await world.delivered()
    await world.advance(minutes=10)
    await world.work("ingest")
    world.twin.switchboard.drop_pushes(times=None)
    booked.cancel()
    await world.twin.outbox.drain()
    await world.database.execute(
        "select sync.request_fetch($1, $2, sync.clock() + interval '2 minutes')",
        world.connection_id,
        booked.uid if world.provider is Provider.CALCOM else booked.uri,
    )

    await world.work("ingest")
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]
    await world.advance(minutes=2)
    await world.work("ingest")

    assert await world.shown() == [(MIRA["name"], at(0), "cancelled")]


async def test_a_slot_that_everybody_left_is_no_meeting(calcom: IngestWorld) -> None:
    world = calcom
    kind = world.account.event_type("Class", seats=3)
    mira = world.account.book(kind, at(0), **MIRA).reschedule(at(1))
    await world.advance(minutes=1)
    await world.begin()
    assert await world.shown() == [(MIRA["name"], at(1), "confirmed")]

    mira.reschedule(at(2))
    await world.delivered()
    await world.advance(minutes=20)
    await world.work("ingest")

    assert await world.shown() == [(MIRA["name"], at(2), "confirmed")]


# Sweeps find what was not delivered.


async def test_the_first_sweep_adopts_what_is_there(world: IngestWorld) -> None:
    world.book(at(0))
    world.book(at(1), **IVO).cancel()
    await world.advance(minutes=1)  # until Cal.com's rows show it

    await world.begin()

    assert (MIRA["name"], at(0), "confirmed") in await world.shown()
    live = [one for one in await world.shown() if one[2] != "cancelled"]
    assert live == [(MIRA["name"], at(0), "confirmed")]
    assert (await world.calendar(world.calendar_id))["backfill"] == "complete"


NAMED = """
  select provider_event_id from public.calendar_events
  where raw -> 'references' <> '[]' order by starts_at
"""


async def test_what_a_sweep_finds_is_asked_for_its_ids_in_the_calendar(
    calcom: IngestWorld,
) -> None:
    world = calcom
    booked = [world.book(at(day)) for day in range(3)]
    world.book(at(3)).cancel()
    await world.advance(minutes=1)
    await world.begin()
    assert [row[0] for row in await world.database.fetch(NAMED)] == [
        one.uid for one in booked
    ]

    # What is known is not asked for again; what was moved meanwhile is.
    asked = world.calls("bookings.references")
    world.twin.switchboard.drop_pushes(times=None)
    moved = booked[2].reschedule(at(4))
    await world.twin.outbox.drain()
    await world.advance(minutes=20)
    await world.work("ingest")

    assert world.calls("bookings.references") == asked + 1
    assert [row[0] for row in await world.database.fetch(NAMED)][-1] == moved.uid


async def test_whose_bookings_are_in_no_calendar_is_not_asked_about_them_for_ever(
    calcom: IngestWorld,
) -> None:
    world = calcom
    world.account.user.calendar = None
    booked = world.book(at(20))
    await world.advance(minutes=1)
    await world.begin()
    for _ in range(6):
        await world.advance(minutes=20)
        await world.work("ingest")
    assert world.calls("bookings.references") == 3

    booked.change(title="Another title")
    for _ in range(6):
        await world.advance(minutes=20)
        await world.work("ingest")

    assert world.calls("bookings.references") == 3


async def test_a_first_sweep_of_many_asks_for_those_that_come_first_and_paces_itself(
    calcom: IngestWorld,
) -> None:
    world = calcom
    for day in range(28):
        for hour in (9, 10, 11, 12):
            world.book(at(day, hour=hour))
    await world.advance(minutes=1)
    world.twin.behaviour.requests_per_minute = 120
    await world.begin()
    assert len(await world.shown()) == 112
    named = await world.database.fetch(NAMED)
    assert len(named) == 50

    for _ in range(2):
        await world.advance(minutes=1)
        await world.work("ingest")

    assert len(await world.database.fetch(NAMED)) == 112
    assert 429 not in {call.status for call in world.twin.calls.records}


async def test_of_a_series_each_booking_is_asked_for_its_id_in_the_calendar(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    kind = world.account.event_type("Course")
    booked = world.account.book_series(kind, [at(day) for day in range(3)], **MIRA)
    await world.delivered()
    assert await world.database.fetch(NAMED) == []
    await world.advance(seconds=30)
    await world.work("ingest")

    assert [row[0] for row in await world.database.fetch(NAMED)] == [
        one.uid for one in booked
    ]
    assert await world.to_fetch() == []


async def test_what_was_over_before_the_window_is_not_adopted(
    world: IngestWorld,
) -> None:
    world.book(at(0))
    await world.advance(days=90)
    world.book(at(91), **IVO)

    await world.begin()

    assert await world.shown() == [(IVO["name"], at(91), "confirmed")]


async def test_a_sweep_finds_what_webhooks_missed(world: IngestWorld) -> None:
    await world.begin()
    moved, cancelled = world.book(at(0)), world.book(at(1), **IVO)
    await world.delivered()
    await world.advance(minutes=10)
    await world.work("ingest")
    world.twin.switchboard.drop_pushes(times=None)
    moved.reschedule(at(2))
    cancelled.cancel()
    world.book(at(3), email="lena@example.com", name="Lena Berg")
    await world.twin.outbox.drain()
    await world.work("ingest")
    assert len(await world.shown()) == 2

    every = EVERY[world.provider]
    due_in = await world.due_in()
    assert due_in is not None
    assert due_in < 1.15 * every
    await world.advance(seconds=1.2 * every.total_seconds())
    await world.work("ingest")

    assert await world.shown() == [
        (IVO["name"], at(1), "cancelled"),
        (MIRA["name"], at(2), "confirmed"),
        ("Lena Berg", at(3), "confirmed"),
    ]


async def test_a_sweep_without_news_changes_nothing_and_is_idle(
    world: IngestWorld,
) -> None:
    await world.begin()
    world.book(at(0))
    await world.delivered()
    await world.advance(minutes=10)
    await world.work("ingest")
    rows = "select xmin::text || m::text from public.meetings as m"
    before = await world.database.fetchval(rows)

    await world.advance(hours=2)
    [ended] = await world.work("ingest")

    assert ended.outcome is not None
    assert ended.outcome.idle
    assert ended.outcome.api_calls > 0
    assert await world.database.fetchval(rows) == before


async def test_a_sweep_that_is_broken_off_goes_on_where_it_stopped(
    world: IngestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.calcom.client.PAGE_SIZE", 2)
    monkeypatch.setattr("providers.calendly.client.EVENTS_PAGE_SIZE", 2)
    booked = [world.book(at(day)) for day in range(7)]
    monkeypatch.setattr("worker.ingest.CALLS_A_RUN", 2)

    await world.begin(watched=False)
    assert len(await world.shown()) < len(booked)
    assert (await world.ingest_state())["sweep_page"] is not None
    runs = len(await world.work("ingest"))

    assert runs > 1
    assert len(await world.shown()) == len(booked)
    assert (await world.ingest_state())["sweep_began_at"] is None


async def test_an_answer_of_too_often_is_a_pause_and_deliveries_go_on(
    world: IngestWorld,
) -> None:
    await world.begin()
    for operation in GET:
        fault = world.twin.switchboard.answer(operation, 429, times=1)
        fault.retry_after_s = 60
    world.book(at(0))

    ended = await world.delivered()

    assert all(one.error is None for one in ended)
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]
    world.book(at(1), **IVO)
    await world.delivered()
    assert len(await world.shown()) == 2
    assert world.calls(*GET) == 1
    due_in = await world.due_in()
    assert due_in is not None
    assert timedelta(seconds=50) < due_in <= timedelta(seconds=61)
    await world.advance(seconds=61)
    await world.work("ingest")
    assert world.calls(*GET) > 1


async def test_a_provider_that_is_down_is_asked_later_and_deliveries_do_not_wait(
    world: IngestWorld,
) -> None:
    await world.begin()
    for operation in GET:
        world.twin.switchboard.answer(operation, 503, times=1)
    world.book(at(0))

    ended = await world.delivered()

    assert all(one.error is None for one in ended)
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]
    assert "503" in (await world.calendar(world.calendar_id))["last_error"]
    world.book(at(1), **IVO)
    await world.delivered()
    assert len(await world.shown()) == 2
    assert await world.states() == ["done", "done"]
    assert world.calls(*GET) == 1
    await world.advance(seconds=61)
    await world.work("ingest")
    assert world.calls(*GET) > 1
    assert (await world.calendar(world.calendar_id))["last_error"] is None


async def test_a_grant_that_is_gone_waits_for_the_owner(world: IngestWorld) -> None:
    await world.begin()
    world.account.revoke()

    ended = await world.ingest()
    await world.advance(hours=2)
    ended = await world.ingest()

    assert ended.error is not None
    assert (await world.connection(world.calendar_id))["status"] == "needs_reauth"
    assert await world.alert("access_lost") is not None


async def test_a_resync_sweeps_everything_again(world: IngestWorld) -> None:
    await world.begin()
    world.twin.switchboard.drop_pushes(times=None)
    world.book(at(0))
    await world.twin.outbox.drain()
    await world.database.execute(
        "update public.calendars set full_round_asked_at = sync.clock()"
    )

    await world.work("ingest")

    assert len(await world.shown()) == 1
    assert (await world.calendar(world.calendar_id))["full_round_asked_at"] is None


# Seats come and go without a trace in what was changed.


async def in_a_class(
    world: IngestWorld, *others: dict[str, str]
) -> tuple[Any, list[Any]]:
    """Mira and others have seats, which all is known of."""
    kind = world.account.event_type("Class", seats=4)
    seats = [world.account.book(kind, at(3), **who) for who in (MIRA, *others)]
    await world.delivered()
    await world.advance(minutes=20)
    await world.work("ingest")
    world.twin.switchboard.drop_pushes(times=None)
    return kind, seats


async def days_pass(world: IngestWorld, days: int = 2) -> None:
    for _ in range(days * 8):
        await world.advance(hours=3)
        await world.work("ingest")
        await world.advance(minutes=10)
        await world.work("ingest")


@pytest.mark.parametrize("is_first_there", [True, False])
async def test_a_seat_whose_move_was_lost_is_found_where_it_is(
    calcom: IngestWorld, *, is_first_there: bool
) -> None:
    world = calcom
    await world.begin()
    kind, (mira, _) = await in_a_class(world, IVO)
    if not is_first_there:
        world.account.book(kind, at(4), email="lena@example.com", name="Lena Berg")
        await days_pass(world, 1)
    meeting = "select id from public.meetings where attendee_name = $1"
    before = await world.database.fetch(meeting, MIRA["name"])
    mira = mira.reschedule(at(4))
    await world.twin.outbox.drain()
    await days_pass(world)

    lena = [] if is_first_there else [("Lena Berg", at(4), "confirmed")]
    assert await world.shown() == [
        (IVO["name"], at(3), "confirmed"),
        *lena,
        (MIRA["name"], at(4), "confirmed"),
    ]
    assert await world.database.fetch(meeting, MIRA["name"]) == before

    mira.reschedule(at(3))
    await world.twin.outbox.drain()
    await days_pass(world, 1)

    assert (MIRA["name"], at(3), "confirmed") in await world.shown()
    assert await world.database.fetch(meeting, MIRA["name"]) == before


async def test_a_seat_whose_cancellation_was_lost_is_cancelled_after_a_day(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    _, (mira, _) = await in_a_class(world, IVO)
    mira.cancel()
    await world.twin.outbox.drain()
    await days_pass(world)

    assert await world.shown() == [
        (IVO["name"], at(3), "confirmed"),
        (MIRA["name"], at(3), "cancelled"),
    ]


async def test_who_cancelled_unheard_is_not_left_behind_by_the_last_who_goes(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    _, (mira, ivo) = await in_a_class(world, IVO)
    mira.cancel()
    ivo.cancel()
    await world.twin.outbox.drain()
    await days_pass(world, 1)

    assert await world.shown() == [
        (IVO["name"], at(3), "cancelled"),
        (MIRA["name"], at(3), "cancelled"),
    ]


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_seat_whose_lost_move_is_found_when_its_old_time_is_over_is_shown(
    calcom: IngestWorld, *, is_alone: bool
) -> None:
    world = calcom
    await world.begin()
    kind = world.account.event_type("Class", seats=4)
    world.account.book(kind, at(5), email="lena@example.com", name="Lena Berg")
    await world.delivered()
    await world.advance(minutes=20)
    mira, *_ = (
        world.account.book(kind, at(3), **who)
        for who in ([MIRA] if is_alone else [MIRA, IVO])
    )
    await world.delivered()
    await days_pass(world, 2)
    await world.advance(minutes=(at(3) - world.clock.now()) / timedelta(minutes=1) - 60)
    await world.work("ingest")
    world.twin.switchboard.drop_pushes(times=None)
    mira.reschedule(at(5))
    await world.twin.outbox.drain()
    await days_pass(world, 1)

    assert [shown for shown in await world.shown() if shown[0] == MIRA["name"]] == [
        (MIRA["name"], at(5), "confirmed")
    ]


async def test_why_the_last_of_a_class_cancelled_is_told_of_nobody_else(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    _, (mira, ivo) = await in_a_class(world, IVO)
    world.twin.switchboard.clear()
    mira.cancel(reason="Holidays")
    await world.delivered()
    await world.advance(minutes=20)
    await world.work("ingest")
    ivo.cancel(reason="A private matter of Ivo's")
    await world.delivered()
    await days_pass(world, 1)

    told = await world.database.fetch(
        """
        select attendee_name as name,
          metadata #>> '{booking,cancellation,reason}' as reason
        from public.meetings
        """
    )
    assert {row["name"]: row["reason"] for row in told} == {
        MIRA["name"]: "Holidays",
        IVO["name"]: "A private matter of Ivo's",
    }


async def test_a_seat_that_the_api_does_not_show_yet_is_not_cancelled(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    kind, (mira, _) = await in_a_class(world, IVO)
    world.twin.switchboard.clear()
    row = mira.row
    world.twin.store.hide(row, timedelta(minutes=9))
    world.account.book(kind, at(3), email="lena@example.com", name="Lena Berg")
    await world.delivered()
    for seconds in (30, 300, 900, 900):
        await world.advance(seconds=seconds)
        await world.work("ingest")

    assert {status for _, _, status in await world.shown()} == {"confirmed"}
    assert len(await world.shown()) == 3


async def test_a_slot_that_was_moved_whole_is_where_it_was_moved_to(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    _, (mira, _) = await in_a_class(world, IVO)
    world.twin.switchboard.clear()
    Booked(world.twin, mira.uid).reschedule(at(4), by=world.account.email)
    await world.delivered()
    await world.advance(minutes=20)
    await world.work("ingest")
    there = [(IVO["name"], at(4), "confirmed"), (MIRA["name"], at(4), "confirmed")]
    assert await world.shown() == there

    # The old time still lists its seats, though nobody comes.
    await world.database.execute(
        "update public.calendars set full_round_asked_at = sync.clock()"
    )
    await world.ingest()

    assert await world.shown() == there


async def test_one_answer_alone_cancels_no_seat(calcom: IngestWorld) -> None:
    world = calcom
    await world.begin()
    _, (mira, _) = await in_a_class(world, IVO)
    fetch = "select sync.request_fetch($1, $2, sync.clock())"
    missed = mira.attendee
    mira.row.attendees.remove(missed)
    await world.database.execute(fetch, world.connection_id, mira.uid)
    await world.work("ingest")
    assert await world.to_fetch() == [timedelta(seconds=30)]
    mira.row.attendees.append(missed)
    await world.advance(seconds=30)
    await world.work("ingest")

    assert await world.to_fetch() == []
    assert {status for _, _, status in await world.shown()} == {"confirmed"}


# What was refused, or never came.


async def test_a_stale_time_has_the_connection_swept_once(
    calendly: IngestWorld,
) -> None:
    world = calendly
    await world.begin()
    world.twin.switchboard.drop_pushes(times=None)
    world.book(at(0))
    await world.twin.outbox.drain()
    before = world.calls(*LIST)
    await world.deliver(["{}"], kind="lifecycle", headers='{"reason": "missed"}')

    await world.work("ingest")

    assert len(await world.shown()) == 1
    assert world.calls(*LIST) == before + 1
    assert await world.states("lifecycle") == ["done"]
    assert await world.alert("deliveries_lost") is None


async def test_after_an_outage_a_sweep_begins_before_it_and_closes_the_alert(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin()
    world.twin.switchboard.drop_pushes(times=None)
    began_at = world.clock.now()
    world.book(at(0))
    await world.twin.outbox.drain()
    await world.advance(minutes=3)
    headers = f'{{"reason": "outage", "from": "{began_at.isoformat()}"}}'
    await world.deliver(["{}"], kind="lifecycle", headers=headers)
    world.twin.switchboard.answer("bookings.list", 503, times=1)

    await world.work("ingest")
    message = await world.alert("deliveries_lost")
    assert message is not None
    assert began_at.isoformat() in message
    await world.advance(seconds=61)
    await world.ingest()

    assert len(await world.shown()) == 1
    assert await world.alert("deliveries_lost") is None
    assert await world.states("lifecycle") == ["done"]
    count = "select count(*) from public.sync_alerts where kind = 'deliveries_lost'"
    assert await world.database.fetchval(count) == 1


async def test_with_webhooks_alone_the_span_of_an_outage_is_told_as_lost(
    calcom: IngestWorld,
) -> None:
    world = calcom
    await world.begin_by_hand()
    for hour in (10, 11):
        span = f'"from": "2026-11-21T{hour}:00Z", "until": "2026-11-21T{hour}:02Z"'
        headers = f'{{"reason": "outage", {span}}}'
        await world.deliver(["{}"], kind="lifecycle", headers=headers)
        await world.work("ingest")
        message = await world.alert("deliveries_lost")
        assert message is not None
        assert f"2026-11-21T{hour}:00Z to 2026-11-21T{hour}:02Z" in message
        assert "lost" in message

    assert world.calls() == 0
    assert await world.states("lifecycle") == ["done", "done"]
    assert await world.due_in() is None
