"""A stage of the rules follows from the meetings as they are, however they came so."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.builders import make_organization
from tests.support.database_clock import DatabaseClock
from tests.support.pipeline import (
    HOUR,
    advance_task,
    change,
    make_client,
    make_meeting,
    pass_time,
    stage_of,
)
from tests.support.pipeline_walk import Met, Rule, stage_by_rules
from tests.support.sessions import Connection

NOW = datetime(2026, 6, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
A_WHILE = timedelta(seconds=5)

HAPPENINGS = ["booked", "met", "cancelled", "no_show"]
STAGES = ["new", "lead", "regular", "lost"]
STATUSES = ["scheduled", "confirmed", "tentative", "completed", "cancelled", "no_show"]

BY_DEFAULT = [Rule(happening, None, happening) for happening in HAPPENINGS]
RULES = st.one_of(
    st.just(BY_DEFAULT),
    st.lists(
        st.builds(
            Rule,
            st.sampled_from(HAPPENINGS),
            st.sampled_from([None, *STAGES]),
            st.sampled_from(STAGES),
        ),
        max_size=9,
        unique_by=lambda rule: (rule.happening, rule.from_stage),
    ),
)
# Few times, so that many are the same.
MEETINGS = st.lists(
    st.builds(
        lambda start, hours, status: Met(start, start + hours * HOUR, status),
        st.integers(-4, 4).map(lambda n: NOW + n * HOUR),
        st.integers(1, 2),
        st.sampled_from(STATUSES),
    ),
    max_size=6,
)


@pytest.fixture
async def clock(database: Connection) -> DatabaseClock:
    moved = DatabaseClock(database)
    await moved.set(NOW)
    await database.execute("update sync.tasks set run_at = $1", NOW)
    return moved


@pytest.fixture
async def organization(database: Connection, clock: DatabaseClock) -> UUID:
    return await make_organization(database)


@pytest.fixture
async def client(database: Connection, organization: UUID) -> UUID:
    return await make_client(database, organization)


async def set_rules(
    database: Connection, organization: UUID, rules: list[Rule]
) -> None:
    async with database.transaction():
        await database.execute(
            "delete from public.pipeline_rules where organization_id = $1", organization
        )
        await database.executemany(
            """
            insert into public.pipeline_rules
              (organization_id, happening, from_stage, to_stage)
            values ($1, $2, $3, $4)
            """,
            [
                (organization, rule.happening, rule.from_stage, rule.to_stage)
                for rule in rules
            ],
        )


class Life:
    """A client whose meetings come to be what they are, one way or another."""

    def __init__(self, database: Connection, organization: UUID, client: UUID) -> None:
        self._database = database
        self._organization = organization
        self._client = client
        self._other: UUID | None = None

    async def make(self, meeting: Met, way: int) -> None:
        """Bring a meeting about; `way` says by which detour."""
        final: dict[str, Any] = {
            "starts_at": meeting.starts_at,
            "ends_at": meeting.ends_at,
            "status": meeting.status,
            "client_id": self._client,
        }
        self._other = self._other or await make_client(
            self._database, self._organization
        )
        detours: list[dict[str, Any]] = [
            {},
            {"status": STATUSES[way // 6]},
            {"starts_at": NOW - 9 * DAY, "ends_at": NOW + 9 * DAY},
            {"client_id": self._other},
            {"deleted_at": NOW},
            {"starts_at": NOW + 3 * DAY, "ends_at": NOW + 4 * DAY, "status": "no_show"},
        ]
        before = detours[way % 6]
        columns = final | before
        start = columns.pop("starts_at")
        made = await make_meeting(self._database, self._organization, start, **columns)
        if before:
            back = {"deleted_at": None} if "deleted_at" in before else {}
            await change(self._database, made, **final, **back)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(meetings=MEETINGS, rules=RULES, data=st.data())
async def test_the_stage_is_what_the_rules_make_of_the_meetings_in_whatever_order(
    database: Connection,
    clock: DatabaseClock,
    worker: Connection,
    meetings: list[Met],
    rules: list[Rule],
    data: st.DataObject,
) -> None:
    await clock.set(NOW)
    await database.execute("delete from public.organizations")
    organization = await make_organization(database)
    await set_rules(database, organization, rules)
    client = await make_client(database, organization)
    life = Life(database, organization, client)
    in_order = data.draw(st.permutations(meetings))
    ways = data.draw(
        st.lists(st.integers(0, 35), min_size=len(meetings), max_size=len(meetings))
    )
    cut = data.draw(st.integers(0, len(meetings)))

    async with database.transaction():
        for meeting, way in list(zip(in_order, ways, strict=True))[:cut]:
            await life.make(meeting, way)
    for meeting, way in list(zip(in_order, ways, strict=True))[cut:]:
        await life.make(meeting, way)
    assert await stage_of(database, client) == stage_by_rules(meetings, rules, now=NOW)

    # And as time passes.
    for hours in (1, 3, 8):
        now = NOW + hours * HOUR
        await pass_time(database, worker, clock, now)
        expected = stage_by_rules(meetings, rules, now=now)
        assert await stage_of(database, client) == expected


async def test_rules_that_change_hold_for_all_who_are_there(
    database: Connection,
    organization: UUID,
    client: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    kept = await make_client(database, organization)
    await make_meeting(database, organization, NOW - DAY, client_id=client)
    await make_meeting(database, organization, NOW - DAY, client_id=kept)
    await database.execute(
        "update public.pipeline set stage = 'vip' where client_id = $1", kept
    )
    await pass_time(database, worker, clock, NOW)
    elsewhere = await make_client(database, await make_organization(database))
    await set_rules(database, organization, [Rule("met", "new", "customer")])

    await pass_time(database, worker, clock, clock.now + A_WHILE)
    assert await stage_of(database, client) == "customer"
    assert await stage_of(database, kept) == "vip"
    assert await stage_of(database, elsewhere) == "new"
    assert await database.fetchval("select count(*) from sync.changed_rules") == 0
    task = await advance_task(database)
    assert task is None or task["run_at"] > clock.now


async def test_many_clients_are_gone_through_so_many_at_a_time(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
) -> None:
    for _ in range(5):
        client = await make_client(database, organization)
        await make_meeting(
            database, organization, NOW - DAY, client_id=client, status="completed"
        )
    await set_rules(database, organization, [Rule("met", None, "customer")])
    moved = []
    for _ in range(4):
        done = await database.fetchrow(
            """
            with claimed as (
              select * from sync.claim_tasks(array['advance'], 1, '1 minute')
              where task_id is not null
            )
            select done.*, sync.finish_task(task_id, lease, sync.clock())
            from claimed cross join lateral sync.advance(task_id, lease, 2) as done
            """
        )
        assert done is not None
        moved.append(done["moved"])
    assert moved == [0, 2, 2, 1]
    stages = await database.fetch("select distinct stage from public.pipeline")
    assert [row["stage"] for row in stages] == ["customer"]


async def test_who_still_writes_by_the_old_rules_is_waited_for(
    database: Connection,
    organization: UUID,
    clock: DatabaseClock,
    worker: Connection,
    connect: Any,
) -> None:
    late = await connect()
    begun = late.transaction()
    await begun.start()
    client = await make_client(late, organization)
    await make_meeting(
        late, organization, NOW - DAY, client_id=client, status="completed"
    )
    await late.execute("set constraints all immediate")
    await set_rules(database, organization, [Rule("met", None, "customer")])
    await pass_time(database, worker, clock, clock.now + A_WHILE)
    await begun.commit()

    await pass_time(database, worker, clock, clock.now + A_WHILE)
    assert await stage_of(database, client) == "customer"
