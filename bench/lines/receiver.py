"""Receiver: requests a second and p99, verified and durable, on both disks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

from bench.calendars import connected_channels
from bench.ground import Ground
from bench.load import Loaded
from bench.measure import Claim, Result, ratios
from bench.receiving import no_op, our_push, peer, peer_push, receiver, verifying

NAME = "receiver"
TITLE = "Receiver, verified and durable, one process, 128 connections"
CALENDARS = 10_000  # none of them is told of so often that its news are coalesced
ROUNDS = 5
SECONDS = 3.0
NAMES = {"ours": "Supacal", "verifying": "verifying only", "peer": "the peer"}

Rounds = dict[str, list[Loaded]]
Server = tuple[int, Sequence[bytes]]


async def measure(ground: Ground) -> Result:
    """Load our receiver, the same without a database, and the peer, in turn."""
    result = Result(NAME, TITLE)
    async with ground.database() as url, ground.database(bare=True) as peer_url:
        channels = await connected_channels(url, CALENDARS)
        pushes = [our_push(ground, channel) for channel in channels]
        async with (
            receiver(ground, url) as ours,
            verifying(ground, url) as only,
            peer(ground, peer_url) as theirs,
        ):
            servers: dict[str, Server] = {
                "ours": (ours, pushes),
                "verifying": (only, pushes),
            }
            if theirs.port:
                peer_pushes = [peer_push(channel) for channel in channels]
                servers["peer"] = (theirs.port, peer_pushes)
            for on in ("", ", 1 ms fsync"):
                with ground.disk.slow() if on else nullcontext():
                    rounds = await _load(ground, servers)
                _judge(result, on, rounds, theirs.missing)
        async with no_op(ground) as nobody:
            limit = await ground.load.run(nobody, pushes, seconds=ground.seconds(2))
        result.show("the loader's own limit", [limit.per_second], "/s")
    return result


async def _load(ground: Ground, servers: Mapping[str, Server]) -> Rounds:
    rounds: Rounds = defaultdict(list)
    for _ in range(ground.rounds(ROUNDS)):
        for name, (port, pushes) in servers.items():
            loaded = await ground.load.run(
                port, pushes, seconds=ground.seconds(SECONDS)
            )
            rounds[name].append(loaded)
    return rounds


def _judge(result: Result, on: str, rounds: Rounds, missing: str) -> None:
    speed = {name: [one.per_second for one in many] for name, many in rounds.items()}
    p99 = {name: [one.p99_ms for one in many] for name, many in rounds.items()}
    has_peer = "peer" in rounds
    result.compare(
        f"requests/s against FastAPI + procrastinate{on}",
        speed["ours"],
        speed["peer"] if has_peer else None,
        at_least=10,
        why_not=missing,
    )
    share = ratios(speed["ours"], speed["verifying"])
    result.claims.append(
        Claim(f"requests/s against verifying only{on}", share, at_least=0.6)
    )
    result.compare(
        f"p99, how many times lower than FastAPI + procrastinate's{on}",
        p99["peer"] if has_peer else [],
        p99["ours"] if has_peer else None,
        at_least=8,
        why_not=missing,
    )
    for name in rounds:
        result.show(f"{NAMES[name]}{on}", speed[name], "/s")
        result.show(f"{NAMES[name]}, p99{on}", p99[name], "ms")
