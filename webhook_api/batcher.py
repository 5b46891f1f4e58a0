"""Join what arrives together: one call of the database for all that came meanwhile.

One flush is under way at a time, and no window is waited for: while a flush runs, the
next batch gathers by itself. Under load a commit is shared by a hundred deliveries; an
idle receiver stores each at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain

import structlog

from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits

log = structlog.get_logger()

Flush = Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]
Flushed = Callable[[list["Waiting"], Sequence[Outcome], float], None]


class TooBusy(Exception):
    """More deliveries wait than may: send it again later."""


class Waiting:
    """A delivery that waits for its outcome."""

    __slots__ = ("answer", "delivery", "due_at", "since")

    def __init__(
        self,
        delivery: Delivery,
        answer: asyncio.Future[Outcome],
        since: float,
        due_at: float,
    ) -> None:
        self.delivery = delivery
        self.answer = answer
        self.since = since
        self.due_at = due_at

    def settle(self, outcome: Outcome) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)

    @property
    def given_up(self) -> bool:
        """Answered before it was sent; a sender that left is no reason not to."""
        return self.answer.done() and not self.answer.cancelled()


class Batcher:
    """Hands batches to `flush`, one at a time, and tells each delivery its outcome.

    `ready` is awaited before each batch is taken, so that those who come while the
    database is away wait in the queue, each until its own deadline.
    """

    def __init__(
        self,
        flush: Flush,
        *,
        limits: Limits,
        ready: Callable[[], Awaitable[object]],
        flushed: Flushed,
    ) -> None:
        self._flush = flush
        self._limits = limits
        self._ready = ready
        self._flushed = flushed
        self._queue: deque[Waiting] = deque()
        self._under_way: list[Waiting] = []
        self._flusher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many wait for a flush."""
        return len(self._queue)

    def submit(self, delivery: Delivery) -> asyncio.Future[Outcome]:
        """Queue a delivery; its outcome comes within the time an answer may take.

        Raises:
            TooBusy: the queue is full.
        """
        if len(self._queue) >= self._limits.waiting_rows:
            raise TooBusy
        loop = asyncio.get_running_loop()
        now = loop.time()
        due_at = now + self._limits.answer_s
        waiting = Waiting(delivery, loop.create_future(), now, due_at)
        self._queue.append(waiting)
        if self._flusher is None:
            self._flusher = loop.create_task(self._run())
        if self._timer is None:
            self._timer = loop.call_at(due_at, self._expire)
        return waiting.answer

    async def drain(self, within_s: float) -> None:
        """Store what waits; what is not stored in time is told so."""
        if self._flusher is not None:
            await asyncio.wait([self._flusher], timeout=within_s)
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.wait([self._flusher])
        for waiting in chain(self._under_way, self._queue):
            waiting.settle(Outcome.UNAVAILABLE)
        if self._timer is not None:
            self._timer.cancel()

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._ready()
                try:
                    await self._flush_batch(self._take())
                except Exception:  # a flusher that died would leave everybody waiting
                    log.exception("flush.broken", rows=len(self._under_way))
                    self._settle([Outcome.UNAVAILABLE] * len(self._under_way))
        finally:
            # No await stands between the empty queue and this line: a delivery queued
            # in between would find a flusher that never looks again.
            self._flusher = None

    def _take(self) -> list[Waiting]:
        """Take the next batch, without those who were told to come again."""
        batch: list[Waiting] = []
        while self._queue and len(batch) < self._limits.flush_rows:
            waiting = self._queue.popleft()
            if not waiting.given_up:
                batch.append(waiting)
        return batch

    async def _flush_batch(self, batch: list[Waiting]) -> None:
        if not batch:
            return
        self._under_way = batch
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcomes = await self._flush([waiting.delivery for waiting in batch])
        self._settle(outcomes)
        self._flushed(batch, outcomes, loop.time() - began)

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        for waiting, outcome in zip(self._under_way, outcomes, strict=True):
            waiting.settle(outcome)
        self._under_way = []

    def _expire(self) -> None:
        """Answer those whose time is up; one timer serves all who wait."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        next_at: float | None = None
        for waiting in chain(self._under_way, self._queue):
            if waiting.answer.done():
                continue
            if waiting.due_at <= now:
                waiting.settle(Outcome.LATE)
            elif next_at is None or waiting.due_at < next_at:
                next_at = waiting.due_at
        if next_at is not None:
            self._timer = loop.call_at(next_at, self._expire)
