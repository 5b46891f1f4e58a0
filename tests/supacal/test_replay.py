"""`supacal replay` opens deliveries again: those that are named, and no others."""

from pathlib import Path
from uuid import UUID

import pytest

from tests.support.builders import make_connection, make_organization
from tests.support.sessions import Connection, Sessions
from tests.support.stacks import environment, supacal


@pytest.fixture
async def deliveries(database: Connection) -> dict[str, int]:
    """One of Calendly's in each state, and a dead one of Cal.com, by name."""
    organization = await make_organization(database)
    calendly, calcom = [
        await make_connection(database, organization, provider=provider)
        for provider in ("calendly", "calcom")
    ]
    states = ("received", "done", "ignored", "failed", "dead")
    made = {state: await add(database, calendly, state) for state in states}
    return made | {"calcom": await add(database, calcom, "dead")}


async def add(database: Connection, connection: UUID, state: str) -> int:
    delivery: int = await database.fetchval(
        "with stored as (insert into sync.webhook_deliveries"
        "  (received_at, provider, kind, connection_id)"
        "  select '2026-11-21T10:00Z', connection.provider, 'booking', connection.id"
        "  from public.calendar_connections as connection where connection.id = $1"
        "  returning id, received_at)"
        " insert into sync.delivery_states"
        "  (delivery_id, received_at, connection_id, state, attempts)"
        " select id, received_at, $1, $2, 5 from stored returning delivery_id",
        connection,
        state,
    )
    return delivery


async def opened(database: Connection, deliveries: dict[str, int]) -> set[str]:
    rows = await database.fetch(
        "select delivery_id from sync.delivery_states"
        " where state = 'received' and attempts = 0"
    )
    names = {number: name for name, number in deliveries.items()}
    return {names[row["delivery_id"]] for row in rows}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--state", "failed", "--state", "dead"], {"failed", "dead", "calcom"}),
        (["--provider", "calendly"], {"failed", "dead"}),
        (["--since", "2026-11-21T11:00+01:00"], {"failed", "dead", "calcom"}),
        (["--since", "2026-11-21T10:00:01Z"], set()),
        (["--until", "2026-11-21T10:00Z"], set()),
        (["--provider", "calcom", "--state", "done"], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_what_fits_every_filter_is_processed_again(
    database: Connection,
    database_url: str,
    deliveries: dict[str, int],
    tmp_path: Path,
    words: list[str],
    expected: set[str],
) -> None:
    environ = environment(tmp_path, DATABASE_URL=database_url)

    replayed = supacal("replay", *words, environ=environ)

    assert await opened(database, deliveries) == expected
    assert replayed.returncode == (0 if expected else 1), replayed.stderr
    count = f"{len(expected)} deliver" if expected else "No delivery"
    assert replayed.stdout.startswith(count)


async def test_what_is_named_is_processed_again_whatever_became_of_it(
    database: Connection, database_url: str, deliveries: dict[str, int], tmp_path: Path
) -> None:
    environ = environment(tmp_path, DATABASE_URL=database_url)

    replayed = supacal("replay", str(deliveries["done"]), environ=environ)

    assert replayed.stdout == "1 delivery is processed again.\n"
    assert await opened(database, deliveries) == {"done"}


def test_without_a_word_about_which_nothing_is_replayed(
    sessions: Sessions, tmp_path: Path
) -> None:
    environ = environment(tmp_path, DATABASE_URL=sessions.url)
    refused = supacal("replay", environ=environ)
    assert refused.returncode == 2
    assert "--state failed" in refused.stderr


def test_a_time_without_a_zone_is_refused(sessions: Sessions, tmp_path: Path) -> None:
    environ = environment(tmp_path, DATABASE_URL=sessions.url)
    refused = supacal("replay", "--since", "2026-11-21T10:00", environ=environ)
    assert refused.returncode == 2
    assert "no time with a zone" in refused.stderr
