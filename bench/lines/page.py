"""A page of 2,500 events of which none has changed: from bytes to committed."""

from bench.events import page
from bench.ground import Ground
from bench.measure import Claim, NotMeasured, Result, Spread
from bench.pulling import PulledCalendar, pulled_calendar

NAME = "page"
TITLE = "Page of 2,500 events, bytes → committed, unchanged"
EVENTS = 2500
ROUNDS = 5
TIMES = 10  # a round
WAL_TIMES = 15
CHANGED = 25


async def measure(ground: Ground) -> Result:
    """Apply the same page by the worker's pull and by the peer, in turn."""
    result = Result(NAME, TITLE)
    content = page(EVENTS)
    file = ground.directory / "page.json"
    file.write_bytes(content)
    ours: list[float] = []
    theirs: list[float] = []
    missing = ""
    async with (
        ground.database() as url,
        ground.database(bare=True) as peer_url,
        pulled_calendar(ground, url) as calendar,
    ):
        result.show("all new", [await calendar.apply(content)], "ms")
        if await calendar.events() != EVENTS:
            raise RuntimeError("the page was not applied")
        await calendar.admin.execute("vacuum analyze")
        for _ in range(ground.rounds(ROUNDS)):
            took = [await calendar.apply(content) for _ in range(TIMES)]
            ours.append(Spread.of(took).middle)
            try:
                theirs.append(await _peer(ground, peer_url, str(file)))
            except NotMeasured as reason:
                missing = str(reason)
        wal = await _wal_beyond(calendar, content)
    result.compare(
        "how many times faster than orjson + executemany upsert",
        theirs,
        ours if theirs else None,
        at_least=4,
        why_not=missing,
    )
    result.claims.append(
        Claim("WAL beyond fence, cursor and run", wal, at_most=1024, unit="bytes")
    )
    result.show("Supacal's whole pull", ours, "ms")
    if theirs:
        result.show("orjson + executemany upsert", theirs, "ms")
    return result


async def _peer(ground: Ground, url: str, file: str) -> float:
    await ground.peers.need("asyncpg", "orjson", "uvloop")
    run = await ground.peers.run(
        "orjson_upsert", file, str(TIMES), PEER_DATABASE_URL=url
    )
    return Spread.of(run["ms"]).middle


async def _wal_beyond(calendar: PulledCalendar, content: bytes) -> Spread:
    """Return what a page costs in WAL above a page without events.

    The fence, the cursor and the run's own bookkeeping are in both.
    """
    nothing = page(0)
    beyond = []
    for _ in range(WAL_TIMES):
        base = await calendar.wal_of(nothing)
        beyond.append(float(await calendar.wal_of(content) - base))
    middle = Spread.of(beyond).middle
    # A page of the heap that is written first after a checkpoint is logged whole.
    usual = [one for one in beyond if abs(one - middle) < 8192]
    return Spread.of(usual)
