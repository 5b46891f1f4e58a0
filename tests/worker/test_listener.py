"""Promises of the listener: it hears, it notices when it does not, and it heals."""

import structlog

from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.worker.support import Doing, Ears, Proxy, listening, make_due, working

QUICK = {"answer_within_s": 0.3, "echo_within_s": 0.3}


async def say(database: Connection, payload: str) -> None:
    await database.execute("select pg_notify('sync_tasks', $1)", payload)


async def hears(database: Connection, ears: Ears, payload: str) -> None:
    """Say it until it is heard: what is said while nobody listens is lost."""

    async def heard() -> bool:
        await say(database, payload)
        return payload in ears.heard

    await eventually(heard)


async def end_listeners(database: Connection) -> None:
    await database.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'worker' and datname = current_database()"
    )


async def test_what_is_notified_is_heard(
    database: Connection, database_url: str
) -> None:
    ears = Ears()
    async with listening(database_url, ears):
        await eventually(lambda: ears.hearing == ["good"])
        await say(database, "17.25")
        await eventually(lambda: ears.heard == ["17.25"])


async def test_a_listener_whose_backend_was_terminated_hears_again(
    database: Connection, admin: Connection, database_url: str
) -> None:
    ears = Ears()
    async with listening(database_url, ears):
        await eventually(lambda: ears.hearing == ["good"])
        await end_listeners(admin)
        await eventually(lambda: ears.hearing == ["good", "none", "good"])
        await hears(database, ears, "after")


async def test_a_listener_whose_line_was_cut_hears_again(
    database: Connection, database_url: str
) -> None:
    ears = Ears()
    async with Proxy(database_url) as proxy, listening(proxy.url, ears):
        await eventually(lambda: ears.hearing == ["good"])
        proxy.cut()
        await eventually(lambda: ears.hearing == ["good", "none", "good"])
        await hears(database, ears, "after")


async def test_a_line_that_fell_silent_is_found_out_by_the_probe(
    database: Connection, database_url: str
) -> None:
    ears = Ears()
    async with (
        Proxy(database_url) as proxy,
        listening(proxy.url, ears, probe_s=0.1, **QUICK),
    ):
        await eventually(lambda: ears.hearing == ["good"])
        proxy.stall()
        await eventually(lambda: ears.hearing == ["good", "none", "good"])
        await hears(database, ears, "after")


async def test_a_listener_waits_for_a_database_that_is_away(
    database: Connection, database_url: str
) -> None:
    ears = Ears()
    async with Proxy(database_url) as proxy, listening(proxy.url, ears):
        await eventually(lambda: ears.hearing == ["good"])
        proxy.refuse()
        await eventually(lambda: proxy.connections >= 4)
        proxy.refuse(False)
        await eventually(lambda: ears.hearing[-1] == "good")
        await hears(database, ears, "after")


async def test_a_listener_says_once_that_a_pooler_swallows_its_notifications(
    database_url: str,
) -> None:
    ears = Ears()
    with structlog.testing.capture_logs() as logs:
        async with (
            Proxy(database_url, deaf=True) as proxy,
            listening(proxy.url, ears, probe_s=0.05, **QUICK),
        ):
            await eventually(lambda: ears.hearing[:2] == ["deaf", "deaf"])
    (told,) = [line for line in logs if line["event"] == "listener.deaf"]
    assert told["log_level"] == "error"
    assert "5432" in told["remedy"]


async def test_a_deaf_worker_finds_work_by_looking(
    database: Connection, database_url: str
) -> None:
    doing = Doing()
    async with (
        Proxy(database_url, deaf=True) as proxy,
        working(proxy.url, doing),
    ):
        first = await make_due(database, 1)
        await eventually(lambda: set(doing.subjects) == first)
        second = await make_due(database, 1)
        await eventually(lambda: set(doing.subjects) == first | second)


async def test_a_worker_claims_at_once_when_it_hears_again(
    database: Connection, admin: Connection, database_url: str
) -> None:
    doing = Doing()
    async with working(database_url, doing):
        before = await make_due(database, 1)
        await eventually(lambda: set(doing.subjects) == before)
        # Without a word of notification, and below what the worker has seen.
        await database.execute(
            "insert into sync.tasks (kind, subject_id, lane, run_at) "
            "values ('pull', gen_random_uuid(), 1, sync.clock() - interval '1 day')"
        )
        await end_listeners(admin)
        await eventually(lambda: len(doing.begun) == 2)
