"""`supacal doctor`: what is wrong with an installation, and what to do about it."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import asyncpg
import httpx2
import uvloop

from local_stack.migrate import pending
from local_stack.supabase import MIGRATIONS
from runtime.pool import connect
from runtime.settings import ReceiverSettings, WorkerSettings
from runtime.settings_reading import Settings, SettingsError, read
from sql import queries
from supacal.explanation import explain
from supacal.findings import Finding, tell
from supacal.here import database_url
from supacal.isolation import isolation
from supacal.probes import send_test
from worker.listener import hears

TIMEOUT_S = 10

S = TypeVar("S", bound=Settings)


def run(given: argparse.Namespace) -> int:
    """Run it; return the exit code."""
    if given.send_test is not None:
        return asyncio.run(_send_test(given.send_test))
    if given.calendar is not None:
        return uvloop.run(explain(given.calendar, given.event))
    return uvloop.run(_examine())


async def _examine() -> int:
    """Look at everything, and end well only where all of it is."""
    findings: list[Finding] = []
    receiver = _settings(ReceiverSettings, "webhook_api", findings.append)
    worker = _settings(WorkerSettings, "the worker", findings.append)
    connection = await connect(
        database_url(), role=None, application_name="supacal doctor"
    )
    try:
        findings += [one async for one in _database(connection, receiver, worker)]
    finally:
        await connection.close()
    if receiver is not None and receiver.supacal_public_url is not None:
        findings += [one async for one in _endpoints(receiver.supacal_public_url)]
    return tell(findings)


def _settings(kind: type[S], program: str, note: Callable[[Finding], None]) -> S | None:
    try:
        settings = read(kind)
    except SettingsError as error:
        note(Finding(False, f"settings of {program}: {'; '.join(error.problems)}"))
        return None
    note(Finding(True, f"settings of {program}"))
    return settings


async def _database(
    connection: asyncpg.Connection,
    receiver: ReceiverSettings | None,
    worker: WorkerSettings | None,
) -> AsyncIterator[Finding]:
    missing = await asyncio.to_thread(pending, database_url(), MIGRATIONS)
    if missing:
        count = len(missing)
        yield Finding(False, f"{count} migrations are missing: run `supacal migrate`")
        return
    yield Finding(True, "the database has every migration")
    async for one in isolation(receiver, worker):
        yield one
    yield await _hearing()
    if worker is not None:
        async for row in queries.doctor.sealed_with(connection):
            yield _key(row, worker.keyring.key_ids)
    async for one in _state(connection):
        yield one


async def _hearing() -> Finding:
    heard = await hears(
        lambda: connect(database_url(), role=None, application_name="supacal doctor")
    )
    if heard:
        return Finding(True, "notifications of the database are heard")
    return Finding(
        False,
        "notifications are swallowed, as by a pooler in transaction mode (Supabase: "
        "port 6543): point DATABASE_URL at a session (port 5432)",
    )


def _key(row: asyncpg.Record, known: list[str]) -> Finding:
    key, count = row["key_id"], row["connections"]
    if key in known:
        return Finding(True, f"tokens of {count} connections open with the key {key}")
    return Finding(
        False,
        f"tokens of {count} connections are sealed with the key {key}, which is not in "
        "SUPACAL_SECRET_KEYS: put it back behind the newest",
    )


async def _state(connection: asyncpg.Connection) -> AsyncIterator[Finding]:
    overdue: int = await queries.doctor.overdue(connection)
    if overdue:
        said = f"{overdue} tasks are due for over a minute: is a worker running?"
        yield Finding(False, said)
    else:
        yield Finding(True, "no task waits for a worker")
    async for row in queries.doctor.gaps(connection):
        reason = f" ({row['reason']})" if row["reason"] else ""
        yield Finding(False, f"calendar {row['calendar_id']}: {row['gap']}{reason}")
    async for row in queries.doctor.alerts(connection):
        since = f"{row['since']:%Y-%m-%d %H:%M}"
        said = f"{row['kind']} since {since} UTC: {row['message']} {row['remedy']}"
        yield Finding(False, said)


async def _endpoints(public_url: str) -> AsyncIterator[Finding]:
    async with httpx2.AsyncClient(timeout=TIMEOUT_S) as http:
        try:
            ready = await http.get(f"{public_url}/readyz")
        except httpx2.TransportError as failure:
            yield Finding(
                False,
                f"SUPACAL_PUBLIC_URL does not answer ({type(failure).__name__}): "
                "start `supacal api`, and let the proxy in front of it reach it",
            )
            return
        if ready.is_success:
            yield Finding(True, "webhook_api answers at SUPACAL_PUBLIC_URL")
        else:
            said = f"webhook_api is not ready ({ready.status_code}): see its log"
            yield Finding(False, said)


async def _send_test(provider: str) -> int:
    """Send what the provider would, signed with our own keys."""
    settings = read(ReceiverSettings)
    async with httpx2.AsyncClient(timeout=TIMEOUT_S) as http:
        return tell(await send_test(http, provider, settings))
