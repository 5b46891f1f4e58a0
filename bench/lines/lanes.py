"""A user's edit while 1,000,000 polls are due."""

import time
from datetime import timedelta
from uuid import uuid4

from bench.calendars import CALENDARS_EACH, queries, seed
from bench.ground import Ground, connected
from bench.measure import Claim, Result, Spread
from worker.settling import Request, settle_and_claim

NAME = "lanes"
TITLE = "A user's edit with 1,000,000 polls due"
POLLS = 1_000_000
CONNECTIONS = 10_000
EDITS = 20
SLOTS = 32


async def measure(ground: Ground) -> Result:
    """Edit, claim one batch as a worker does, and look for the edit in it."""
    result = Result(NAME, TITLE)
    in_first: list[float] = []
    took_ms: list[float] = []
    async with (
        ground.database() as url,
        connected(url) as admin,
        connected(url, role="sync_worker") as connection,
    ):
        await seed(admin, CONNECTIONS * CALENDARS_EACH)
        await queries.claim.add_polls(admin, each=ground.amount(POLLS) // CONNECTIONS)
        await admin.execute("analyze sync.tasks")
        request = Request(
            kinds=["pull", "push"],
            slots=SLOTS,
            lease_for=timedelta(minutes=1),
            floor=None,
            per_connection=8,
            busy=[],
        )
        await settle_and_claim(connection, [], [], request)
        for _ in range(EDITS):
            edited = uuid4()
            await queries.claim.edit(admin, meeting_id=edited)
            began = time.perf_counter()
            answer = await settle_and_claim(connection, [], [], request)
            took_ms.append((time.perf_counter() - began) * 1000)
            in_first.append(edited in {task.subject_id for task in answer.tasks})
    share = Spread.of([100 * sum(in_first) / len(in_first)])
    result.claims.append(
        Claim("edits claimed in the first batch", share, at_least=100, unit="%")
    )
    result.show("that claim", took_ms, "ms")
    return result
