"""Claiming after 1,000,000 runs, while an old transaction keeps their dead rows."""

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg

from bench.calendars import queries, seed
from bench.ground import Ground, connected
from bench.measure import Claim, Result, Spread, percentile
from worker.agenda import Agenda
from worker.attempt import Ended
from worker.handler import Outcome, Task
from worker.settling import Answer, Request, settle_and_claim

NAME = "claim"
TITLE = "Claim after 1,000,000 runs with an old transaction open"
TASKS = 20_000
RUNS = 1_000_000
ROUNDS = 5
CLAIMS = 300  # a round
SWEEPS = 4  # a round
SLOTS = 32
LEASE = timedelta(minutes=1)
POLLED_EVERY = timedelta(minutes=15)


async def measure(ground: Ground) -> Result:
    """Claim single tasks after a million runs, with the floor and without.

    Those runs are made set by set: what they leave in table and indexes is the same.
    """
    result = Result(NAME, TITLE)
    runs = ground.amount(RUNS)
    claims: list[list[float]] = []
    sweeps: list[list[float]] = []
    async with (
        ground.database() as url,
        connected(url) as admin,
        connected(url, role="sync_worker") as connection,
    ):
        await seed(admin, TASKS)
        line = _Line(connection)
        async with _old_transaction(url):
            for _ in range(runs // TASKS):
                await queries.claim.claim_all(admin)
                await queries.claim.finish_all(admin)
            await queries.claim.rest(admin)
            subjects = [row async for row in queries.claim.subjects(admin)]
            await line.sweep()
            for _ in range(ground.rounds(ROUNDS)):
                claims.append(await _claim_singles(admin, line, subjects, ground))
                sweeps.append([await line.sweep() for _ in range(SWEEPS)])
    p99 = Spread.of(percentile(took, 0.99) for took in claims)
    result.claims.append(Claim("p99", p99, at_most=10, unit="ms"))
    result.show("p50", [percentile(took, 0.5) for took in claims], "ms")
    sweep = Spread.of(took for many in sweeps for took in many)
    result.claims.append(
        Claim("the sweep without a floor, once in 10 s", sweep, unit="ms")
    )
    return result


class _Line:
    """The dispatcher's question, asked as the dispatcher asks it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.agenda = Agenda()
        self._connection = connection
        self._ended: list[Ended] = []

    async def ask(self, slots: int, rest: timedelta) -> tuple[Answer, float]:
        """Settle what was claimed before and claim; return how many ms it took."""
        request = Request(
            kinds=["pull"],
            slots=slots,
            lease_for=LEASE,
            floor=self.agenda.begin(),
            per_connection=slots,
            busy=[],
        )
        began = time.perf_counter()
        answer = await settle_and_claim(self._connection, self._ended, [], request)
        took_ms = (time.perf_counter() - began) * 1000
        self.agenda.learn(answer.survey)
        self._ended = [_ended(task, rest) for task in answer.tasks]
        return answer, took_ms

    async def sweep(self) -> float:
        """Claim without a floor."""
        self.agenda.forget()
        _, took_ms = await self.ask(SLOTS, POLLED_EVERY)
        return took_ms


async def _claim_singles(
    admin: asyncpg.Connection,
    line: _Line,
    subjects: Sequence[asyncpg.Record],
    ground: Ground,
) -> list[float]:
    """Return what each claim took that had a floor."""
    took = []
    for _ in range(ground.amount(CLAIMS)):
        subject = random.choice(subjects)  # noqa: S311
        payload = await queries.claim.request(
            admin,
            subject_id=subject["subject_id"],
            connection_id=subject["connection_id"],
        )
        line.agenda.hear(payload)
        has_floor = line.agenda._floor is not None
        answer, took_ms = await line.ask(SLOTS, POLLED_EVERY)
        if subject["subject_id"] not in {task.subject_id for task in answer.tasks}:
            raise RuntimeError("what was asked for was not claimed")
        if has_floor:
            took.append(took_ms)
        await line.ask(0, POLLED_EVERY)
    return took


def _ended(task: Task, rest: timedelta) -> Ended:
    outcome = Outcome(next_at=task.claimed_at + rest, idle=True)
    return Ended(task, task.claimed_at, 0, outcome)


@asynccontextmanager
async def _old_transaction(url: str) -> AsyncIterator[None]:
    """A dump, say: its snapshot keeps everything that dies from now on."""
    async with (
        connected(url) as connection,
        connection.transaction(isolation="repeatable_read"),
    ):
        await queries.claim.hold_snapshot(connection)
        yield
