"""Promises of an ingest: the tables show what was booked, however it was told."""

import json
import random
import string
from datetime import timedelta
from typing import Any

import pytest

from providers.model import Provider
from tests.support.booking_bodies import CalcomLife, CalendlyLife
from tests.support.ingesting import (
    IVO,
    MIRA,
    IngestWorld,
    at,
    body_of,
    make_ingest_world,
)
from tests.support.sessions import Connection

LIVES = {Provider.CALENDLY: CalendlyLife, Provider.CALCOM: CalcomLife}
UNKNOWN = {
    Provider.CALENDLY: '{"event":"routing_form_submission.created","payload":{}}',
    Provider.CALCOM: '{"triggerEvent":"OOO_CREATED","payload":{}}',
}


@pytest.fixture
def world(either: IngestWorld) -> IngestWorld:
    """Each of the booking providers."""
    return either


def life_of(world: IngestWorld) -> Any:
    return LIVES[world.provider]()


def ending_early(body: str) -> str:
    """A delivery of a booking that ends before it begins."""
    document = json.loads(body)
    payload = document["payload"]
    if "scheduled_event" in payload:
        payload["scheduled_event"]["end_time"] = "2020-01-01T00:00:00Z"
    else:
        payload["endTime"] = "2020-01-01T00:00:00Z"
    return json.dumps(document)


# From a booking to the table.


async def test_what_is_booked_moved_and_cancelled_is_what_the_tables_show(
    world: IngestWorld,
) -> None:
    await world.begin()

    booked = world.book(at(0))
    await world.delivered()
    assert await world.shown() == [(MIRA["name"], at(0), "confirmed")]
    meeting = "select id from public.meetings where merged_into is null"
    first = await world.database.fetchval(meeting)

    booked = booked.reschedule(at(1))
    await world.delivered()
    assert await world.shown() == [(MIRA["name"], at(1), "confirmed")]
    assert await world.database.fetchval(meeting) == first

    booked.cancel()
    await world.delivered()
    assert await world.shown() == [(MIRA["name"], at(1), "cancelled")]
    assert await world.database.fetchval(meeting) == first
    assert set(await world.states()) == {"done"}


async def test_a_webhook_alone_is_enough_and_the_api_is_never_called(
    world: IngestWorld,
) -> None:
    await world.begin_by_hand()
    booked = world.book(at(0))
    await world.delivered()
    booked.cancel()
    await world.delivered()

    assert await world.shown() == [(MIRA["name"], at(0), "cancelled")]
    assert world.calls() == 0
    assert await world.to_fetch() == []
    # Nothing is to be done before something comes.
    assert await world.due_in() is None
    assert (await world.calendar(world.calendar_id))["backfill"] == "complete"


@pytest.mark.parametrize("seed", range(3))
async def test_in_whatever_order_and_number_deliveries_come_one_state_comes_of_them(
    world: IngestWorld, seed: int
) -> None:
    await world.begin_by_hand()
    life = life_of(world)
    bodies = [*life.book(), *life.reschedule(), *life.reschedule(), *life.mark()]
    shaken = random.Random(seed)  # noqa: S311
    again = [*bodies, *shaken.sample(bodies, 2)]
    shaken.shuffle(again)

    for body in again:
        await world.deliver([body])
        if shaken.random() < 0.6:
            await world.work("ingest")
    await world.work("ingest")

    assert await world.shown() == [("Mira Ostrow", life.start, "no_show")]
    assert set(await world.states()) == {"done"}


