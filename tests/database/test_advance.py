"""What only time does: meetings are over, the next one becomes the last."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.builders import make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.events import Calendar, make_event
from tests.support.eventually import eventually
from tests.support.pipeline import (
    HOUR,
    advance,
    advance_task,
    assert_true,
    change,
    make_client,
    make_meeting,
    over_but_standing,
    pass_time,
    place_of,
)
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def clock(database: Connection) -> DatabaseClock:
    """The database's time, which stands until a test moves it."""
    moved = DatabaseClock(database)
    await moved.set(NOW)
    # A new database's first run is due at once, in its time.
    await database.execute("update sync.tasks set run_at = $1", NOW)
    return moved


@pytest.fixture
async def organization(database: Connection, clock: DatabaseClock) -> UUID:
    return await make_organization(database)


@pytest.fixture
async def client(database: Connection, organization: UUID) -> UUID:
    return await make_client(database, organization)


async def status_of(database: Connection, meeting: UUID) -> str:
    status: str = await database.fetchval(
        "select status from public.meetings where id = $1", meeting
    )
    return status


async def run_at(database: Connection) -> datetime:
    task = await advance_task(database)
    assert task is not None
    at: datetime = task["run_at"]
    return at


async def test_a_meeting_that_is_over_is_completed_and_its_client_was_met(
    database: Connection,
    organization: UUID,
    client: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    start = NOW + DAY
    meeting = await make_meeting(database, organization, start, client_id=client)

    await pass_time(database, worker, clock, start)
    place = await place_of(database, client)
    assert await status_of(database, meeting) == "confirmed"
    assert (place["last_meeting_at"], place["next_meeting_at"]) == (start, None)
    assert place["stage"] == "booked"

    await pass_time(database, worker, clock, start + HOUR)
    place = await place_of(database, client)
    assert await status_of(database, meeting) == "completed"
    assert (place["last_meeting_at"], place["next_meeting_at"]) == (start, None)
    assert (place["stage"], place["stage_set_at"]) == ("met", start + HOUR)


@pytest.mark.parametrize("status", ["tentative", "cancelled", "no_show"])
async def test_what_did_not_stand_does_not_become_completed(
    database: Connection,
    organization: UUID,
    client: UUID,
    clock: DatabaseClock,
    worker: Connection,
    status: str,
) -> None:
    meeting = await make_meeting(
        database, organization, NOW + DAY, client_id=client, status=status
    )
    await pass_time(database, worker, clock, NOW + 2 * DAY)
    assert await status_of(database, meeting) == status
    assert (await place_of(database, client))["last_meeting_at"] is None


async def test_history_says_that_it_was_time_that_completed_a_meeting(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    await make_meeting(database, organization, NOW + DAY)
    await pass_time(database, worker, clock, NOW + 2 * DAY)
    last = await database.fetchrow(
        "select side, user_id, changes::text from public.meeting_history"
        " order by id desc"
    )
    assert last is not None
    assert (last["side"], last["user_id"]) == ("engine", None)
    assert "completed" in last["changes"]


# When it is due.


async def test_it_is_due_at_the_first_start_or_end(
    database: Connection,
    organization: UUID,
    client: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    start = NOW + DAY
    await make_meeting(database, organization, start, client_id=client)
    await advance(worker)
    assert await run_at(database) == start
    # Without a client only its end means something.
    await make_meeting(database, organization, NOW + MINUTE)
    assert await run_at(database) == NOW + MINUTE + HOUR


async def test_a_meeting_moved_to_an_earlier_time_brings_it_forward(
    database: Connection,
    organization: UUID,
    client: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    meeting = await make_meeting(database, organization, NOW + DAY, client_id=client)
    await advance(worker)
    await change(database, meeting, starts_at=NOW + MINUTE, ends_at=NOW + HOUR)
    assert await run_at(database) == NOW + MINUTE


async def test_a_meeting_made_while_it_runs_is_not_forgotten(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
    connect: Connect,
) -> None:
    await make_meeting(database, organization, NOW + DAY)
    await advance(worker)
    await clock.set(NOW + 2 * DAY)
    running = await connect(role="sync_worker")
    claimed = await running.fetchrow(
        "select * from sync.claim_tasks(array['advance'], 1, '1 minute')"
    )
    assert claimed is not None
    done = await running.fetchrow(
        "select * from sync.advance($1, $2)", claimed["task_id"], claimed["lease"]
    )
    assert done is not None
    await make_meeting(database, organization, clock.now + MINUTE)
    await running.execute(
        "select sync.finish_task($1, $2, $3)",
        claimed["task_id"],
        claimed["lease"],
        done["next_at"] or clock.now + DAY,
    )
    assert await run_at(database) == clock.now + MINUTE + HOUR


async def test_what_is_about_to_be_committed_is_looked_for_again_in_a_second(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
    connect: Connect,
) -> None:
    # Its request found the task due early enough; the run that was due did not see it.
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    await make_meeting(other, organization, NOW + MINUTE)
    await other.execute("set constraints all immediate")
    done = await advance(worker)
    assert done
    assert done["next_at"] == NOW + timedelta(seconds=1)
    await transaction.commit()
    await pass_time(database, worker, clock, NOW + 2 * HOUR)
    assert await over_but_standing(database) == 0


async def test_a_meeting_that_somebody_holds_does_not_hold_up_the_others(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
    connect: Connect,
) -> None:
    held = await make_meeting(database, organization, NOW - DAY)
    await make_meeting(database, organization, NOW - DAY)
    other = await connect()
    async with other.transaction():
        await change(other, held, title="I think about it")
        done = await advance(worker)
        assert done
        assert done["completed"] == 1
        assert done["next_at"] == NOW + timedelta(seconds=1)
    await pass_time(database, worker, clock, NOW + MINUTE)
    assert await over_but_standing(database) == 0


async def test_a_run_does_so_much_and_no_more_and_the_rest_at_once(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    for day in range(5):
        client = await make_client(database, organization)
        await make_meeting(database, organization, NOW - day * DAY, client_id=client)
    done = await advance(worker, limit=2)
    assert done
    assert (done["completed"], done["next_at"]) == (2, NOW)
    await pass_time(database, worker, clock, NOW + 2 * DAY)
    assert await over_but_standing(database) == 0
    await assert_true(database)


async def test_due_meetings_are_read_by_an_index_and_no_others(
    database: Connection, organization: UUID, worker: Connection
) -> None:
    await database.execute(
        """
        insert into public.meetings (organization_id, starts_at, ends_at, status)
        select $1, $2::timestamptz + n * interval '1 hour',
          $2::timestamptz + n * interval '1 hour', 'confirmed'
        from generate_series(-10, 20000) as n
        """,
        organization,
        NOW - MINUTE,
    )
    await database.execute("analyze public.meetings")
    reads = "select pg_stat_get_xact_tuples_returned('public.meetings'::regclass)"
    async with database.transaction():
        await database.execute("set local role sync_worker")
        before = await database.fetchval(reads)
        claimed = await database.fetchrow(
            "select * from sync.claim_tasks(array['advance'], 1, '1 minute')"
        )
        assert claimed is not None
        done = await database.fetchrow(
            "select * from sync.advance($1, $2)", claimed["task_id"], claimed["lease"]
        )
        after = await database.fetchval(reads)
    assert done is not None
    assert done["completed"] == 11
    assert after - before < 100


async def test_a_run_that_lost_its_lease_writes_nothing(
    database: Connection, organization: UUID, worker: Connection
) -> None:
    meeting = await make_meeting(database, organization, NOW - DAY)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await worker.fetch(
            "select * from sync.advance($1, gen_random_uuid())",
            (await advance_task(database))["id"],  # type: ignore[index]
        )
    assert refused.value.sqlstate == "CS001"
    assert await status_of(database, meeting) == "confirmed"


async def test_an_edit_and_a_run_at_the_same_time_leave_the_truth(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
    connect: Connect,
) -> None:
    clients = [await make_client(database, organization) for _ in range(5)]
    made = [
        await make_meeting(database, organization, NOW + n * MINUTE, client_id=client)
        for client in clients
        for n in range(1, 9)
    ]
    editing = await connect()

    async def edit() -> None:
        for meeting in made[::3]:
            await change(editing, meeting, starts_at=NOW, ends_at=NOW + 3 * HOUR)

    async def run() -> None:
        for _ in range(8):
            await clock.advance(minutes=20)
            await advance(worker)

    await asyncio.gather(edit(), run())
    await eventually(lambda: settled(database, worker, clock))
    await assert_true(database)


async def settled(
    database: Connection, worker: Connection, clock: DatabaseClock
) -> bool:
    await pass_time(database, worker, clock, clock.now + timedelta(seconds=2))
    return await over_but_standing(database) == 0


# A completed meeting that is put off.


async def test_a_meeting_that_time_completed_and_its_calendar_puts_off_is_to_come(
    calendar: Calendar, database: Connection, clock: DatabaseClock, worker: Connection
) -> None:
    guest = [{"email": "guest@example.net"}]
    old = make_event("a", starts_at=NOW + HOUR, attendees=guest)
    new = make_event("a", starts_at=NOW + DAY, attendees=guest)
    await calendar.apply(old)
    await pass_time(database, worker, clock, NOW + 3 * HOUR)
    shown = "select status from public.meetings"
    assert await database.fetchval(shown) == "completed"
    await calendar.apply(new)
    assert await database.fetchval(shown) == "confirmed"
    place = await database.fetchrow("select * from public.pipeline")
    assert place is not None
    assert (place["stage"], place["next_meeting_at"]) == ("booked", NOW + DAY)
    assert await calendar.apply(new) == {"unchanged": 1}
    await pass_time(database, worker, clock, NOW + 2 * DAY)
    assert await database.fetchval(shown) == "completed"


async def test_a_meeting_that_a_user_completed_stays_so_when_it_is_put_off(
    calendar: Calendar, database: Connection, clock: DatabaseClock, worker: Connection
) -> None:
    await calendar.apply(make_event("a", starts_at=NOW + HOUR))
    await database.execute("update public.meetings set status = 'completed'")
    await pass_time(database, worker, clock, NOW + 3 * HOUR)
    await calendar.apply(make_event("a", starts_at=NOW + DAY))
    meeting = await database.fetchrow("select * from public.meetings")
    assert meeting is not None
    assert (meeting["status"], meeting["starts_at"]) == ("completed", NOW + DAY)


async def test_a_new_title_of_a_meeting_that_is_over_does_not_open_it_again(
    calendar: Calendar, database: Connection, clock: DatabaseClock, worker: Connection
) -> None:
    await calendar.apply(make_event("a", starts_at=NOW + HOUR))
    await pass_time(database, worker, clock, NOW + 3 * HOUR)
    await calendar.apply(make_event("a", starts_at=NOW + HOUR, title="New"))
    assert await database.fetchval("select status from public.meetings") == "completed"


# Whatever happens.

TIMES = st.integers(-20, 40).map(lambda n: NOW + n * HOUR / 2)
STATUSES = st.sampled_from(
    ["scheduled", "confirmed", "tentative", "completed", "cancelled", "no_show"]
)
WHO = st.sampled_from([0, 1, 2])
WHICH = st.integers(0, 7)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), WHO, TIMES, STATUSES),
        st.tuples(st.just("move"), WHICH, TIMES),
        st.tuples(st.just("status"), WHICH, STATUSES),
        st.tuples(st.just("give"), WHICH, WHO),
        st.tuples(st.just("delete"), WHICH),
        st.tuples(st.just("restore"), WHICH),
        st.tuples(st.just("remove"), WHICH),
        st.tuples(st.just("wait"), st.integers(1, 300)),
    ),
    min_size=3,
    max_size=16,
)


class Practice:
    """Three clients and what becomes of their meetings."""

    def __init__(self, database: Connection, organization: UUID) -> None:
        self.database = database
        self.organization = organization
        self.clients: list[UUID] = []
        self.meetings: list[UUID] = []

    async def do(self, what: str, *how: Any) -> None:
        if what == "make":
            who, start, status = how
            self.meetings.append(
                await make_meeting(
                    self.database,
                    self.organization,
                    start,
                    client_id=self.clients[who],
                    status=status,
                )
            )
            return
        if not self.meetings:
            return
        meeting = self.meetings[how[0] % len(self.meetings)]
        columns: dict[str, Any] = {}
        if what == "move":
            columns = {"starts_at": how[1], "ends_at": how[1] + HOUR}
        elif what == "status":
            columns = {"status": how[1]}
        elif what == "give":
            columns = {"client_id": self.clients[how[1]]}
        elif what in ("delete", "restore"):
            columns = {"deleted_at": NOW if what == "delete" else None}
        if columns:
            await change(self.database, meeting, **columns)
        else:
            await self.database.execute(
                "delete from public.meetings where id = $1", meeting
            )
            self.meetings.remove(meeting)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS, together=st.booleans())
async def test_last_and_next_meeting_are_true_whatever_happens_whenever(
    database: Connection,
    clock: DatabaseClock,
    worker: Connection,
    steps: list[tuple[Any, ...]],
    together: bool,
) -> None:
    await database.execute("delete from public.organizations")
    practice = Practice(database, await make_organization(database))
    practice.clients = [
        await make_client(database, practice.organization) for _ in range(3)
    ]
    for what, *how in steps:
        if what == "wait":
            await pass_time(
                database, worker, clock, clock.now + timedelta(minutes=how[0])
            )
        elif together:
            async with database.transaction():
                await practice.do(what, *how)
                await practice.do(what, *how)
        else:
            await practice.do(what, *how)
        await pass_time(database, worker, clock, clock.now)
        await assert_true(database)
        assert await over_but_standing(database) == 0
