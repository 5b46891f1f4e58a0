"""What receiving does with bookings, and with what is told about channels."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.builders import make_calendar, make_connection, make_organization
from tests.support.sessions import Connection

Connect = Callable[..., Awaitable[Connection]]

USER = "https://api.calendly.com/users/ana"
HOST = "ana@example.com"
KEYS = {"calendly": USER, "calcom": HOST}


@dataclass(frozen=True)
class Booked:
    """A connection that takes bookings, and its calendar's channel."""

    provider: str
    organization: UUID
    connection: UUID
    calendar: UUID
    channel: UUID


async def booked(
    database: Connection,
    provider: str,
    *,
    account: str = HOST,
    account_id: str | None = USER,
    has_access: bool = False,
    sync_enabled: bool = True,
) -> Booked:
    """Somebody who can be booked, in an organization of their own; no task is due."""
    organization = await make_organization(database)
    connection = await make_connection(
        database, organization, provider=provider, account_email=account
    )
    await database.execute(
        "update public.calendar_connections set provider_account_id = $2 where id = $1",
        connection,
        account_id,
    )
    calendar = await make_calendar(
        database, connection, provider_calendar_id="bookings", sync_enabled=sync_enabled
    )
    await database.execute(
        "update public.calendars set kind = 'bookings' where id = $1", calendar
    )
    if has_access:
        await database.execute(
            "insert into sync.credentials (connection_id, key_id, ciphertext)"
            " values ($1, 'k', '')",
            connection,
        )
    channel = await make_channel(database, calendar, organization)
    return Booked(provider, organization, connection, calendar, channel)


async def make_channel(
    database: Connection, calendar: UUID, organization: UUID
) -> UUID:
    channel: UUID = await database.fetchval(
        """
        insert into public.calendar_watch_channels
          (calendar_id, organization_id, status)
        values ($1, $2, 'active') returning id
        """,
        calendar,
        organization,
    )
    await database.execute("delete from sync.tasks")
    return channel


@pytest.fixture
async def receiver(connect: Connect) -> Connection:
    return await connect(role="webhook_ingest")


async def receive(receiver: Connection, *requests: dict[str, Any]) -> list[str]:
    filled = [
        {
            "channel_id": None,
            "routing_key": None,
            "kind": "booking",
            "headers": {},
            "body": {"payload": {}},
            "received_at": datetime.now(UTC),
        }
        | request
        for request in requests
    ]
    columns = [
        [request[name] for request in filled]
        for name in ("provider", "channel_id", "routing_key", "kind")
    ]
    columns += [
        [json.dumps(request[name]) for request in filled]
        for name in ("headers", "body")
    ]
    rows = await receiver.fetch(
        "select * from sync.receive($1, $2, $3, $4, $5, $6, $7)",
        *columns,
        [request["received_at"] for request in filled],
    )
    return [row["outcome"] for row in rows]


async def tasks(database: Connection) -> set[tuple[str, UUID]]:
    rows = await database.fetch(
        "select kind, subject_id from sync.tasks where lane = 1 and run_at <= now()"
    )
    return {(row["kind"], row["subject_id"]) for row in rows}


async def states(database: Connection) -> list[tuple[UUID, str, str]]:
    rows = await database.fetch(
        """
        select state.connection_id, state.kind, state.state
        from sync.delivery_states as state
        join sync.webhook_deliveries as delivery
          on delivery.id = state.delivery_id
          and delivery.received_at = state.received_at
          and delivery.connection_id = state.connection_id
        order by state.delivery_id
        """
    )
    return [tuple(row) for row in rows]


async def alerts(database: Connection) -> list[str]:
    rows = await database.fetch(
        "select message from public.sync_alerts"
        " where kind = 'delivery_unrouted' and resolved_at is null"
    )
    return [row["message"] for row in rows]


@pytest.mark.parametrize("provider", KEYS)
async def test_a_booking_waits_for_the_ingest_of_its_connection(
    database: Connection, receiver: Connection, provider: str
) -> None:
    ours = await booked(database, provider)

    outcomes = await receive(
        receiver,
        {"provider": provider, "channel_id": ours.channel},
        {"provider": provider, "channel_id": ours.channel},
        {"provider": provider, "channel_id": uuid4()},
    )

    assert outcomes == ["accepted", "accepted", "ignored"]
    assert await states(database) == [(ours.connection, "booking", "received")] * 2
    assert await tasks(database) == {("ingest", ours.connection)}


