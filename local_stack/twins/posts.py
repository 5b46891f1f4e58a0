"""Webhooks that carry a body: posted, retried as the provider does, written down."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

import httpx2

from local_stack.twins.outbox import Outbox
from local_stack.twins.passage import Passages
from runtime.clock import Clock, SystemClock

Outcome: TypeAlias = Literal["delivered", "retrying", "given_up", "dropped"]
LOG_LENGTH = 20_000


@dataclass(frozen=True)
class Post:
    """One webhook's message. `headers` makes those of an attempt, the first being 1.

    `anew` makes what a retry sends in its place.
    """

    webhook_id: str
    address: str
    event: str
    body: bytes
    headers: Callable[[int], Mapping[str, str]]
    subjects: tuple[str, ...] = ()
    anew: "Callable[[], Post] | None" = None


@dataclass(frozen=True)
class PostRecord:
    """One attempt to deliver, in real time whatever the twin's clock says."""

    webhook_id: str
    event: str
    attempt: int
    sent_at: datetime
    status: int | None
    outcome: Outcome
    body: str


@dataclass
class Poster:
    """Posts from the event loop that serves the twin.

    `again` is asked after each failure, and after each success with its status: it
    returns the pause before the next attempt, or None to let it be.
    """

    outbox: Outbox
    passages: Passages
    again: Callable[[Post, int, int | None], float | None]
    timeout_s: float = 15.0
    wall: Clock = field(default_factory=SystemClock)
    log: deque[PostRecord] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    listeners: list[Callable[[PostRecord], None]] = field(default_factory=list)

    def post(self, post: Post, *, after_s: float = 0.0) -> None:
        """Send a message soon; may be called from any thread."""
        if after_s > 0:
            self.outbox.start(lambda: self._later(post, after_s))
        else:
            self.outbox.start(lambda: self._deliver(post))

    async def _later(self, post: Post, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._deliver(post)

    async def _deliver(self, post: Post) -> None:
        passage = self.passages.begin(post.webhook_id, post.event, *post.subjects)
        if passage.is_lost:
            self._note(post, 1, self.wall.now(), None, "dropped")
            return
        await passage.delay()
        await passage.be_overtaken()
        for _ in range(passage.times):
            await self._send(post)
        passage.end()

    async def _send(self, post: Post) -> None:
        attempt = 1
        while True:
            sent_at = self.wall.now()
            status = await self._attempt(post, attempt)
            pause_s = self.again(post, attempt, status)
            is_good = status is not None and 200 <= status < 300
            outcome: Outcome = "delivered" if is_good else "given_up"
            if pause_s is not None:
                outcome = "retrying"
            self._note(post, attempt, sent_at, status, outcome)
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)
            attempt += 1
            post = post if post.anew is None else post.anew()

    async def _attempt(self, post: Post, attempt: int) -> int | None:
        try:
            answer = await self.outbox.http.post(
                post.address,
                content=post.body,
                headers=dict(post.headers(attempt)),
                timeout=self.timeout_s,
            )
        except httpx2.HTTPError:
            return None
        return answer.status_code

    def _note(
        self,
        post: Post,
        attempt: int,
        sent_at: datetime,
        status: int | None,
        outcome: Outcome,
    ) -> None:
        record = PostRecord(
            post.webhook_id,
            post.event,
            attempt,
            sent_at,
            status,
            outcome,
            post.body.decode(errors="replace"),
        )
        self.log.append(record)
        for listener in self.listeners:
            listener(record)
