"""`supacal doctor` finds what is wrong, and says what to do about it."""

import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from providers.model import Provider
from runtime.sealing import Keyring
from runtime.settings import ReceiverSettings, WorkerSettings
from runtime.settings_reading import read
from supacal.findings import Finding
from supacal.isolation import isolation
from supacal.probes import send_test
from tests.support.builders import make_connection, make_organization
from tests.support.events import Calendar, coming, make_event, make_series
from tests.support.sessions import Connection, Sessions
from tests.support.stacks import environment, supacal
from tests.webhook_api.channels import KEYS, make_settings
from tests.webhook_api.faults import stuck
from webhook_api.app import create_app
from webhook_api.limits import Limits

Connect = Callable[..., Awaitable[Connection]]
URL = "http://127.0.0.1:1"
BY_HAND = {
    "calendly_webhook_signing_key": "calendly's, by hand",
    "calcom_webhook_secret": "cal.com's, by hand",
}
BOOKINGS = [Provider.CALENDLY, Provider.CALCOM]
DELIVERIES = "select * from sync.webhook_deliveries"


@pytest.fixture
def settings(database_url: str) -> ReceiverSettings:
    return make_settings(database_url, SUPACAL_PUBLIC_URL=URL, **BY_HAND)


@pytest.fixture
def limits() -> Limits:
    """Parametrize or override to be stricter."""
    return Limits()


@pytest.fixture
async def http(
    settings: ReceiverSettings, limits: Limits
) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(settings, limits=limits)
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app):
        await app.store.connected()
        async with httpx2.AsyncClient(transport=transport) as http:
            yield http


@pytest.mark.parametrize("provider", list(Provider))
async def test_every_provider_s_test_deliveries_are_answered_well(
    http: httpx2.AsyncClient,
    settings: ReceiverSettings,
    database: Connection,
    provider: Provider,
) -> None:
    found = await send_test(http, provider, settings)

    assert len(found) >= 2
    assert [one.said for one in found if not one.is_well] == []
    assert await database.fetch(DELIVERIES) == []
    assert await database.fetch("select * from public.sync_alerts") == []


@pytest.mark.parametrize("provider", list(Provider))
async def test_a_receiver_that_has_other_keys_is_found_out(
    http: httpx2.AsyncClient, database_url: str, provider: Provider
) -> None:
    ours = make_settings(
        database_url,
        SUPACAL_PUBLIC_URL=URL,
        SUPACAL_SECRET_KEYS=Keyring.generate("other"),
        **BY_HAND,
    )

    found = await send_test(http, provider, ours)

    (wrong,) = [one.said for one in found if not one.is_well]
    assert "SUPACAL_SECRET_KEYS" in wrong


@pytest.mark.parametrize("provider", BOOKINGS)
async def test_a_receiver_that_has_another_secret_of_webhooks_made_by_hand_is_too(
    http: httpx2.AsyncClient, database_url: str, provider: Provider
) -> None:
    others = dict.fromkeys(BY_HAND, "another")
    ours = make_settings(database_url, SUPACAL_PUBLIC_URL=URL, **others)

    found = await send_test(http, provider, ours)

    (wrong,) = [one.said for one in found if not one.is_well]
    (meant,) = [name.upper() for name in BY_HAND if name.startswith(provider)]
    assert meant in wrong


@pytest.mark.parametrize("provider", BOOKINGS)
async def test_where_no_such_secret_is_set_it_says_what_it_did_not_test(
    http: httpx2.AsyncClient, database_url: str, provider: Provider
) -> None:
    ours = make_settings(database_url, SUPACAL_PUBLIC_URL=URL)

    found = await send_test(http, provider, ours)

    assert all(one.is_well for one in found)
    assert "made by hand are not tested" in found[-1].said


@pytest.mark.parametrize("provider", BOOKINGS)
async def test_what_it_sends_to_a_connection_by_webhook_only_is_kept_as_ignored(
    http: httpx2.AsyncClient,
    settings: ReceiverSettings,
    database: Connection,
    provider: Provider,
) -> None:
    connection = await make_connection(
        database, await make_organization(database), provider=provider
    )

    found = await send_test(http, provider, settings)

    assert all(one.is_well for one in found)
    (kept,) = await database.fetch(DELIVERIES)
    assert kept["connection_id"] == connection
    assert json.loads(kept["headers"])["ignored"]


class TestWithoutADatabase:
    """A receiver whose database does not answer."""

    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(answer_s=0.2, flush_s=0.1, patience_s=0.3)

    @pytest.mark.parametrize("provider", list(Provider))
    async def test_it_is_found_out_whoever_the_provider_is(
        self,
        http: httpx2.AsyncClient,
        settings: ReceiverSettings,
        connect: Connect,
        provider: Provider,
    ) -> None:
        async with stuck(connect):
            found = await send_test(http, provider, settings)

        wrong = {one.said for one in found if not one.is_well}
        assert wrong
        assert all("the answer was 503" in said for said in wrong)


async def test_an_address_where_nobody_listens_is_a_sentence(
    settings: ReceiverSettings,
) -> None:
    async with httpx2.AsyncClient() as http:
        found = await send_test(http, "google", settings)

    assert not any(one.is_well for one in found)
    assert "supacal api" in found[0].said