async def test_a_flush_of_everything_asks_for_all_of_it(
    database: Connection, receiver: Connection
) -> None:
    bookings = await booked(database, "calcom")
    organization = await make_organization(database)
    connection = await make_connection(database, organization)
    calendar = await make_calendar(database, connection, sync_enabled=True)
    channel = await make_channel(database, calendar, organization)
    change = {"provider": "google", "channel_id": channel, "kind": "change"}

    outcomes = await receive(
        receiver,
        change,
        {"provider": "calcom", "channel_id": bookings.channel},
        {**change, "channel_id": uuid4()},
        {**change, "kind": "hello"},
        {"provider": "calcom", "routing_key": HOST},
    )

    assert outcomes == ["accepted", "accepted", "ignored", "accepted", "accepted"]
    assert await tasks(database) == {
        ("pull", calendar),
        ("ingest", bookings.connection),
    }
    assert len(await states(database)) == 2


@pytest.mark.parametrize("provider", KEYS)
async def test_without_a_channel_the_organizers_account_decides(
    database: Connection, receiver: Connection, provider: str
) -> None:
    ours = await booked(database, provider, has_access=True)
    other = "https://api.calendly.com/users/ivo"
    await booked(database, provider, account="ivo@example.com", account_id=other)

    outcomes = await receive(
        receiver, {"provider": provider, "routing_key": KEYS[provider]}
    )

    assert outcomes == ["accepted"]
    assert await states(database) == [(ours.connection, "booking", "received")]
    assert await tasks(database) == {("ingest", ours.connection)}
    assert await alerts(database) == []


@pytest.mark.parametrize("provider", KEYS)
async def test_an_account_of_two_organizations_is_told_in_both(
    database: Connection, receiver: Connection, provider: str
) -> None:
    both = [await booked(database, provider) for _ in range(2)]

    outcomes = await receive(
        receiver, {"provider": provider, "routing_key": KEYS[provider]}
    )

    assert outcomes == ["accepted"]
    told = {connection for connection, _, _ in await states(database)}
    assert told == {one.connection for one in both}


@pytest.mark.parametrize("provider", KEYS)
async def test_of_an_unknown_account_the_only_one_with_webhooks_alone_is_meant(
    database: Connection, receiver: Connection, provider: str
) -> None:
    alone = await booked(database, provider, account_id=None)
    await booked(
        database, provider, account="ivo@example.com", account_id="x", has_access=True
    )

    outcomes = await receive(
        receiver, {"provider": provider, "routing_key": "somebody@example.com"}
    )

    assert outcomes == ["accepted"]
    assert await states(database) == [(alone.connection, "booking", "received")]


@pytest.mark.parametrize("provider", KEYS)
async def test_nobodys_booking_is_ignored_with_an_alert_until_they_connect(
    database: Connection, receiver: Connection, provider: str
) -> None:
    request = {"provider": provider, "routing_key": KEYS[provider]}
    for _ in range(2):
        assert await receive(receiver, request) == ["ignored"]
    assert await states(database) == []
    (message,) = await alerts(database)
    assert KEYS[provider] in message

    await booked(database, provider)

    assert await receive(receiver, request) == ["accepted"]
    assert await alerts(database) == []


async def test_what_is_no_booking_and_nobodys_raises_no_alert(
    database: Connection, receiver: Connection
) -> None:
    request = {
        "provider": "calcom",
        "routing_key": "",
        "headers": {"trigger": "FORM_SUBMITTED", "ignored": "not a trigger"},
    }

    assert await receive(receiver, request) == ["ignored"]
    assert await alerts(database) == []


async def test_two_with_webhooks_alone_are_not_taken_for_each_other(
    database: Connection, receiver: Connection
) -> None:
    for account in ("ana@example.com", "ivo@example.com"):
        await booked(database, "calcom", account=account)

    request = {"provider": "calcom", "routing_key": "lena@example.com"}

    assert await receive(receiver, request) == ["ignored"]
    assert len(await alerts(database)) == 1


@pytest.mark.parametrize("how", ["off", "revoked"])
async def test_who_wants_no_bookings_is_no_reason_for_an_alert_nor_for_a_guess(
    database: Connection, receiver: Connection, how: str
) -> None:
    ours = await booked(database, "calcom", sync_enabled=how != "off")
    if how == "revoked":
        await database.execute(
            "update public.calendar_connections set status = 'revoked' where id = $1",
            ours.connection,
        )
    await booked(database, "calcom", account="ivo@example.com")

    outcomes = await receive(receiver, {"provider": "calcom", "routing_key": HOST})

    assert outcomes == ["ignored"]
    assert await states(database) == []
    assert await alerts(database) == []


@pytest.mark.parametrize("provider", KEYS)
async def test_a_connection_whose_calendar_nobody_made_yet_takes_bookings_all_the_same(
    database: Connection, receiver: Connection, provider: str
) -> None:
    ours = await booked(database, provider)
    await database.execute("delete from public.calendars")

    request = {"provider": provider, "routing_key": KEYS[provider]}

    assert await receive(receiver, request) == ["accepted"]
    assert await states(database) == [(ours.connection, "booking", "received")]
    assert await alerts(database) == []


