"""Join what arrives together: one call of the database for all that came meanwhile.

One flush is under way at a time, and no window is waited for: while a flush runs, the
next batch gathers by itself. Under load a commit is shared by a hundred deliveries; an
idle receiver stores each at once.

Of a channel that says "something changed" too often, only the last of those that wait
is stored. All others are told what became of it: a pull that it asks for reads what
they meant, for they came before it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from uuid import UUID

import structlog

from webhook_api.crowds import Crowds
from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits

log = structlog.get_logger()

Flush = Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]
Flushed = Callable[[list["Waiting"], Sequence[Outcome], float], None]


class TooBusy(Exception):
    """More deliveries wait than may: send it again later."""


class Waiting:
    """A delivery that waits for its outcome, and others that share it."""

    __slots__ = ("answer", "delivery", "due_at", "others", "since")

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
        # Futures of their own: a sender that leaves cancels the one that it awaits.
        self.others: list[asyncio.Future[Outcome]] = []

    def settle(self, outcome: Outcome) -> None:
        if not self.answer.done():
            self.answer.set_result(outcome)
        for other in self.others:
            if not other.done():
                other.set_result(outcome)

    @property
    def is_settled(self) -> bool:
        return self.answer.done() and all(other.done() for other in self.others)

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
        self._crowds = Crowds(limits)
        self._queue: deque[Waiting] = deque()
        # Of channels that are crowds: who waits, and will be stored for those to come.
        self._last_of: dict[UUID, Waiting] = {}
        self._sharing = 0
        self._under_way: list[Waiting] = []
        self._flusher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many wait for a flush."""
        return len(self._queue) + self._sharing

    def submit(self, delivery: Delivery) -> asyncio.Future[Outcome]:
        """Queue a delivery; its outcome comes within the time an answer may take.

        Raises:
            TooBusy: the queue is full.
        """
        if len(self._queue) + self._sharing >= self._limits.waiting_rows:
            raise TooBusy
        loop = asyncio.get_running_loop()
        now = loop.time()
        notification = delivery.notification
        channel_id = notification.channel_id
        # Only a change says nothing but that there is something to be read.
        if (
            notification.kind == "change"
            and channel_id is not None
            and self._crowds.is_crowd(channel_id, now)
        ):
            return self._share(channel_id, delivery, loop)
        return self._enqueue(delivery, loop, now).answer

    def _enqueue(
        self, delivery: Delivery, loop: asyncio.AbstractEventLoop, now: float
    ) -> Waiting:
        due_at = now + self._limits.answer_s
        waiting = Waiting(delivery, loop.create_future(), now, due_at)
        self._queue.append(waiting)
        if self._flusher is None:
            self._flusher = loop.create_task(self._run())
        if self._timer is None:
            self._timer = loop.call_at(due_at, self._expire)
        return waiting

    def _share(
        self, channel_id: UUID, delivery: Delivery, loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[Outcome]:
        """Take the place of the one of this channel that waits; answer both together.

        The deadline stays that of the first.
        """
        now = loop.time()
        last = self._last_of.get(channel_id)
        if last is None or last.due_at <= now:
            last = self._last_of[channel_id] = self._enqueue(delivery, loop, now)
            return last.answer
        last.delivery = delivery
        answer: asyncio.Future[Outcome] = loop.create_future()
        last.others.append(answer)
        self._sharing += 1
        if self._timer is None:
            self._timer = loop.call_at(last.due_at, self._expire)
        return answer

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
            if self._last_of:
                self._close(waiting)
            if not waiting.given_up:
                batch.append(waiting)
        return batch

    def _close(self, waiting: Waiting) -> None:
        """Let nobody share any more: what comes from now on is to be stored later."""
        self._sharing -= len(waiting.others)
        channel_id = waiting.delivery.notification.channel_id
        if channel_id is not None and self._last_of.get(channel_id) is waiting:
            del self._last_of[channel_id]

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
            if waiting.is_settled:
                continue
            if waiting.due_at <= now:
                waiting.settle(Outcome.LATE)
            elif next_at is None or waiting.due_at < next_at:
                next_at = waiting.due_at
        if next_at is not None:
            self._timer = loop.call_at(next_at, self._expire)
