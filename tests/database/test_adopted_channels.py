"""Promises to who takes channels over from an older system."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.adopting import OLD_ID, OLD_TOKEN, take_over
from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection

DAY = timedelta(days=1)


@pytest.fixture
async def calendar_id(database: Connection) -> UUID:
    connection_id = await make_connection(database, await make_organization(database))
    return await make_calendar(database, connection_id)


async def channel(database: Connection, channel_id: UUID) -> Any:
    return await database.fetchrow(
        "select channel.*, state.renew_at, state.renew_at - sync.clock() as renew_in "
        "from public.calendar_watch_channels as channel "
        "left join sync.channel_state as state on state.channel_id = channel.id "
        "where channel.id = $1",
        channel_id,
    )


async def told(database: Connection) -> list[tuple[bytes, str, UUID]]:
    """What the receiver would believe."""
    rows = await database.fetch("select * from sync.adopted_tokens()")
    return [
        (row["token_hash"], row["provider_channel_id"], row["channel_id"])
        for row in rows
    ]


async def test_it_is_the_live_channel_of_its_calendar_until_its_renewal_is_due(
    database: Connection, calendar_id: UUID
) -> None:
    channel_id = await take_over(database, calendar_id)

    row = await channel(database, channel_id)
    assert (row["status"], row["provider_channel_id"]) == ("active", OLD_ID)
    assert DAY * 3 < row["renew_in"] < DAY * 5
    tasks = await database.fetch("select kind, run_at from sync.tasks")
    due = {task["kind"]: task["run_at"] for task in tasks}
    assert due["watch"] == row["renew_at"]
    assert due["pull"] < row["renew_at"]  # what was announced to the other is read


async def test_the_receiver_is_told_a_hash_and_nobody_keeps_the_token(
    database: Connection, calendar_id: UUID
) -> None:
    channel_id = await take_over(database, calendar_id)
    await database.execute("set role webhook_ingest")

    told_of = await told(database)

    await database.execute("reset role")
    token_hash = hashlib.sha256(OLD_TOKEN.encode()).digest()
    assert told_of == [(token_hash, OLD_ID, channel_id)]
    for table in ("sync.adopted_channels", "public.calendar_watch_channels"):
        kept = await database.fetchval(f"select string_agg(t::text, '') from {table} t")
        assert OLD_TOKEN not in kept


async def test_one_that_ended_is_told_no_more(
    database: Connection, calendar_id: UUID
) -> None:
    channel_id = await take_over(database, calendar_id)
    await database.execute(
        "update sync.adopted_channels set expires_at = sync.clock() "
        "where channel_id = $1",
        channel_id,
    )

    assert await told(database) == []


async def test_beside_a_channel_that_lives_it_is_stopped_at_once(
    database: Connection, calendar_id: UUID
) -> None:
    first = await take_over(database, calendar_id)
    second = await take_over(database, calendar_id, channel_id="another-one")

    assert (await channel(database, first))["status"] == "active"
    assert (await channel(database, second))["status"] == "replaced"
    due = "select run_at <= sync.clock() from sync.tasks where kind = 'watch'"
    assert await database.fetchval(due)
    (stale,) = await database.fetch(
        "select * from sync.channels_to_stop($1, false)", calendar_id
    )
    assert (stale["channel_id"], stale["foreign_id"]) == (second, "another-one")
    assert stale["is_ours"]


async def test_told_twice_it_is_one_and_what_was_wrong_is_mended(
    database: Connection, calendar_id: UUID
) -> None:
    first = await take_over(database, calendar_id, token="mistyped")

    assert await take_over(database, calendar_id) == first
    assert await take_over(database, calendar_id) == first

    token_hash = hashlib.sha256(OLD_TOKEN.encode()).digest()
    assert await told(database) == [(token_hash, OLD_ID, first)]
    row = await channel(database, first)
    assert (row["status"], row["provider_channel_id"]) == ("active", OLD_ID)


async def test_one_that_was_stopped_does_not_come_back(
    database: Connection, calendar_id: UUID
) -> None:
    channel_id = await take_over(database, calendar_id)
    await database.execute("update public.calendar_watch_channels set status='stopped'")

    assert await take_over(database, calendar_id) == channel_id

    assert (await channel(database, channel_id))["status"] == "stopped"


async def test_a_channel_is_of_one_calendar(
    database: Connection, calendar_id: UUID
) -> None:
    await take_over(database, calendar_id)
    connection_id = await make_connection(database, await make_organization(database))
    other = await make_calendar(database, connection_id)

    with pytest.raises(asyncpg.InvalidParameterValueError, match="another calendar"):
        await take_over(database, other)


async def test_only_calendars_of_google_have_such_channels(
    database: Connection,
) -> None:
    connection_id = await make_connection(
        database, await make_organization(database), provider="microsoft"
    )
    for calendar_id in (await make_calendar(database, connection_id), uuid4()):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="no calendar of"):
            await take_over(database, calendar_id)


@pytest.mark.parametrize(
    "token", [None, "", "with a blank", "é", "x" * 257, "v1.k.c.m"]
)
async def test_a_token_that_proves_nothing_is_refused_and_not_quoted(
    database: Connection, calendar_id: UUID, token: str | None
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError) as refused:
        await take_over(database, calendar_id, token=token)

    assert "the token is not one" in str(refused.value)
    assert not token or len(token) < 2 or token not in str(refused.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"channel_id": None},
        {"channel_id": "a b"},
        {"channel_id": "x" * 65},
        {"resource_id": None},
        {"resource_id": ""},
    ],
    ids=str,
)
async def test_a_channel_that_could_not_be_stopped_is_refused(
    database: Connection, calendar_id: UUID, wrong: dict[str, str | None]
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="malformed"):
        await take_over(database, calendar_id, **wrong)


@pytest.mark.parametrize("when", ["clock_timestamp()", "'infinity'", "null"])
async def test_a_channel_without_an_end_ahead_is_refused(
    database: Connection, calendar_id: UUID, when: str
) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="expired"):
        await database.execute(
            f"select sync.take_over_channel($1, 'a', 'r', 't', {when})", calendar_id
        )


@pytest.mark.parametrize("role", ["webhook_ingest", "sync_worker", "authenticated"])
async def test_only_who_runs_the_project_takes_channels_over(
    database: Connection, role: str
) -> None:
    may = await database.fetchval(
        "select has_function_privilege($1, routine.oid, 'execute') "
        "from pg_catalog.pg_proc as routine where proname = 'take_over_channel'",
        role,
    )

    assert may is False
