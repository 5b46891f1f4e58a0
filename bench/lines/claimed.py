"""From a POST to the start of the handler, with nothing else going on."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bench.calendars import Channel, connected_channels
from bench.caller import Caller, calling
from bench.ground import Ground
from bench.measure import Claim, Result, Spread, percentile
from bench.receiving import (
    Peer,
    no_op_worker,
    our_push,
    peer,
    peer_push,
    peer_worker,
    receiver,
)
from bench.reports import PATIENCE_S, Reports, listening

NAME = "claimed"
TITLE = "POST → task claimed, idle, p50"
CALENDARS = 500
ROUNDS = 5
POSTS = 100  # a round

Post = tuple[bytes, str]  # a request, and what its handler will report


async def measure(ground: Ground) -> Result:
    """Post one push at a time to us and to the peer, in turn."""
    result = Result(NAME, TITLE)
    async with (
        ground.database() as url,
        ground.database(bare=True) as peer_url,
        listening() as reports,
    ):
        channels = await connected_channels(url, CALENDARS)
        ours: list[list[float]] = []
        theirs: list[list[float]] = []
        async with (
            receiver(ground, url) as port,
            no_op_worker(ground, url, reports),
            calling(port) as caller,
            peer(ground, peer_url) as other,
        ):
            posts = [(our_push(ground, one), str(one.calendar_id)) for one in channels]
            async with _calling_peer(ground, peer_url, other, reports) as peer_caller:
                for _ in range(ground.rounds(ROUNDS)):
                    ours.append(await _post_all(ground, caller, reports, posts))
                    if peer_caller:
                        took = await _post_all(
                            ground, peer_caller, reports, _peer_posts(channels)
                        )
                        theirs.append(took)
    _judge(result, ours, theirs, other.missing)
    return result


@asynccontextmanager
async def _calling_peer(
    ground: Ground, url: str, server: Peer, reports: Reports
) -> AsyncIterator[Caller | None]:
    """Run the peer's worker beside its server, if that runs."""
    if not server.port:
        yield None
        return
    async with (
        peer_worker(ground, url, reports.port),
        calling(server.port) as caller,
    ):
        yield caller


def _peer_posts(channels: Sequence[Channel]) -> list[Post]:
    return [(peer_push(channel), str(channel.id)) for channel in channels]


async def _post_all(
    ground: Ground, caller: Caller, reports: Reports, posts: Sequence[Post]
) -> list[float]:
    """Return milliseconds from each POST to the start of its handler."""
    took = []
    for request, subject in random.sample(posts, ground.amount(POSTS)):
        await asyncio.sleep(random.uniform(0.005, 0.02))  # noqa: S311
        begun = reports.expect(subject)
        sent_at = await caller.post(request)
        async with asyncio.timeout(PATIENCE_S):
            took.append((await begun - sent_at) / 1e6)
    return took


def _judge(
    result: Result,
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    missing: str,
) -> None:
    middle = [percentile(took, 0.5) for took in ours]
    peer_middle = [percentile(took, 0.5) for took in theirs]
    result.claims.append(Claim("p50", Spread.of(middle), at_most=2.5, unit="ms"))
    result.compare(
        "p50, how many times lower than FastAPI + procrastinate's",
        peer_middle,
        middle if theirs else None,
        at_least=2,
        why_not=missing,
    )
    result.show("p99", [percentile(took, 0.99) for took in ours], "ms")
    if theirs:
        result.show("the peer's p50", peer_middle, "ms")
        result.show("the peer's p99", [percentile(took, 0.99) for took in theirs], "ms")