async def test_a_no_show_that_names_no_host_goes_to_who_knows_the_booking(
    database: Connection, receiver: Connection
) -> None:
    ours, theirs = [
        await booked(database, "calcom", account=account)
        for account in (HOST, "ivo@example.com")
    ]
    for connection, key in ((ours.connection, "u1#s1"), (theirs.connection, "u10")):
        told = {
            "provider": "calcom",
            "key": key,
            "provider_id": "u1",
            "source": "delivery",
        }
        await database.execute(
            "select sync.tell_bookings($1, $2)", connection, json.dumps([told])
        )

    outcomes = await receive(
        receiver,
        {
            "provider": "calcom",
            "routing_key": "",
            "body": {"payload": {"bookingUid": "u1"}},
        },
    )

    assert outcomes == ["accepted"]
    assert await states(database) == [(ours.connection, "booking", "received")]


async def test_a_stale_time_asks_for_a_sweep_of_that_connection(
    database: Connection, receiver: Connection
) -> None:
    ours = await booked(database, "calendly")
    stale = {"kind": "lifecycle", "headers": {"reason": "missed"}, "body": None}

    await receive(
        receiver,
        {"provider": "calendly", "channel_id": ours.channel, **stale},
        {"provider": "calendly", "routing_key": USER, **stale},
    )

    assert await states(database) == [(ours.connection, "lifecycle", "received")] * 2
    assert await tasks(database) == {("ingest", ours.connection)}


async def test_an_outage_is_everybodys_of_that_provider_who_is_switched_on(
    database: Connection, receiver: Connection
) -> None:
    ours = [
        await booked(database, "calcom", account=account)
        for account in (HOST, "ivo@example.com")
    ]
    await booked(database, "calcom", account="off@example.com", sync_enabled=False)
    await booked(database, "calendly")

    outcomes = await receive(
        receiver,
        {
            "provider": "calcom",
            "kind": "lifecycle",
            "headers": {"reason": "outage", "from": "2026-11-21T10:00:00+00:00"},
            "body": None,
        },
    )

    assert outcomes == ["accepted"]
    assert {connection for connection, _, _ in await states(database)} == {
        one.connection for one in ours
    }
    assert await alerts(database) == []


async def test_an_outage_without_anybody_is_no_strangers(
    database: Connection, receiver: Connection
) -> None:
    outage = {"kind": "lifecycle", "headers": {"reason": "outage"}, "body": None}

    assert await receive(receiver, {"provider": "calcom", **outage}) == ["ignored"]
    assert await alerts(database) == []


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("reauthorizationRequired", "watch"),
        ("subscriptionRemoved", "watch"),
        ("missed", "pull"),
        ("brandNew", None),
    ],
)
async def test_what_graph_tells_of_a_channel_is_acted_on(
    database: Connection, receiver: Connection, reason: str, kind: str | None
) -> None:
    organization = await make_organization(database)
    connection = await make_connection(database, organization, provider="microsoft")
    calendar = await make_calendar(database, connection, sync_enabled=True)
    channel = await make_channel(database, calendar, organization)
    await database.execute(
        "insert into sync.channel_state (channel_id, renew_at)"
        " values ($1, now() + interval '1 day')",
        channel,
    )

    outcomes = await receive(
        receiver,
        {
            "provider": "microsoft",
            "channel_id": channel,
            "kind": "lifecycle",
            "headers": {"reason": reason},
            "body": None,
        },
    )

    assert outcomes == ["accepted"]
    assert await tasks(database) == ({(kind, calendar)} if kind else set())
    is_due = await database.fetchval(
        "select renew_at <= sync.clock() from sync.channel_state"
    )
    assert is_due == (kind == "watch")
    assert await database.fetchval("select count(*) from sync.webhook_deliveries") == 1
    assert await states(database) == []


@pytest.mark.parametrize("provider", KEYS)
async def test_a_booking_that_came_does_not_let_its_day_go(
    database: Connection, receiver: Connection, provider: str
) -> None:
    ours = await booked(database, provider)
    long_ago = datetime(2026, 1, 5, 12, tzinfo=UTC)
    await database.execute(
        "select sync.make_partition('webhook_deliveries', date '2026-01-05')"
    )
    request = {
        "provider": provider,
        "channel_id": ours.channel,
        "received_at": long_ago,
    }
    await receive(receiver, request)

    assert await database.fetchval("select sync.drop_partitions(14)") == 0
    await database.execute("update sync.delivery_states set state = 'dead'")
    assert await database.fetchval("select sync.drop_partitions(14)") == 1
    assert await database.fetchval("select count(*) from sync.delivery_states") == 0
