"""What the receiver's one statement does with requests that arrived together."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection
from tests.support.tasks import claim, finish

Connect = Callable[..., Awaitable[Connection]]

ACCOUNT = "ada@example.com"
CALENDAR = "work@example.com"


@dataclass(frozen=True)
class Watched:
    """A calendar and its channel."""

    organization: UUID
    connection: UUID
    calendar: UUID
    channel: UUID


async def watched(
    database: Connection,
    *,
    account: str = ACCOUNT,
    name: str = CALENDAR,
    sync_enabled: bool = True,
    status: str = "active",
) -> Watched:
    """A calendar with a channel, in an organization of its own; no task is due."""
    organization = await make_organization(database)
    connection = await make_connection(database, organization, account_email=account)
    calendar = await make_calendar(
        database, connection, provider_calendar_id=name, sync_enabled=sync_enabled
    )
    channel = await database.fetchval(
        """
        insert into public.calendar_watch_channels
          (calendar_id, organization_id, status)
        values ($1, $2, $3) returning id
        """,
        calendar,
        organization,
        status,
    )
    await database.execute("delete from sync.tasks")
    return Watched(organization, connection, calendar, channel)


@pytest.fixture
async def ours(database: Connection) -> Watched:
    return await watched(database)


@pytest.fixture
async def receiver(connect: Connect) -> Connection:
    return await connect(role="webhook_ingest")


async def receive(receiver: Connection, *requests: dict[str, Any]) -> list[str]:
    """Hand over requests as one flush; returns what became of each, in order."""
    filled = [
        {
            "provider": "google",
            "routing_key": None,
            "kind": "change",
            "headers": "{}",
            "body": None,
            "received_at": datetime.now(UTC),
        }
        | request
        for request in requests
    ]
    rows = await receiver.fetch(
        "select * from sync.receive($1, $2, $3, $4, $5, $6, $7)",
        *(
            [request[name] for request in filled]
            for name in (
                *("provider", "channel_id", "routing_key", "kind"),
                *("headers", "body", "received_at"),
            )
        ),
    )
    assert [row["place"] for row in rows] == list(range(1, len(requests) + 1))
    return [row["outcome"] for row in rows]


async def pulls(database: Connection) -> list[UUID]:
    rows = await database.fetch(
        "select subject_id from sync.tasks"
        " where kind = 'pull' and lane = 1 and run_at <= now()"
    )
    return [row["subject_id"] for row in rows]


async def rest(database: Connection) -> None:
    await database.execute(
        "update sync.tasks set lane = 2, run_at = now() + interval '1 day'"
    )


async def stored(database: Connection) -> int:
    count: int = await database.fetchval("select count(*) from sync.webhook_deliveries")
    return count


async def test_a_change_is_stored_and_its_calendar_is_due(
    database: Connection, receiver: Connection, ours: Watched
) -> None:
    outcomes = await receive(
        receiver, {"channel_id": ours.channel, "headers": '{"message_number": "7"}'}
    )

    assert outcomes == ["accepted"]
    assert await pulls(database) == [ours.calendar]
    (delivery,) = await database.fetch("select * from sync.webhook_deliveries")
    assert delivery["organization_id"] == ours.organization
    assert delivery["connection_id"] == ours.connection
    assert delivery["channel_id"] == ours.channel
    assert json.loads(delivery["headers"]) == {"message_number": "7"}


@pytest.mark.parametrize("status", ["pending", "replaced"])
async def test_a_channel_that_is_being_made_or_replaced_still_speaks(
    database: Connection, receiver: Connection, status: str
) -> None:
    channel = await watched(database, status=status)

    assert await receive(receiver, {"channel_id": channel.channel}) == ["accepted"]
    assert await pulls(database) == [channel.calendar]


@pytest.mark.parametrize("status", ["stopped", "expired", "failed", "unwatchable"])
async def test_a_channel_that_is_no_longer_ours_is_ignored_and_stores_nothing(
    database: Connection, receiver: Connection, status: str
) -> None:
    channel = await watched(database, status=status)

    assert await receive(receiver, {"channel_id": channel.channel}) == ["ignored"]
    assert await stored(database) == 0
    assert await pulls(database) == []


async def test_an_unknown_channel_and_one_of_another_provider_are_ignored(
    database: Connection, receiver: Connection, ours: Watched
) -> None:
    outcomes = await receive(
        receiver,
        {"channel_id": uuid4()},
        {"channel_id": ours.channel, "provider": "microsoft"},
    )

    assert outcomes == ["ignored", "ignored"]
    assert await stored(database) == 0


async def test_each_request_of_a_flush_gets_its_own_answer(
    database: Connection, receiver: Connection, ours: Watched
) -> None:
    theirs = await watched(database, account="bob@example.com")

    outcomes = await receive(
        receiver,
        {"channel_id": ours.channel},
        {"channel_id": uuid4()},
        {"channel_id": theirs.channel},
        {"channel_id": ours.channel},
    )

    assert outcomes == ["accepted", "ignored", "accepted", "accepted"]
    assert await stored(database) == 3
    assert sorted(await pulls(database)) == sorted([ours.calendar, theirs.calendar])


async def test_a_hello_is_stored_with_what_stops_its_channel_and_asks_for_no_pull(
    database: Connection, receiver: Connection
) -> None:
    channel = await watched(database, status="pending")

    outcomes = await receive(
        receiver,
        {
            "channel_id": channel.channel,
            "kind": "hello",
            "headers": '{"resource_id": "r1"}',
        },
    )

    assert outcomes == ["accepted"]
    (known,) = await database.fetch("select * from sync.channel_state")
    assert (known["channel_id"], known["resource_id"]) == (channel.channel, "r1")
    assert await stored(database) == 1
    assert await pulls(database) == []


async def test_a_channel_wakes_the_same_calendar_in_every_organization(
    database: Connection, receiver: Connection, ours: Watched
) -> None:
    shared = await watched(database)
    off = await watched(database, sync_enabled=False)
    another_account = await watched(database, account="bob@example.com")
    another_calendar = await watched(database, name="home@example.com")

    await receive(receiver, {"channel_id": ours.channel})

    woken = await pulls(database)
    assert sorted(woken) == sorted([ours.calendar, shared.calendar])
    for asleep in (off, another_account, another_calendar):
        assert asleep.calendar not in woken


@pytest.mark.parametrize("resting", ["ours", "shared"])
async def test_who_has_to_connect_again_is_not_woken_and_keeps_nobody_from_it(
    database: Connection, receiver: Connection, ours: Watched, resting: str
) -> None:
    shared = await watched(database)
    asleep, awake = (ours, shared) if resting == "ours" else (shared, ours)
    await database.execute(
        "update public.calendar_connections as connection set status = 'needs_reauth' "
        "from public.calendars as calendar "
        "where calendar.connection_id = connection.id and calendar.id = $1",
        asleep.calendar,
    )

    await receive(receiver, {"channel_id": ours.channel})

    assert await pulls(database) == [awake.calendar]


async def test_a_flush_notifies_once_and_one_that_moves_nothing_not_at_all(
    database: Connection, receiver: Connection, connect: Connect, ours: Watched
) -> None:
    theirs = await watched(database, account="bob@example.com")
    listener = await connect()
    payloads: list[object] = []
    await listener.add_listener("sync_tasks", lambda *call: payloads.append(call[-1]))
    flush = [{"channel_id": ours.channel}, {"channel_id": theirs.channel}] * 10

    await receive(receiver, *flush)
    await listener.execute("select 1")
    assert len(payloads) == 1

    await receive(receiver, *flush)
    await listener.execute("select 1")
    assert len(payloads) == 1
    assert await stored(database) == 40


async def test_an_empty_flush_is_nothing(receiver: Connection) -> None:
    assert await receive(receiver) == []


async def test_flushes_of_several_receivers_do_not_deadlock(
    database: Connection, connect: Connect
) -> None:
    channels = [
        (await watched(database, account=f"{place}@example.com")).channel
        for place in range(20)
    ]

    async def deliver(order: list[UUID]) -> None:
        connection = await connect(role="webhook_ingest")
        for _ in range(20):
            await receive(connection, *({"channel_id": channel} for channel in order))

    async with asyncio.timeout(30):
        await asyncio.gather(deliver(channels), deliver(channels[::-1]))


async def test_a_flush_that_would_have_to_wait_too_long_fails_and_stores_nothing(
    database: Connection, receiver: Connection, connect: Connect, ours: Watched
) -> None:
    await receive(receiver, {"channel_id": ours.channel})
    await rest(database)
    signature = await database.fetchval(
        "select 'sync.receive'::regproc::oid::regprocedure"
    )
    await database.execute(f"alter function {signature} set lock_timeout = '50ms'")
    blocker = await connect()

    async with blocker.transaction():
        await blocker.execute("select 1 from sync.tasks for update")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await receive(receiver, {"channel_id": ours.channel})

    assert await stored(database) == 1


async def test_a_calendar_whose_pull_is_due_is_told_of_without_waiting_for_its_task(
    database: Connection, receiver: Connection, connect: Connect, ours: Watched
) -> None:
    await receive(receiver, {"channel_id": ours.channel})
    blocker = await connect()

    async with asyncio.timeout(5), blocker.transaction():
        await blocker.execute("select 1 from sync.tasks for update")
        outcomes = await receive(receiver, {"channel_id": ours.channel})

    assert outcomes == ["accepted"]
    assert await stored(database) == 2
    assert await pulls(database) == [ours.calendar]


async def test_a_change_beside_a_claim_is_stored_before_its_pull_begins_and_never_lost(
    database: Connection, worker: Connection, receiver: Connection, ours: Watched
) -> None:
    change = {"channel_id": ours.channel}
    await receive(receiver, change)

    # Claimed, but not committed: nobody has asked the provider for anything yet.
    async with worker.transaction():
        (task,) = await claim(worker, kinds=("pull",))
        await asyncio.wait_for(receive(receiver, change), 10)
        assert await stored(database) == 2
    await finish(worker, task, at=None)
    assert await claim(worker, kinds=("pull",)) == []

    # Committed: the provider may have been asked before this change was made.
    await receive(receiver, change)
    (task,) = await claim(worker, kinds=("pull",))
    await receive(receiver, change)
    await finish(worker, task, at=None)
    assert len(await claim(worker, kinds=("pull",))) == 1


async def test_a_pull_that_is_due_in_the_background_only_is_moved_up(
    database: Connection, receiver: Connection, ours: Watched
) -> None:
    await database.execute("update sync.tasks set lane = 2, run_at = now()")

    await receive(receiver, {"channel_id": ours.channel})

    assert await pulls(database) == [ours.calendar]


async def test_the_functions_lock_timeout_is_shorter_than_any_providers_patience(
    database: Connection,
) -> None:
    settings = await database.fetchval(
        "select proconfig from pg_catalog.pg_proc where oid = 'sync.receive'::regproc"
    )

    # Graph waits 3 s.
    assert "lock_timeout=2s" in settings


@pytest.mark.parametrize(
    "statement",
    [
        "select * from sync.webhook_deliveries",
        "insert into sync.webhook_deliveries (received_at, provider, kind)"
        " values (now(), 'google', 'change')",
        "select * from public.calendars",
        "select * from sync.credentials",
        "select sync.request_task('pull', gen_random_uuid(), null, 0::smallint, now())",
        "select * from sync.claim_tasks(array['pull'], 1, '1 s')",
        "select sync.clock()",
        "create table public.mine (id integer)",
        "create table sync.mine (id integer)",
    ],
)
async def test_the_receivers_role_can_do_nothing_else(
    receiver: Connection, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await receiver.execute(statement)


@pytest.mark.parametrize("broken", ["{", "", "'; drop table sync.tasks; --"])
async def test_text_that_is_no_json_fails_the_flush_and_stores_nothing(
    database: Connection, receiver: Connection, ours: Watched, broken: str
) -> None:
    with pytest.raises(asyncpg.DataError):
        await receive(receiver, {"channel_id": ours.channel, "headers": broken})

    assert await stored(database) == 0