async def test_it_says_of_every_event_why_it_is_no_meeting(
    database: Connection, connect: Connect, database_url: str, tmp_path: Path
) -> None:
    worker = await connect(role="sync_worker")
    calendar = await Calendar.create(database, worker, event_tag="#visit")
    tagged = {"title": "Secret #visit"}
    start = coming()
    await calendar.apply(
        make_event("met", **tagged),
        make_event("private", visibility="private", **tagged),
        make_event("untagged", title="Lunch"),
        make_event("declined", own_response="declined", **tagged),
        make_event("birthday", event_type="birthday", **tagged),
        make_event("backwards", **tagged, starts_at=start, ends_at=coming(0)),
        make_series("series", start, **tagged),
    )

    def explained(*words: str) -> subprocess.CompletedProcess[str]:
        environ = environment(tmp_path, DATABASE_URL=database_url)
        asked = ("doctor", "--calendar", str(calendar.id), *words)
        return supacal(*asked, environ=environ)

    everything = explained()
    assert everything.returncode == 0, everything.stderr
    assert "2  it is a meeting" in everything.stdout
    for event, reason in {
        "met": "it is a meeting",
        "private": "it is a meeting",
        "untagged": "event_tag",
        "declined": "the account declined it",
        "birthday": "birthday, which is never a meeting",
        "backwards": "it was set aside: its end is before its start",
        "series": "its occurrences inside the window are",
    }.items():
        one = explained("--event", event)
        assert one.returncode == 0
        assert reason in one.stdout, event
    unknown = explained("--event", "never told")
    assert unknown.returncode == 1
    assert "has not told" in unknown.stdout
    assert "Secret" not in everything.stdout


def test_a_calendar_that_is_not_there_is_said_to_be_none(
    tmp_path: Path, sessions: Sessions
) -> None:
    environ = environment(tmp_path, DATABASE_URL=sessions.url)
    asked = supacal("doctor", "--calendar", str(uuid4()), environ=environ)
    assert asked.returncode == 1
    assert "There is no calendar" in asked.stderr


@pytest.fixture
async def login(sessions: Sessions, database: Connection) -> AsyncIterator[str]:
    """A login of the receiver's own; its name."""
    name = f"receiver_{uuid4().hex[:8]}"
    password = sessions.cluster.password
    await database.execute(
        f"create role {name} login password '{password}' in role webhook_ingest"
    )
    yield name
    await database.execute(f"drop role {name}")


async def isolation_of(sessions: Sessions, login: str) -> list[Finding]:
    """What it says of the receiver's login, and of two pools that share one."""
    environ = {
        "DATABASE_URL": sessions.url,
        "RECEIVER_DATABASE_URL": sessions.cluster.url_of(sessions.database, role=login),
        "SUPACAL_SECRET_KEYS": KEYS,
        "SUPACAL_PUBLIC_URL": URL,
    }
    found = isolation(read(ReceiverSettings, environ), read(WorkerSettings, environ))
    return [one async for one in found]


async def test_which_logins_are_kept_apart_is_said(
    sessions: Sessions, database: Connection, login: str
) -> None:
    own, connecting, working = await isolation_of(sessions, login)
    assert own == Finding(
        True, f"webhook_ingest has a login of its own: {login} can become nothing else"
    )
    for shared, role in ((connecting, "webhook_connect"), (working, "sync_worker")):
        assert shared.is_well
        assert f"{role} is taken by the login postgres" in shared.said
        assert "could also become" in shared.said

    await database.execute(f"grant sync_worker to {login}")
    more, *_ = await isolation_of(sessions, login)
    assert not more.is_well
    assert "can become sync_worker: revoke" in more.said

    await database.execute(f"revoke sync_worker, webhook_ingest from {login}")
    less, *_ = await isolation_of(sessions, login)
    assert not less.is_well
    assert "may not do what webhook_ingest does" in less.said

    gone, *_ = await isolation_of(sessions, "nobody_of_that_name")
    assert not gone.is_well
    assert "RECEIVER_DATABASE_URL cannot be used as webhook_ingest" in gone.said


def test_a_database_without_our_tables_is_to_be_migrated_first(
    tmp_path: Path, bare: Sessions
) -> None:
    asked = supacal("doctor", environ=environment(tmp_path, DATABASE_URL=bare.url))
    assert asked.returncode == 1
    assert "supacal migrate" in asked.stdout
    assert "SUPACAL_SECRET_KEYS is missing" in asked.stdout


async def test_an_examination_names_all_that_is_wrong(
    database: Connection, database_url: str, tmp_path: Path
) -> None:
    organization = await make_organization(database)
    connection = await make_connection(database, organization)
    await database.execute(
        "insert into sync.credentials (connection_id, key_id, ciphertext)"
        " values ($1, 'lost', '\\x00')",
        connection,
    )
    await database.execute(
        "insert into public.sync_alerts (kind, subject_id, message, remedy)"
        " values ('test', $1, 'Something is wrong.', 'Mend it.')",
        connection,
    )
    await database.execute(
        "insert into sync.tasks (kind, subject_id, lane, run_at)"
        " values ('pull', gen_random_uuid(), 1, sync.clock() - interval '1 hour')"
    )

    asked = supacal(
        "doctor",
        environ=environment(
            tmp_path,
            DATABASE_URL=database_url,
            SUPACAL_SECRET_KEYS=KEYS,
            SUPACAL_PUBLIC_URL=URL,
        ),
    )

    wrong = [line for line in asked.stdout.splitlines() if line.startswith("  ✗")]
    assert asked.returncode == 1
    assert len(wrong) == 4
    assert "the key lost" in wrong[0]
    assert "is a worker running?" in wrong[1]
    assert "Mend it." in wrong[2]
    assert "start `supacal api`" in wrong[3]
    assert "✓ notifications of the database are heard" in asked.stdout
