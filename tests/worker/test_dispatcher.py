"""Promises of the dispatcher, with workers that race, die, dawdle and are cut off."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest
import structlog

from providers.errors import RateLimited
from providers.model import Provider
from tests.support.builders import make_connection, make_organization
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.worker.support import (
    HOUR,
    Doing,
    Proxy,
    make_due,
    move_clock,
    request,
    working,
)
from worker.handler import Counts, LeaseLost, Outcome, Task, TaskFailed


async def account(database: Connection) -> UUID:
    """The id of a connection."""
    return await make_connection(database, await make_organization(database))


async def leased(database: Connection) -> int:
    """How many tasks somebody holds."""
    count: int = await database.fetchval(
        "select count(*) from sync.tasks where lease is not null"
    )
    return count


async def none_leased(database: Connection) -> bool:
    return await leased(database) == 0


async def task_row(database: Connection, subject: UUID) -> asyncpg.Record:
    row = await database.fetchrow(
        "select * from sync.tasks where subject_id = $1", subject
    )
    assert row is not None
    return row


async def runs(database: Connection) -> list[asyncpg.Record]:
    return await database.fetch("select * from sync.runs order by id")


async def recorded(database: Connection, count: int) -> list[asyncpg.Record]:
    await eventually(lambda: _has(database, count))
    return await runs(database)


async def _has(database: Connection, count: int) -> bool:
    return len(await runs(database)) == count


# Claiming.


async def test_two_workers_do_each_of_500_tasks_once(
    database: Connection, database_url: str
) -> None:
    subjects = await make_due(database, 500)
    one, two = Doing(), Doing()
    async with working(database_url, one), working(database_url, two):
        await eventually(lambda: len(one.begun) + len(two.begun) >= 500, within_s=15)
        await eventually(lambda: none_leased(database))
    counts = Counter(one.subjects + two.subjects)
    assert set(counts) == subjects
    assert set(counts.values()) == {1}
    assert one.begun
    assert two.begun


async def test_a_task_that_is_asked_for_is_begun_at_once(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    async with working(database_url, doing) as dispatcher:
        await asleep(database, dispatcher)
        await make_due(database, 1)
        await eventually(lambda: doing.ended, within_s=0.5)


async def test_a_task_begins_when_it_falls_due(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    async with working(database_url, doing):
        at = await database.fetchval("select sync.clock() + interval '300 ms'")
        await request(database, uuid4(), at=at)
        await eventually(lambda: doing.begun)
    assert doing.begun[0].claimed_at >= at
    assert doing.begun[0].claimed_at - at < timedelta(seconds=0.3)


async def test_a_slow_handler_holds_nobody_up(
    database: Connection, database_url: str
) -> None:
    slow, quick = await make_due(database, 1), set()
    held, free = Doing(held=True), Doing()

    async def handler(task: Task) -> Outcome:
        return await (held if task.subject_id in slow else free)(task)

    async with working(database_url, handler, slots=2):
        await eventually(lambda: held.begun)
        quick = await make_due(database, 20)
        await eventually(lambda: set(free.subjects) == quick)
        assert not held.ended
        held.gate.set()
        await eventually(lambda: held.ended)


async def test_no_more_tasks_run_than_there_are_slots(
    database: Connection, database_url: str
) -> None:
    doing = Doing(held=True)
    await make_due(database, 20)
    async with working(database_url, doing, slots=3):
        await eventually(lambda: len(doing.begun) == 3)
        assert await leased(database) == 3
        doing.gate.set()
        await eventually(lambda: len(doing.ended) == 20)
    assert doing.most[None] == 3


async def test_one_connection_never_takes_more_than_its_share(
    database: Connection, database_url: str
) -> None:
    busy, other = await account(database), await account(database)
    await make_due(database, 30, connection_id=busy)
    doing = Doing(held=True)
    async with working(database_url, doing, slots=16, per_connection=3):
        await eventually(lambda: len(doing.begun) == 3)
        await make_due(database, 4, connection_id=other)
        await eventually(lambda: doing.most[other] == 3)
        doing.gate.set()
        await eventually(lambda: len(doing.ended) == 34, within_s=10)
    assert doing.most == {busy: 3, other: 3}


async def test_a_task_asked_for_while_it_runs_runs_exactly_once_more(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing = Doing(held=True)
    async with working(database_url, doing):
        await eventually(lambda: doing.begun)
        for _ in range(20):
            await request(database, subject)
        assert len(doing.begun) == 1
        doing.gate.set()
        await eventually(lambda: len(doing.ended) == 2)
        await eventually(lambda: none_leased(database))
        row = await task_row(database, subject)
    assert row["run_at"] > await database.fetchval("select sync.clock()")
    assert len(doing.ended) == 2


async def test_a_task_whose_handler_names_no_next_time_is_over(
    database: Connection, database_url: str
) -> None:
    await make_due(database, 3)
    async with working(database_url, Doing(next_in=None)):

        async def gone() -> bool:
            left = await database.fetchval(
                "select count(*) from sync.tasks where kind = 'pull'"
            )
            return bool(left == 0)

        await eventually(gone)


# Leases.


async def test_the_tasks_of_a_worker_that_died_are_taken_over_after_their_lease(
    database: Connection, database_url: str
) -> None:
    subjects = await make_due(database, 5)
    dying, heir = Doing(held=True), Doing()
    async with working(database_url, dying, lease_s=1):
        await eventually(lambda: len(dying.begun) == 5)
    assert await leased(database) == 5
    async with working(database_url, heir, lease_s=1):
        await eventually(lambda: set(heir.subjects) == subjects)
    assert {task.attempt for task in heir.begun} == {2}


async def test_a_run_that_outlasts_its_lease_keeps_it(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing, rival = Doing(held=True), Doing()
    async with working(database_url, doing, lease_s=0.5):
        await eventually(lambda: doing.begun)
        (task,) = doing.begun
        first_end = task.lease_ends
        async with working(database_url, rival, lease_s=0.5):
            await eventually(lambda: task.lease_ends > first_end + 1)
        assert 0 < task.lease_remaining() <= 0.5
        doing.gate.set()
        await eventually(lambda: none_leased(database))
    assert not rival.begun
    assert (await task_row(database, subject))["attempts"] == 0


async def test_a_handler_whose_lease_is_gone_is_cancelled(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing = Doing(held=True)
    with structlog.testing.capture_logs() as logs:
        async with working(database_url, doing, lease_s=0.3):
            await eventually(lambda: doing.begun)
            await database.execute(
                "update sync.tasks set lease = gen_random_uuid(), "
                "run_at = run_at + interval '1 hour' where subject_id = $1",
                subject,
            )
            await eventually(lambda: doing.cancelled)
            (run,) = await recorded(database, 1)
    assert run["outcome"] == "lost"
    assert [line["event"] for line in logs].count("task.lost") == 1


async def test_a_result_that_comes_after_the_lease_is_dropped(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing = Doing(held=True)
    async with working(database_url, doing):
        await eventually(lambda: doing.begun)
        theirs = await database.fetchval(
            "update sync.tasks set lease = gen_random_uuid() "
            "where subject_id = $1 returning lease",
            subject,
        )
        doing.gate.set()
        (run,) = await recorded(database, 1)
    assert run["outcome"] == "lost"
    assert (await task_row(database, subject))["lease"] == theirs


@pytest.mark.parametrize("how", ["handler", "fence"])
async def test_a_handler_that_meets_the_fence_has_lost_its_task(
    database: Connection, admin: Connection, database_url: str, how: str
) -> None:
    (subject,) = await make_due(database, 1)

    async def handler(task: Task) -> Outcome:
        if how == "handler":
            raise LeaseLost
        await admin.execute("select sync.hold_task($1, $2)", task.id, uuid4())
        raise AssertionError

    async with working(database_url, handler):
        (run,) = await recorded(database, 1)
    assert run["outcome"] == "lost"
    assert (await task_row(database, subject))["last_error"] is None


async def test_a_handler_that_never_ends_is_broken_off(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing = Doing(held=True)
    async with working(database_url, doing, lease_s=0.3, run_limit_s=0.2):
        await eventually(lambda: doing.cancelled)
        await recorded(database, 1)
    assert "in time" in (await task_row(database, subject))["last_error"]


async def test_tasks_of_an_account_that_is_not_active_rest(
    database: Connection, database_url: str
) -> None:
    connection_id = await account(database)
    await database.execute(
        "update public.calendar_connections set status = 'needs_reauth' where id = $1",
        connection_id,
    )
    (resting,) = await make_due(database, 1, connection_id=connection_id)
    doing = Doing()
    async with working(database_url, doing):
        for _ in range(3):  # each a claim that sees a task that is never due
            count = len(doing.begun)
            await make_due(database, 1)
            await eventually(lambda count=count: len(doing.begun) > count)
    assert resting not in doing.subjects
    assert (await task_row(database, resting))["run_at"].year == 9999


# Failing.


async def test_a_failed_task_waits_and_says_why(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)

    async def handler(_: Task) -> Outcome:
        raise TaskFailed("the calendar is asleep")

    with structlog.testing.capture_logs() as logs:
        async with working(database_url, handler):
            run, *_ = await recorded(database, 1)
    assert (run["outcome"], run["error"]) == ("failed", "the calendar is asleep")
    row = await task_row(database, subject)
    assert row["last_error"] == "the calendar is asleep"
    assert row["not_before"] is not None
    (told,) = [line for line in logs if line["event"] == "task.failed"]
    assert told["error"] == "the calendar is asleep"


async def test_what_a_provider_asks_to_wait_holds_back_its_whole_connection(
    database: Connection, database_url: str
) -> None:
    connection_id = await account(database)
    await make_due(database, 1, connection_id=connection_id)

    async def handler(_: Task) -> Outcome:
        raise RateLimited(Provider.GOOGLE, "events.list", retry_after_s=600)

    async with working(database_url, handler):
        await recorded(database, 1)
    until = await database.fetchval(
        "select backoff_until - sync.clock() from sync.connection_state "
        "where connection_id = $1",
        connection_id,
    )
    assert timedelta(minutes=9) < until <= timedelta(minutes=10)


async def test_a_fault_of_ours_is_told_by_type_and_place_and_quotes_nothing(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)

    async def handler(_: Task) -> Outcome:
        raise KeyError("Dinner with Ada")

    async with working(database_url, handler):
        (run,) = await recorded(database, 1)
    error = (await task_row(database, subject))["last_error"]
    assert error == run["error"]
    assert error.startswith("KeyError at tests/worker/test_dispatcher.py:")
    assert "Ada" not in error


@pytest.mark.parametrize(
    "failure",
    [
        TaskFailed("a zero \0, half a pair \ud83d", retry_after_s=float("inf")),
        TaskFailed("no number", retry_after_s=float("nan")),
        RateLimited(Provider.GOOGLE, "events.list", retry_after_s=-1),
    ],
)
async def test_a_failure_that_cannot_be_written_as_it_is_holds_nobody_up(
    database: Connection, database_url: str, failure: Exception
) -> None:
    connection_id = await account(database)
    (bad,) = await make_due(database, 1, connection_id=connection_id)
    good = Doing()

    async def handler(task: Task) -> Outcome:
        if task.subject_id == bad:
            raise failure
        return await good(task)

    async with working(database_url, handler):
        await recorded(database, 1)
        await make_due(database, 2)
        done = await recorded(database, 3)
    assert sorted(run["outcome"] for run in done) == ["done", "done", "failed"]


async def test_a_next_time_without_a_zone_is_a_fault_of_the_handler(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)

    async def handler(_: Task) -> Outcome:
        return Outcome(datetime(2026, 11, 21, 12))  # noqa: DTZ001

    async with working(database_url, handler):
        await recorded(database, 1)
    assert "ValueError" in (await task_row(database, subject))["last_error"]


async def test_polls_that_find_nothing_are_not_told_at_info(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    doing.idle = True
    with structlog.testing.capture_logs() as logs:
        async with working(database_url, doing):
            await make_due(database, 3, lane=2)
            await eventually(lambda: len(doing.ended) == 3)
    told = [line for line in logs if line["event"].startswith("task.")]
    assert {line["log_level"] for line in told} == {"debug"}


async def test_a_handler_that_is_cancelled_from_within_has_failed(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)

    async def handler(_: Task) -> Outcome:
        raise asyncio.CancelledError

    async with working(database_url, handler):
        await recorded(database, 1)
    assert "cancelled" in (await task_row(database, subject))["last_error"]


# Recording.


async def test_a_run_that_did_something_leaves_a_row(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)

    async def handler(task: Task) -> Outcome:
        return Outcome(
            task.now() + HOUR,
            Counts(1, 2) + Counts(updated=1, cancelled=3, unchanged=4, set_aside=5),
            api_calls=6,
            steps={"api": 41.2},
        )

    with structlog.testing.capture_logs() as logs:
        async with working(database_url, handler):
            (run,) = await recorded(database, 1)
    counts = ("created", "updated", "cancelled", "unchanged", "set_aside", "api_calls")
    assert [run[name] for name in counts] == [1, 3, 3, 4, 5, 6]
    assert run["steps"] == '{"api": 41.2}'
    assert (run["subject_id"], run["outcome"], run["attempt"]) == (subject, "done", 1)
    assert run["due_at"] <= run["started_at"] <= run["finished_at"]
    (finished,) = [line for line in logs if line["event"] == "task.finished"]
    assert [finished[name] for name in counts] == [1, 3, 3, 4, 5, 6]
    assert finished["duration_ms"] >= 0


async def test_an_idle_run_leaves_none(database: Connection, database_url: str) -> None:
    doing = Doing()
    doing.idle = True
    await make_due(database, 5)
    async with working(database_url, doing):
        await eventually(lambda: len(doing.ended) == 5)
        await eventually(lambda: none_leased(database))
    assert await runs(database) == []


# The floor, and sleeping.


async def asleep(database: Connection, dispatcher: object) -> None:
    """Wait until a dispatcher listens and has nothing to do."""
    agenda = dispatcher._agenda  # type: ignore[attr-defined]
    await eventually(
        lambda: agenda.poll_every_s is None and agenda.look_at > 1e-9 + _loop_time()
    )


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def last_queries(database: Connection) -> list[asyncpg.Record]:
    """When each connection of the worker was last asked something."""
    return await database.fetch(
        "select pid, query_start from pg_stat_activity where application_name = "
        "'worker' and datname = current_database() order by pid"
    )


async def test_an_idle_worker_asks_the_database_nothing(
    database: Connection, admin: Connection, database_url: str
) -> None:
    doing = Doing()
    subjects = await make_due(database, 3)
    async with working(database_url, doing) as dispatcher:
        await eventually(lambda: set(doing.subjects) == subjects)
        await asleep(database, dispatcher)
        before = await last_queries(admin)
        assert len(before) == 2
        # As long as polls or a busy loop would take to show.
        await asyncio.sleep(1.5)
        assert await last_queries(admin) == before


async def test_a_request_that_commits_late_is_found_below_the_floor(
    database: Connection, admin: Connection, database_url: str
) -> None:
    doing = Doing()
    subject = uuid4()
    async with working(database_url, doing):
        transaction = database.transaction()
        await transaction.start()
        await request(database, subject)
        later = await make_due(admin, 3)
        await eventually(lambda: set(doing.subjects) == later)
        await transaction.commit()
        await eventually(lambda: subject in doing.subjects)


async def test_a_task_below_the_floor_that_nobody_told_of_is_found_within_10_s(
    database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.agenda.SWEEP_EVERY_S", 0.5)
    doing = Doing()
    async with working(database_url, doing):
        await eventually(lambda: _did(doing, database))
        hidden = await database.fetchval(
            "insert into sync.tasks (kind, subject_id, lane, run_at) values "
            "('pull', gen_random_uuid(), 1, sync.clock() - interval '1 day') "
            "returning subject_id"
        )
        # Each claim goes on above it, until one goes without the floor.
        await eventually(lambda: _did(doing, database, hidden))
    others = [subject for subject in doing.subjects if subject != hidden]
    assert others


async def _did(doing: Doing, database: Connection, subject: UUID | None = None) -> bool:
    """Keep it claiming; whether it did this one, or anything."""
    await make_due(database, 1)
    return subject in doing.subjects if subject else bool(doing.subjects)


async def test_a_clock_that_was_moved_makes_the_worker_look(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    at = await database.fetchval("select sync.clock() + interval '1 hour'")
    async with working(database_url, doing) as dispatcher:
        await make_due(database, 1, at=at)
        await asleep(database, dispatcher)
        assert not doing.begun
        await move_clock(database, timedelta(hours=2))
        await eventually(lambda: doing.begun)
        assert doing.begun[0].now() > at


async def test_a_due_task_that_was_locked_is_done_when_it_is_let_go(
    database: Connection, admin: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing = Doing()
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute(
        "select from sync.tasks where subject_id = $1 for update", subject
    )
    async with working(database_url, doing) as dispatcher:
        others = await make_due(database, 3)
        await eventually(lambda: set(doing.subjects) == others)
        agenda = dispatcher._agenda
        await eventually(lambda: agenda._locked_wait_s > 0.1)
        await transaction.rollback()
        await eventually(lambda: subject in doing.subjects)


# Without a database.


async def test_a_worker_outlives_its_database_and_says_so_once(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    with structlog.testing.capture_logs() as logs:
        async with Proxy(database_url) as proxy, working(proxy.url, doing):
            first = await make_due(database, 1)
            await eventually(lambda: set(doing.subjects) == first)
            # A question under way may claim the second, and its answer be lost.
            await eventually(lambda: none_leased(database))
            proxy.refuse()
            second = await make_due(database, 1)
            await eventually(lambda: proxy.connections > 8)
            assert set(doing.subjects) == first
            proxy.refuse(False)
            # By now it waits up to 5 s between two tries.
            await eventually(lambda: set(doing.subjects) == first | second, within_s=15)
            await eventually(lambda: none_leased(database))
    events = [line["event"] for line in logs]
    assert events.count("database.back") == 1
    assert 1 <= events.count("database.away") <= 2  # the cut, then the refusals


async def test_a_worker_outlives_a_database_that_takes_leave_before_it_hangs_up(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    async with (
        Proxy(database_url) as proxy,
        working(proxy.url, doing, listening=False) as dispatcher,
    ):
        before = await make_due(database, 1)
        dispatcher.hear("0")  # it may have looked already
        await eventually(lambda: set(doing.subjects) == before)
        # Not in the midst of a question: that one would wait for its answer.
        await eventually(lambda: none_leased(database))
        proxy.say_goodbye()
        after = await make_due(database, 1)
        dispatcher.hear("0")
        await eventually(lambda: set(doing.subjects) == before | after)


async def test_runs_that_end_while_the_database_is_away_are_settled_when_it_is_back(
    database: Connection, database_url: str
) -> None:
    doing = Doing(held=True)
    async with Proxy(database_url) as proxy, working(proxy.url, doing):
        await make_due(database, 3)
        await eventually(lambda: len(doing.begun) == 3)
        proxy.refuse()
        doing.gate.set()
        await eventually(lambda: len(doing.ended) == 3)
        proxy.refuse(False)
        await eventually(lambda: none_leased(database))
        done = await recorded(database, 3)
    assert {run["outcome"] for run in done} == {"done"}
    assert len(doing.begun) == 3


# Stopping.


async def test_a_worker_that_is_told_to_stop_lets_its_handlers_end(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing = Doing(held=True)
    async with working(database_url, doing) as dispatcher:
        await eventually(lambda: doing.begun)
        dispatcher.stop()
        await make_due(database, 5)
        dispatcher.hear("")  # of those it hears, and must neither claim nor spin
        doing.gate.set()
        await eventually(lambda: none_leased(database))
    assert doing.subjects == [subject]
    assert [run["outcome"] for run in await runs(database)] == ["done"]


async def test_a_worker_that_is_told_to_stop_gives_back_what_does_not_end(
    database: Connection, database_url: str
) -> None:
    subjects = await make_due(database, 3)
    doing, heir = Doing(held=True), Doing()
    async with (
        working(database_url, doing, stop_within_s=0.2) as dispatcher,
        working(database_url, heir, slots=1) as heir_dispatcher,
    ):
        await eventually(lambda: len(doing.begun) + len(heir.begun) == 3)
        await asleep(database, heir_dispatcher)
        given_back = set(doing.subjects)
        dispatcher.stop()
        await eventually(lambda: set(heir.subjects) == subjects)
    assert {task.subject_id for task in doing.cancelled} == given_back
    assert {task.attempt for task in heir.begun} == {1}


async def test_what_a_question_under_way_claims_is_given_back_by_a_worker_that_stops(
    database: Connection, admin: Connection, database_url: str
) -> None:
    doing = Doing()
    async with working(database_url, doing) as dispatcher:
        await asleep(database, dispatcher)
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute("lock table sync.tasks")
        dispatcher.hear("")

        async def waits() -> bool:
            return bool(
                await database.fetchval(
                    "select count(*) from pg_stat_activity where application_name = "
                    "'worker' and wait_event = 'relation' "
                    "and datname = current_database()"
                )
            )

        await eventually(waits)
        dispatcher.stop()
        await make_due(admin, 3)
        # Due before the question was asked, so that its answer holds them.
        await admin.execute("update sync.tasks set run_at = run_at - interval '1 day'")
        await transaction.commit()

        async def given_back() -> bool:
            return bool(
                await database.fetchval(
                    "select count(*) = 3 from sync.tasks where kind = 'pull' and "
                    "lease is null and attempts = 0 "
                    "and run_at > sync.clock() - interval '1 hour'"
                )
            )

        await eventually(given_back)
    assert not doing.begun


async def test_a_task_asked_for_again_passes_on_from_a_worker_that_stops(
    database: Connection, database_url: str
) -> None:
    (subject,) = await make_due(database, 1)
    doing, heir = Doing(held=True), Doing()
    async with working(database_url, doing) as dispatcher:
        await eventually(lambda: doing.begun)
        async with working(database_url, heir) as heir_dispatcher:
            await asleep(database, heir_dispatcher)
            await request(database, subject)
            dispatcher.stop()
            doing.gate.set()
            await eventually(lambda: heir.subjects == [subject])
