"""Notifications that come while each calendar's pull is under way."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

from bench.calendars import Channel, connected_channels
from bench.caller import calling
from bench.ground import Ground
from bench.measure import Claim, Result, Spread
from bench.receiving import our_push, receiver
from bench.waiting import until
from runtime.pool import connect
from worker.dispatcher import Dispatcher, Pace
from worker.handler import Outcome, Task
from worker.listener import Listener

NAME = "held"
TITLE = "20,000 notifications for 1,000 calendars while each one's pull is held"
CALENDARS = 1000
NOTIFICATIONS = 20_000
CALLERS = 64
QUIET_S = 2.0
LIMIT_S = 60
TOMORROW = timedelta(days=1)


class HeldPull:
    """Reads each calendar's state when it begins, and ends no sooner than it is let."""

    def __init__(self, states: dict[UUID, int]) -> None:
        self.let_go = asyncio.Event()
        self.runs: Counter[UUID] = Counter()
        self.seen: dict[UUID, int] = {}
        self.last_begun = 0.0
        self._states = states

    async def __call__(self, task: Task) -> Outcome:
        self.runs[task.subject_id] += 1
        self.seen[task.subject_id] = self._states[task.subject_id]
        self.last_begun = time.monotonic()
        await self.let_go.wait()
        return Outcome(next_at=task.now() + TOMORROW, idle=True)


async def measure(ground: Ground) -> Result:
    """Hold all pulls, notify, let go, and count what runs."""
    result = Result(NAME, TITLE)
    calendars, notifications = ground.amount(CALENDARS), ground.amount(NOTIFICATIONS)
    states: dict[UUID, int] = defaultdict(int)
    pull = HeldPull(states)
    async with ground.database() as url, receiver(ground, url) as port:
        channels = await connected_channels(url, calendars)
        working = asyncio.create_task(_work(url, pull, calendars))
        try:
            await _notify(ground, port, channels, states)
            await _until(lambda: len(pull.runs) == calendars)
            began = time.monotonic()
            many = random.choices(channels, k=notifications - calendars)  # noqa: S311
            await _notify(ground, port, [*channels, *many], states)
            took_s = time.monotonic() - began
            held = sum(pull.runs.values()) - calendars
            pull.last_begun = time.monotonic()
            pull.let_go.set()
            await _until(lambda: time.monotonic() - pull.last_begun > QUIET_S)
        finally:
            working.cancel()
            await asyncio.wait([working])
    exactly_once = sum(count == 2 for count in pull.runs.values())
    missed = sum(pull.seen[one] != state for one, state in states.items())
    _judge(result, calendars, exactly_once, held, missed)
    result.show("notifications stored meanwhile", [notifications / took_s], "/s")
    return result


def _judge(
    result: Result, calendars: int, exactly_once: int, held: int, missed: int
) -> None:
    counts = (
        ("pulls begun beside one that was held", held),
        ("calendars whose last state was missed", missed),
    )
    once = Spread.of([exactly_once])
    result.claims.append(
        Claim("calendars with exactly one more pull", once, at_least=calendars, unit="")
    )
    result.claims += [
        Claim(what, Spread.of([count]), at_most=0, unit="") for what, count in counts
    ]


async def _work(url: str, pull: HeldPull, slots: int) -> None:
    """Run the worker's dispatcher and listener, with a slot for every calendar."""
    to_database = partial(connect, url, role="sync_worker", application_name="bench")
    dispatcher = Dispatcher(
        to_database, {"pull": pull}, Pace(slots=slots + 100, per_connection=slots)
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(Listener(to_database, dispatcher, probe_s=15).run())
        group.create_task(dispatcher.run())


async def _notify(
    ground: Ground, port: int, channels: Sequence[Channel], states: dict[UUID, int]
) -> None:
    """Change each calendar, then push; many at once, through the receiver."""
    waiting = iter(channels)

    async def call() -> None:
        async with calling(port) as caller:
            for channel in waiting:
                states[channel.calendar_id] += 1
                await caller.post(our_push(ground, channel))

    await asyncio.gather(*(call() for _ in range(CALLERS)))


async def _until(happened: Callable[[], bool]) -> None:
    async def look() -> bool:
        return happened()

    await until(look, within_s=LIMIT_S)
