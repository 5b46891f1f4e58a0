"""From Google's POST to the callback in a frontend, and the share of each hop."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from bench.calendars import queries
from bench.events import event
from bench.ground import Ground
from bench.measure import Claim, Result, Spread, percentile
from bench.waiting import until
from bench.whole_path import WholePath, whole_path
from local_stack.twins.google import Event

NAME = "callback"
TITLE = "POST → Realtime callback by broadcast, Google's twin answering at once"
EVENTS = 2500
ROUNDS = 5
CHANGES = 20  # a round
LIMIT_S = 10
HOPS = (
    "receiver: push sent → delivery committed",
    "queue: → task claimed",
    "worker and twin: → Google's API has answered",
    "apply: → rows committed",
    "gateway and client: → callback",
)


async def measure(ground: Ground) -> Result:
    """Rename events at the twin, one at a time, and follow each."""
    result = Result(NAME, TITLE)
    rounds: list[list[float]] = []
    hops: dict[str, list[float]] = defaultdict(list)
    async with (
        ground.database() as url,
        whole_path(ground, url, ground.amount(EVENTS)) as path,
    ):
        await _follow(path, 0, "warm")
        for number in range(ground.rounds(ROUNDS)):
            walks = [
                await _follow(path, place, f"Round {number}, {place}")
                for place in range(ground.amount(CHANGES))
            ]
            rounds.append([sum(walk.values()) for walk in walks])
            for walk in walks:
                for hop, took_ms in walk.items():
                    hops[hop].append(took_ms)
    _judge(result, rounds, hops)
    return result


async def _follow(path: WholePath, place: int, title: str) -> Mapping[str, float]:
    """Rename an event; return milliseconds by hop."""
    await asyncio.sleep(random.uniform(0.02, 0.05))  # noqa: S311
    heard = path.frontend.expect(title)
    began = datetime.now(UTC)
    path.calendar.rename(Event(path.calendar, event(place)["id"]), title)
    async with asyncio.timeout(LIMIT_S):
        heard_at = await heard

    async def recorded() -> object:
        return await queries.callback.run(
            path.database, calendar_id=path.calendar_id, since=began
        )

    await until(recorded, within_s=LIMIT_S)
    run = await queries.callback.run(
        path.database, calendar_id=path.calendar_id, since=began
    )
    push = next(one for one in path.twin.pushes.log if one.sent_at >= began)
    moments = [
        push.sent_at,
        await queries.callback.delivery_at(path.database, since=began),
        run["started_at"],
        run["started_at"] + timedelta(milliseconds=run["answered_ms"]),
        await queries.callback.committed_at(path.database, title=title),
        heard_at,
    ]
    spans = pairwise(moments)
    took = [(after - before).total_seconds() * 1000 for before, after in spans]
    return dict(zip(HOPS, took, strict=True))


def _judge(
    result: Result,
    rounds: Sequence[Sequence[float]],
    hops: Mapping[str, Sequence[float]],
) -> None:
    middle = Spread.of(percentile(took, 0.5) for took in rounds)
    result.claims.append(Claim("p50", middle, at_most=40, unit="ms"))
    result.show("p99", [percentile(took, 0.99) for took in rounds], "ms")
    middles = {hop: Spread.of(took).middle for hop, took in hops.items()}
    whole = sum(middles.values())
    for hop, took_ms in middles.items():
        result.figures.append((hop, f"{took_ms:.2f} ms, {took_ms / whole:.0%}"))
