"""The tour: every hop of every change, or a word about the one that did not come."""

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from local_stack.stack import Stack
from local_stack.state import State
from runtime.settings import StackSettings, read
from sql import queries
from supacal.tour import Tour
from tests.support.sessions import Connection
from tests.support.stacks import CHECKOUT, environment, supacal

# What supabase-py says of itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '(timeout|verify|proxy)' parameter is deprecated:DeprecationWarning"
)

SHARED = Path(os.environ.get("SUPACAL_SHARED", CHECKOUT.parent / "shared"))
HOPS = (
    "webhook_api has stored it",
    "a worker has claimed the task",
    "Postgres has committed the meetings",
    "the frontend has been called back",
)
SCENES = {
    "An event is moved by three hours in Google Calendar": "Google",
    "It is renamed": "Google",
    "It is cancelled": "Google",
    "A whole series is re-timed to": "Google",
    "One occurrence of it is moved to the next day": "Google",
    "An event is made in Outlook": "Outlook",
    "It is moved by four hours": "Outlook",
    "A client books with Calendly": "Calendly",
    "Calendly writes it into her Google Calendar: it stays one meeting": "Google",
    "A client books with Cal.com": "Cal.com",
}
# Twice each: with Calendly, and with Cal.com.
BOOKING_SCENES = ("The booking is moved by a day", "The booking is cancelled")
ALL_SCENES = len(SCENES) + 2 * len(BOOKING_SCENES)
SPEAKS = {
    "Google sends a push": 6,
    "Google's API has told what changed": 6,
    "Outlook sends a notification": 2,
    "Microsoft Graph has told what changed": 2,
    "Calendly posts the booking": 3,
    "Cal.com posts the booking": 3,
}
FORGET_RUNS_OF_BOOKINGS = """
create function sync.forget_run() returns trigger language plpgsql as
'begin return null; end';
create trigger forget_run before insert on sync.runs
for each row when (new.kind = 'ingest') execute function sync.forget_run();
"""


@pytest.mark.parametrize(
    "shared",
    [
        pytest.param(Path("/nowhere"), id="our own calendars"),
        *(
            [pytest.param(SHARED, id="calendars that clubs kept")]
            if SHARED.is_dir()
            else []
        ),
    ],
)
def test_the_tour_shows_each_hop_of_each_change_and_ends_well(
    scratch: Path, shared: Path
) -> None:
    environ = environment(scratch / "state", SUPACAL_SHARED=str(shared))
    toured = supacal("dev", "--reset", "--tour", "--exit", environ=environ)
    said = toured.stdout
    assert toured.returncode == 0, said + toured.stderr
    for scene in SCENES:
        assert f"\n{scene}" in said
    for scene in BOOKING_SCENES:
        assert said.count(f"\n{scene}") == 2
    for hop, times in {**dict.fromkeys(HOPS, ALL_SCENES), **SPEAKS}.items():
        assert len(re.findall(rf"\d ms   {re.escape(hop)}\n", said)) == times, hop
    assert len(re.findall(r"\n  ✓ as \S+ has it, under ", said)) == ALL_SCENES
    assert "All of it happened, and no meeting changed its id." in said
    assert max(map(len, said.splitlines())) <= 100
    assert without_figures(said) == without_figures(readme_demo())


def readme_demo() -> str:
    readme = (CHECKOUT / "README.md").read_text()
    return readme.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0]


def without_figures(text: str) -> list[str]:
    """The tour's lines, without what differs from run to run."""
    tour = text[text.index("A tour:") :].replace("```", "")
    tour = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<id>", tour)
    tour = re.sub(r"\d[\d,.:]*", "#", tour)
    return [" ".join(line.split()) for line in tour.splitlines() if line.strip()]


def test_the_tour_can_be_taken_again_on_what_the_first_one_left(scratch: Path) -> None:
    environ = environment(scratch / "state", SUPACAL_SHARED="/nowhere")
    for _ in range(3):
        toured = supacal("dev", "--tour", "--exit", environ=environ)
        assert toured.returncode == 0, toured.stdout + toured.stderr
    assert "on since an earlier run" in toured.stdout


@asynccontextmanager
async def stack(
    scratch: Path, said: list[str], *, prepare: str = "select"
) -> AsyncIterator[tuple[Stack, Tour]]:
    """A stack in this process, its database prepared, and an impatient tour of it."""
    settings = read(StackSettings, environ={"SUPACAL_SHARED": "/nowhere"})
    with State(scratch / "state") as state:
        started = Stack(state, settings, say=said.append)
        try:
            facts = await started.start()
            database = await asyncpg.connect(facts.database_url)
            await database.execute(prepare)
            await database.close()
            yield started, Tour(started, facts, patience_s=3, first_sync_limit_s=8)
        finally:
            await started.stop()


async def test_a_push_that_does_not_come_is_named_and_the_tour_fails(
    scratch: Path,
) -> None:
    said: list[str] = []
    async with stack(scratch, said) as (started, tour):
        started.twins.google.switchboard.drop_pushes(times=None)
        assert await tour.walk(said.append) is False
    told = "\n".join(said)
    assert re.search(r"✗ not within 3 s: Google sends a push, webhook_api", told)
    assert "not seen   the frontend has been called back" in told
    assert str(scratch / "state" / "logs") in told


async def test_an_api_that_refuses_is_named_and_the_tour_fails(scratch: Path) -> None:
    said: list[str] = []
    async with stack(scratch, said) as (started, tour):
        started.twins.google.switchboard.answer(
            "events.list", 403, reason="forbidden", times=None
        )
        assert await tour.walk(said.append) is False
    assert re.search(r"✗ .*watched and read whole; google events\.list: 403", said[-2])


async def test_a_hop_that_is_not_seen_is_the_only_one_named(scratch: Path) -> None:
    said: list[str] = []
    async with stack(scratch, said, prepare=FORGET_RUNS_OF_BOOKINGS) as (_, tour):
        assert await tour.walk(said.append) is False
    assert "✗ not within 3 s: a worker has claimed the task" in said[-2]
    assert "frontend" not in said[-2]


@pytest.mark.parametrize(
    ("task", "rests"),
    [
        ("run_at = sync.clock() + interval '1 minute'", True),
        ("run_at = sync.clock()", False),
        (
            "run_at = sync.clock() + interval '1 minute', lease = gen_random_uuid()",
            False,
        ),
    ],
)
async def test_a_scene_waits_until_nobody_is_at_what_came_before(
    database: Connection, task: str, rests: bool
) -> None:
    keys = {"kind": "ingest", "subject_id": uuid4()}
    await database.execute(
        "insert into sync.tasks (kind, subject_id, lane, run_at) "
        "values ($1, $2, 1, sync.clock())",
        *keys.values(),
    )
    await database.execute(f"update sync.tasks set {task}")
    assert await queries.tour.is_at_rest(database, **keys) is rests
