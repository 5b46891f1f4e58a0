"""One row says when a subject must next be looked at; these are its promises."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.builders import make_connection, make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.sessions import Connection
from tests.support.tasks import (
    LEASE,
    claim,
    claim_and_wait,
    fail,
    finish,
    request,
    row,
)

Connect = Callable[..., Awaitable[Connection]]
LEASE_LOST = "CS001"
HOUR = timedelta(hours=1)


@pytest.fixture
async def clock(database: Connection) -> DatabaseClock:
    """Stands still, so that what is due is what a test made due."""
    moved = DatabaseClock(database)
    await moved.set(datetime.now(UTC))
    return moved


@pytest.fixture
async def worker(connect: Connect) -> Connection:
    return await connect(role="sync_worker")


@pytest.fixture
async def other(connect: Connect) -> Connection:
    return await connect(role="sync_worker")


@pytest.fixture
async def account(database: Connection) -> UUID:
    return await make_connection(database, await make_organization(database))


async def state(database: Connection, subject: UUID) -> dict[str, Any]:
    task = await row(database, subject)
    assert task is not None
    return dict(task)


async def refused(attempt: Awaitable[Any]) -> None:
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await attempt
    assert refusal.value.sqlstate == LEASE_LOST


# Claiming.


async def test_two_workers_never_claim_the_same_task(
    database: Connection, worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    subjects = {await request(worker) for _ in range(20)}

    async with worker.transaction():  # not yet committed: its rows are locked
        mine = await claim(worker, limit=10)
        theirs = await claim(other, limit=20)

    claimed = [task["subject_id"] for task in mine + theirs]
    assert len(claimed) == len(set(claimed)) == 20
    assert set(claimed) == subjects


async def test_a_claimed_task_is_nobody_elses_until_its_lease_ends(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    assert len(await claim(worker)) == 1

    await clock.advance(seconds=29)
    assert await claim(other) == []


async def test_a_task_whose_worker_died_is_due_again_after_its_lease(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    (first,) = await claim(worker)

    await clock.advance(seconds=30)
    (second,) = await claim(other)

    assert second["task_id"] == first["task_id"]
    assert second["lease"] != first["lease"]
    assert second["attempt"] == 2


async def test_a_task_that_lost_its_lease_twice_waits_before_it_is_tried_again(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    for _ in range(2):
        assert await claim(worker)
        await clock.advance(seconds=30)

    assert await claim(worker) == []
    task = await state(database, subject)
    assert task["run_at"] > clock.now
    assert task["last_error"] == "the lease ran out"
    await clock.advance(hours=1)
    assert len(await claim(worker)) == 1


async def test_what_kills_its_workers_is_not_tried_again_for_each_notification(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    for _ in range(2):
        assert await claim(worker)
        await clock.advance(seconds=30)
    assert await claim(worker) == []

    await request(worker, subject=subject, lane=1)

    assert (await state(database, subject))["run_at"] > clock.now


async def test_a_user_who_asks_does_not_wait_for_the_back_off_of_lost_leases(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    for _ in range(2):
        assert await claim(worker)
        await request(worker, subject, lane=0)
        await clock.advance(seconds=30)

    (task,) = await claim(worker)

    assert (task["lane"], task["attempt"]) == (0, 3)
    assert (await state(database, subject))["not_before"] is None


async def test_a_user_who_asks_for_later_is_served_then_whatever_leases_were_lost(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    for _ in range(2):
        assert await claim(worker)
        await clock.advance(seconds=30)
    later = clock.now + timedelta(milliseconds=100)
    await database.execute(
        """
        update sync.tasks set lease = gen_random_uuid(), again_lane = 0, again_at = $2
        where subject_id = $1
        """,
        subject,
        later,
    )

    assert await claim(worker) == []

    after = await state(database, subject)
    assert (after["run_at"], after["not_before"], after["lane"]) == (later, None, 0)


async def test_what_kills_its_workers_while_users_ask_raises_an_alert(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    for _ in range(10):
        assert await claim(worker)
        await request(worker, subject, lane=0)
        await clock.advance(seconds=30)

    (alert,) = await database.fetch("select kind, subject_id from sync_alerts")
    assert tuple(alert) == ("task_failing", subject)


async def test_what_kills_its_workers_again_and_again_raises_an_alert(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    for _ in range(20):
        await claim(worker)
        await clock.advance(hours=2)

    alerts = await database.fetch("select subject_id, kind, message from sync_alerts")
    assert [(one["subject_id"], one["kind"]) for one in alerts] == [
        (subject, "task_failing")
    ]
    assert "the lease ran out" in alerts[0]["message"]


async def test_a_user_is_served_before_any_number_of_polls(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    await database.execute(
        """
        insert into sync.tasks (kind, subject_id, lane, run_at)
        select 'pull', gen_random_uuid(), 2, sync.clock() - interval '1 day'
        from generate_series(1, 2000)
        """
    )
    edits = {await request(worker, kind="push", lane=0) for _ in range(10)}

    claimed = await claim(worker, limit=10)

    assert {task["subject_id"] for task in claimed} == edits


async def test_what_a_provider_announced_goes_before_background_work(
    worker: Connection, clock: DatabaseClock
) -> None:
    for _ in range(20):
        await request(worker, lane=2)
    await clock.advance(seconds=1)
    announced = {await request(worker, lane=1) for _ in range(9)}

    claimed = await claim(worker, limit=10)

    assert announced < {task["subject_id"] for task in claimed}


async def test_a_flood_of_notifications_leaves_background_work_its_share(
    worker: Connection, clock: DatabaseClock
) -> None:
    for _ in range(50):
        await request(worker, lane=1)
    polls = {await request(worker, lane=2) for _ in range(5)}

    claimed = await claim(worker, limit=20)

    background = polls & {task["subject_id"] for task in claimed}
    assert len(background) == 2


async def test_one_account_takes_no_more_than_its_share_and_loses_nothing(
    database: Connection, worker: Connection, clock: DatabaseClock, account: UUID
) -> None:
    for _ in range(12):
        await request(worker, connection_id=account)
    elsewhere = await request(worker)

    claimed = await claim(worker, per_connection=8)

    assert len(claimed) == 9
    assert elsewhere in {task["subject_id"] for task in claimed}
    for task in claimed:
        await finish(worker, task, at=None)
    await clock.advance(seconds=1)
    assert len(await claim(worker, per_connection=8)) == 4


async def test_an_inactive_connections_tasks_wait_until_it_is_active(
    database: Connection, worker: Connection, clock: DatabaseClock, account: UUID
) -> None:
    await database.execute(
        "update public.calendar_connections set status = 'needs_reauth'"
    )
    await request(worker, connection_id=account)
    leaving = await request(worker, kind="disconnect", connection_id=account)

    (only,) = await claim(worker)

    assert only["subject_id"] == leaving
    await clock.advance(days=1000)
    assert leaving in {task["subject_id"] for task in await claim(worker)}


async def test_what_waited_for_a_connection_is_due_when_it_works_again(
    database: Connection, worker: Connection, clock: DatabaseClock, account: UUID
) -> None:
    await database.execute("update public.calendar_connections set status = 'paused'")
    waiting = await request(worker, kind="push", connection_id=account)
    assert await claim(worker) == []

    await database.execute("update public.calendar_connections set status = 'active'")

    assert [task["subject_id"] for task in await claim(worker)] == [waiting]


async def test_claiming_tells_when_the_next_task_falls_due(
    worker: Connection, clock: DatabaseClock
) -> None:
    assert await claim_and_wait(worker) == ([], None)

    await request(worker, at=clock.now + timedelta(seconds=90))

    assert await claim_and_wait(worker) == ([], 90)


async def test_claiming_tells_to_come_again_at_once_while_more_is_due(
    worker: Connection, clock: DatabaseClock
) -> None:
    for _ in range(3):
        await request(worker)

    assert (await claim_and_wait(worker, limit=2))[1] == 0


async def test_a_worker_claims_only_the_kinds_it_knows(
    worker: Connection, clock: DatabaseClock
) -> None:
    await request(worker, kind="ingest")

    assert await claim(worker, kinds=("pull",)) == []
    assert len(await claim(worker, kinds=("ingest",))) == 1


# Requesting.


async def test_a_thousand_notifications_are_one_pull(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = uuid4()
    for _ in range(5):
        await database.execute(
            """
            select sync.request_tasks(
              array_fill('pull'::text, array[200]), array_fill($1::uuid, array[200]),
              array_fill(null::uuid, array[200]), array_fill(1::smallint, array[200]),
              array_fill(sync.clock(), array[200])
            )
            """,
            subject,
        )

    assert len(await claim(worker)) == 1


async def test_a_request_during_a_run_makes_exactly_one_more(
    worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)

    for _ in range(3):
        await clock.advance(seconds=1)
        await request(worker, subject)
    await finish(worker, task, at=clock.now + HOUR)

    (again,) = await claim(worker)
    assert again["lane"] == 1
    await finish(worker, again, at=clock.now + HOUR)
    assert await claim(worker) == []


async def test_a_request_for_later_during_a_run_is_due_then(
    worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)
    await request(worker, subject, at=clock.now + timedelta(seconds=20))
    await finish(worker, task, at=clock.now + HOUR)

    assert await claim_and_wait(worker) == ([], 20)


async def test_a_request_that_its_own_run_will_see_makes_no_other(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    await claim(worker)
    await request(worker, subject)

    # The first worker died; who takes over reads what was asked for in the meantime.
    await clock.advance(seconds=30)
    (task,) = await claim(other)
    await finish(other, task, at=clock.now + HOUR)

    assert await claim(other) == []


async def test_a_request_for_later_outlives_a_worker_that_died(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    await claim(worker)
    await request(worker, subject, at=clock.now + timedelta(minutes=5))

    await clock.advance(seconds=30)
    (task,) = await claim(other)
    await finish(other, task, at=clock.now + HOUR)

    assert await claim_and_wait(other) == ([], 270)


async def test_a_later_request_does_not_put_off_an_earlier_one(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker, at=clock.now + HOUR)
    await request(worker, subject, at=clock.now + 2 * HOUR)

    assert (await state(database, subject))["run_at"] == clock.now + HOUR


async def test_a_time_long_past_counts_as_now(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    # As now() is in a transaction that has been open for long: it would hide below the
    # floor of a worker's scan.
    subject = await request(worker, at=clock.now - HOUR)

    assert (await state(database, subject))["run_at"] == clock.now


async def test_a_user_takes_a_poll_into_the_first_lane(
    worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker, lane=2, at=clock.now + HOUR)
    await request(worker, subject, lane=0)

    (task,) = await claim(worker)
    assert task["lane"] == 0
    await finish(worker, task, at=clock.now)
    (again,) = await claim(worker)
    assert again["lane"] == 2


async def heard(connection: Connection) -> list[str]:
    """The payloads of notifications that arrived until now."""
    payloads: list[str] = []
    await connection.add_listener("sync_tasks", lambda *call: payloads.append(call[-1]))
    return payloads


async def test_a_batch_of_requests_notifies_once_with_the_lowest_due_time(
    database: Connection, worker: Connection, connect: Connect, clock: DatabaseClock
) -> None:
    listener = await connect()
    payloads = await heard(listener)

    await database.execute(
        """
        select sync.request_tasks(
          array['pull', 'pull', 'push'],
          array[gen_random_uuid(), gen_random_uuid(), gen_random_uuid()],
          array[null, null, null]::uuid[], array[1, 1, 0]::smallint[],
          array[$1, $2, $1]::timestamptz[]
        )
        """,
        clock.now + 2 * HOUR,
        clock.now + HOUR,
    )
    await listener.execute("select 1")

    (payload,) = payloads
    assert float(payload) == pytest.approx((clock.now + HOUR).timestamp())


async def test_a_request_that_moves_nothing_notifies_nobody(
    worker: Connection, connect: Connect, clock: DatabaseClock
) -> None:
    due = await request(worker)
    running = await request(worker, kind="push")
    await claim(worker, kinds=("push",))
    listener = await connect()
    payloads = await heard(listener)

    await request(worker, due)
    # Nor does one for a task that runs: whoever ends it will see.
    await request(worker, running, kind="push")
    await listener.execute("select 1")

    assert payloads == []


# The fence.


async def test_a_zombie_writes_nothing(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    (task,) = await claim(worker)
    await clock.advance(seconds=30)
    await claim(other)

    await refused(
        worker.execute("select sync.hold_task($1, $2)", task["task_id"], task["lease"])
    )
    await refused(finish(worker, task, at=None))
    await refused(fail(worker, task))


async def test_a_task_held_by_its_writer_is_not_taken_over(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    (task,) = await claim(worker)

    async with worker.transaction():
        await worker.execute(
            "select sync.hold_task($1, $2)", task["task_id"], task["lease"]
        )
        await clock.advance(minutes=1)
        assert await claim(other) == []

    assert len(await claim(other)) == 1


async def test_a_webhook_does_not_wait_for_the_page_being_written(
    database: Connection, worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)

    async with worker.transaction():
        await worker.execute(
            "select sync.hold_task($1, $2)", task["task_id"], task["lease"]
        )
        async with asyncio.timeout(2):
            await request(other, subject)

    assert (await state(database, subject))["again_at"] == clock.now


async def test_a_renewed_lease_is_kept_and_a_lost_one_is_told(
    worker: Connection, other: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    (task,) = await claim(worker)
    renew = "select sync.renew_leases($1, $2, $3)"
    held = ([task["task_id"]], [task["lease"]], LEASE)

    await clock.advance(seconds=20)
    assert await worker.fetchval(renew, *held) == task["task_id"]
    await clock.advance(seconds=20)
    assert await claim(other) == []

    await clock.advance(seconds=20)
    await claim(other)
    assert await worker.fetchval(renew, *held) is None


# Ending.


async def test_a_task_that_is_over_goes(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker, kind="push")
    (task,) = await claim(worker)
    await finish(worker, task, at=None)

    assert await row(database, subject) is None


async def test_a_task_that_is_over_stays_if_it_was_asked_for_meanwhile(
    worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker, kind="push")
    (task,) = await claim(worker)
    await request(worker, subject, kind="push", lane=0)
    await finish(worker, task, at=None)

    (again,) = await claim(worker)
    assert (again["subject_id"], again["lane"]) == (subject, 0)


async def test_notifications_and_polls_do_not_shorten_a_back_off(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)
    due = await fail(worker, task)
    assert due > clock.now

    await request(worker, subject, lane=1)
    await request(worker, subject, lane=2)

    assert (await state(database, subject))["run_at"] == due
    assert await claim(worker) == []


async def test_a_notification_during_a_run_that_fails_waits_for_the_back_off(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)
    await request(worker, subject, lane=1)
    due = await fail(worker, task)

    after = await state(database, subject)
    assert after["run_at"] == due > clock.now
    await clock.set(due)
    assert len(await claim(worker)) == 1


async def test_a_users_edit_clears_the_back_off(
    worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)
    await fail(worker, task)

    await request(worker, subject, lane=0)

    (again,) = await claim(worker)
    assert again["lane"] == 0


async def test_a_users_edit_during_a_run_that_fails_is_tried_at_once(
    worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker, kind="push", lane=0)
    (task,) = await claim(worker)
    await request(worker, subject, kind="push", lane=0)
    await fail(worker, task)

    assert len(await claim(worker)) == 1


async def test_back_off_grows_and_never_exceeds_an_hour_by_much(
    database: Connection,
) -> None:
    waits = await database.fetch(
        """
        select attempts, max(sync.backoff(attempts)) as longest,
          min(sync.backoff(attempts)) as shortest
        from generate_series(1, 40) as attempts
        cross join generate_series(1, 200)
        group by attempts order by attempts
        """
    )

    assert all(row["shortest"] >= timedelta(milliseconds=200) for row in waits)
    assert all(row["longest"] <= HOUR for row in waits)
    assert waits[0]["longest"] <= timedelta(seconds=2)
    assert waits[-1]["longest"] > timedelta(minutes=30)


async def test_what_has_raised_an_alert_is_not_tried_again_at_once(
    database: Connection,
) -> None:
    shortest = await database.fetch(
        """
        select attempts, min(sync.backoff(attempts)) as wait
        from generate_series(8, 40) as attempts
        cross join generate_series(1, 200)
        group by attempts order by attempts
        """
    )

    assert shortest[0]["wait"] >= timedelta(seconds=128)
    assert shortest[-1]["wait"] >= HOUR / 2


async def test_a_good_run_forgets_the_failures_before_it(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> None:
    subject = await request(worker)
    (task,) = await claim(worker)
    await clock.set(await fail(worker, task))
    (task,) = await claim(worker)
    assert task["attempt"] == 2
    await finish(worker, task, at=clock.now + HOUR)

    after = await state(database, subject)
    assert (after["attempts"], after["last_error"], after["not_before"]) == (
        0,
        None,
        None,
    )


async def test_retry_after_holds_back_the_whole_account_and_no_other(
    database: Connection, worker: Connection, clock: DatabaseClock, account: UUID
) -> None:
    await request(worker, connection_id=account)
    (task,) = await claim(worker)
    sibling = await request(worker, connection_id=account, lane=0)
    stranger = await request(worker)

    await fail(worker, task, retry_after=timedelta(minutes=10))

    (only,) = await claim(worker)
    assert only["subject_id"] == stranger
    assert (await state(database, sibling))["run_at"] == clock.now + timedelta(
        minutes=10
    )
    await finish(worker, only, at=None)
    await clock.advance(minutes=10)
    assert sibling in {task["subject_id"] for task in await claim(worker)}


async def test_a_task_that_keeps_failing_raises_one_alert_and_success_resolves_it(
    database: Connection, worker: Connection, clock: DatabaseClock, account: UUID
) -> None:
    await request(worker, connection_id=account)
    for _ in range(3):
        (task,) = await claim(worker)
        await clock.set(await fail(worker, task, attempts_before_alert=2))
    alerts = "select * from public.sync_alerts"

    (alert,) = await database.fetch(alerts)
    assert alert["kind"] == "task_failing"
    assert "it went wrong" in alert["message"]
    assert alert["resolved_at"] is None

    (task,) = await claim(worker)
    await finish(worker, task, at=clock.now + HOUR)
    (alert,) = await database.fetch(alerts)
    assert alert["resolved_at"] == clock.now


async def test_a_task_handed_back_is_due_at_once_and_was_not_tried(
    worker: Connection, other: Connection, connect: Connect, clock: DatabaseClock
) -> None:
    await request(worker)
    (task,) = await claim(worker)
    listener = await connect()
    payloads = await heard(listener)

    handed = await worker.fetchval(
        "select sync.hand_back_tasks($1, $2)", [task["task_id"]], [task["lease"]]
    )
    await listener.execute("select 1")

    assert handed == 1
    assert len(payloads) == 1
    (again,) = await claim(other)
    assert again["attempt"] == 1


async def test_only_its_own_tasks_can_be_handed_back(
    worker: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    (task,) = await claim(worker)

    handed = await worker.fetchval(
        "select sync.hand_back_tasks($1, $2)", [task["task_id"]], [uuid4()]
    )

    assert handed == 0


# The floor.


async def test_a_scan_begins_at_its_floor(
    worker: Connection, clock: DatabaseClock
) -> None:
    await request(worker)
    await clock.advance(seconds=10)

    assert await claim(worker, floor=clock.now - timedelta(seconds=5)) == []
    assert len(await claim(worker, floor=clock.now - timedelta(seconds=10))) == 1


async def test_a_request_that_was_committed_late_tells_where_the_floor_must_sink_to(
    database: Connection, worker: Connection, connect: Connect, clock: DatabaseClock
) -> None:
    slow, listener = await connect(), await connect()
    payloads = await heard(listener)
    async with slow.transaction():
        await request(slow)
        await clock.advance(seconds=3)
        assert await claim(worker) == []  # invisible, and the floor rises to now
        floor = clock.now
    await listener.execute("select 1")

    assert await claim(worker, floor=floor) == []
    told = datetime.fromtimestamp(float(payloads[0]), UTC)
    assert told <= floor - timedelta(seconds=2.9)
    assert len(await claim(worker, floor=told)) == 1


# Many at once.


async def test_batches_in_any_order_do_not_deadlock(connect: Connect) -> None:
    subjects = [uuid4() for _ in range(50)]

    async def ask(order: list[UUID]) -> None:
        connection = await connect()
        many = len(order)
        for _ in range(40):
            await connection.execute(
                """
                select sync.request_tasks(
                  $1, $2, array_fill(null::uuid, array[$3::int]),
                  array_fill(1::smallint, array[$3::int]),
                  array_fill(sync.clock(), array[$3::int])
                )
                """,
                ["pull"] * many,
                order,
                many,
            )

    async def work() -> None:
        connection = await connect(role="sync_worker")
        for _ in range(40):
            claimed = await claim(connection, limit=50)
            await connection.execute(
                "select sync.finish_tasks($1, $2, $3)",
                [task["task_id"] for task in reversed(claimed)],
                [task["lease"] for task in reversed(claimed)],
                [datetime.now(UTC) for _ in claimed],
            )

    async with asyncio.timeout(30):
        await asyncio.gather(
            ask(subjects), ask(subjects[::-1]), ask(subjects * 2), work(), work()
        )


async def test_workers_cannot_touch_the_table_itself(worker: Connection) -> None:
    for statement in (
        "select * from sync.tasks",
        "update sync.tasks set lease = null",
        "delete from sync.tasks",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker.execute(statement)