async def test_more_than_a_batch_is_taken_in_by_one_run(
    world: IngestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.ingest.BATCH", 4)
    await world.begin_by_hand()
    life = life_of(world)
    bodies = [*life.book()]
    for _ in range(5):
        bodies += life.reschedule()
    await world.deliver(bodies)

    [ended] = await world.work("ingest")

    assert ended.outcome is not None
    assert await world.states() == ["done"] * len(bodies)
    assert await world.shown() == [("Mira Ostrow", life.start, "confirmed")]


async def test_a_run_that_has_nothing_to_do_is_idle(world: IngestWorld) -> None:
    await world.begin_by_hand()

    ended = await world.ingest(lane=2)

    assert ended.outcome is not None
    assert ended.outcome.idle
    assert ended.outcome.next_at is None


# What cannot be processed.


async def test_what_cannot_be_read_fails_with_the_reason_and_the_others_go_on(
    world: IngestWorld,
) -> None:
    await world.begin_by_hand()
    [good] = life_of(world).book()
    bad = body_of(good, startTime="soon", uri="", uid="")
    await world.deliver([bad, good])

    [ended] = await world.work("ingest")

    assert ended.outcome is not None
    assert ended.outcome.counts.set_aside == 1
    assert await world.states() == ["failed", "done"]
    reason = await world.database.fetchval(
        "select error from sync.delivery_states where state = 'failed'"
    )
    assert "is missing" in reason
    assert await world.shown() != []


async def test_what_fails_five_times_is_dead_with_an_alert_until_it_is_replayed(
    world: IngestWorld,
) -> None:
    await world.begin_by_hand()
    [good] = life_of(world).book()
    await world.deliver([body_of(good, uri="", uid="")])
    await world.work("ingest")

    waits = []
    while (due_in := await world.due_in()) is not None:
        assert await world.states() == ["failed"]
        assert await world.alert("delivery_dead") is None
        waits.append(due_in)
        await world.advance(seconds=due_in.total_seconds())
        await world.work("ingest")

    assert waits == [timedelta(minutes=6**n) for n in range(4)]
    assert await world.states() == ["dead"]
    assert await world.alert("delivery_dead") is not None

    # Somebody mends what was wrong.
    await world.database.execute(
        "update sync.webhook_deliveries set body = $1", json.dumps(json.loads(good))
    )
    assert await world.database.fetchval("select sync.replay_deliveries()") == 1
    await world.work("ingest")
    assert await world.states() == ["done"]
    assert await world.alert("delivery_dead") is None
    assert len(await world.shown()) == 1


async def test_what_the_database_refuses_fails_alone(world: IngestWorld) -> None:
    await world.begin_by_hand()
    bodies = [life_of(world).book()[0] for _ in range(5)]
    bodies = [
        body_of(
            body,
            uid=f"u{n}",
            uri=f"https://api.calendly.com/scheduled_events/e{n}/invitees/i{n}",
            event=f"https://api.calendly.com/scheduled_events/e{n}",
            email=f"guest{n}@example.com",
            name=f"Guest {n}",
            attendees=[{"email": f"guest{n}@example.com", "name": f"Guest {n}"}],
        )
        for n, body in enumerate(bodies)
    ]
    await world.database.execute(
        """
        alter table public.meetings add constraint nobody_of_that_name
        check (attendee_name is distinct from 'Guest 3')
        """
    )
    await world.deliver(bodies)

    [ended] = await world.work("ingest")

    assert ended.error is None
    assert await world.states() == ["done", "done", "done", "failed", "done"]
    reason = await world.database.fetchval(
        "select error from sync.delivery_states where state = 'failed'"
    )
    assert "nobody_of_that_name" in reason
    assert "Guest" not in reason
    assert len(await world.shown()) == 4


async def test_what_makes_no_sense_fails_until_it_is_told_better(
    world: IngestWorld,
) -> None:
    await world.begin_by_hand()
    life = life_of(world)
    await world.deliver([ending_early(life.book()[0])])
    await world.work("ingest")
    assert await world.states() == ["failed"]
    assert await world.shown() == []
    await world.advance(minutes=1)
    await world.work("ingest")
    assert await world.states() == ["failed"]

    better = life.mark() if world.provider is Provider.CALENDLY else life.pay()
    await world.deliver(better)
    await world.work("ingest")
    assert await world.states() == ["failed", "done"]
    assert len(await world.shown()) == 1

    await world.advance(minutes=6)
    await world.work("ingest")
    assert await world.states() == ["done", "done"]
    assert await world.due_in() is None


async def test_a_trigger_that_is_no_bookings_is_ignored(world: IngestWorld) -> None:
    await world.begin_by_hand()
    await world.deliver([UNKNOWN[world.provider]])

    await world.work("ingest")

    assert await world.states() == ["ignored"]
    assert await world.due_in() is None


async def test_who_is_switched_off_wants_none_of_it(world: IngestWorld) -> None:
    await world.begin_by_hand()
    await world.deliver(life_of(world).book())
    await world.change(world.calendar_id, sync_enabled=False)

    await world.work("ingest")

    assert await world.states() == ["ignored"]
    assert await world.shown() == []
    assert await world.task("ingest", world.connection_id) is None


async def test_whose_calendar_nobody_made_yet_gets_one_that_is_switched_on(
    world: IngestWorld,
) -> None:
    await world.begin_by_hand()
    await world.deliver(life_of(world).book())
    await world.database.execute("delete from public.calendars")

    await world.work("ingest")

    assert await world.states() == ["done"]
    assert len(await world.shown()) == 1
    made = await world.database.fetch("select kind, sync_enabled from public.calendars")
    assert [tuple(row) for row in made] == [("bookings", True)]


async def test_what_is_longer_than_an_index_takes_fails_alone(
    world: IngestWorld,
) -> None:
    await world.begin_by_hand()
    [good] = life_of(world).book()
    # Nothing that could be compressed.
    long = "".join(random.Random(0).choices(string.ascii_letters, k=6000))  # noqa: S311
    uri = f"https://api.calendly.com/scheduled_events/e/invitees/{long}"
    told_of = {"new_invitee": uri, "rescheduleUid": long}
    weak = [{"email": f"{long}@example.com", "name": "X"}]
    bodies = [
        body_of(good, uid=long, uri=uri),
        body_of(good, uid="u2", uri=f"{uri[:60]}2", **told_of),
        body_of(
            good,
            uid="u3",
            event=uri,
            attendees=weak,
            attendeeSeatId="s",
            seatsPerTimeSlot=3,
        ),
    ]
    await world.deliver([*bodies, good])

    [ended] = await world.work("ingest")

    assert ended.error is None
    assert await world.states() == ["failed", "failed", "failed", "done"]
    assert len(await world.shown()) == 1


async def test_a_move_that_was_never_delivered_leaves_no_second_meeting(
    database: Connection, database_url: str
) -> None:
    async with make_ingest_world(database, database_url, Provider.CALCOM) as world:
        await world.begin_by_hand()
        booked = world.book(at(0))
        await world.delivered()
        world.twin.switchboard.drop_pushes(times=None)
        booked = booked.reschedule(at(1))
        await world.twin.outbox.drain()
        world.twin.switchboard.clear()

        booked.cancel()
        await world.delivered()

        assert await world.shown() == [(MIRA["name"], at(1), "cancelled")]


async def test_a_worker_whose_lease_is_gone_settles_nothing(world: IngestWorld) -> None:
    await world.begin_by_hand()
    await world.deliver(life_of(world).book())
    task = await world.claim("ingest", world.connection_id)
    await world.database.execute("update sync.tasks set lease = gen_random_uuid()")

    ended = await world.run(task)

    assert ended.outcome is None
    assert ended.error is None
    assert await world.states() == ["received"]
    assert await world.shown() == []


async def test_the_account_is_named_so_that_deliveries_find_it(
    world: IngestWorld,
) -> None:
    await world.begin(watched=False)

    named = await world.database.fetchval(
        "select provider_account_id from public.calendar_connections where id = $1",
        world.connection_id,
    )

    is_calendly = world.provider is Provider.CALENDLY
    host = world.account
    assert named == (host.uri if is_calendly else str(host.user.id))
    await world.ingest()
    assert world.calls("users.me", "me.get") <= 2


async def test_two_guests_are_two_meetings(world: IngestWorld) -> None:
    await world.begin()
    world.book(at(0), **MIRA)
    world.book(at(0, hour=12), **IVO)
    await world.delivered()

    assert await world.shown() == [
        (MIRA["name"], at(0), "confirmed"),
        (IVO["name"], at(0, hour=12), "confirmed"),
    ]
