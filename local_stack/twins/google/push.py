"""Push notifications: one POST a channel and change, retried as Google does."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Literal, TypeAlias

import httpx2

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.channels import Channel
from local_stack.twins.outbox import Outbox
from local_stack.twins.passage import Passages
from local_stack.twins.switchboard import Switchboard
from runtime.clock import Clock, SystemClock

Outcome: TypeAlias = Literal["delivered", "retrying", "refused", "lost", "dropped"]

DELIVERED = frozenset({102, 200, 201, 202, 204})
RETRIED = frozenset({500, 502, 503, 504})
LOG_LENGTH = 20_000
USER_AGENT = "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)"


@dataclass(frozen=True)
class Message:
    """One notification, numbered when its change happened."""

    channel: Channel
    number: int
    state: str
    changed_at: datetime

    def headers(self) -> dict[str, str]:
        headers = {
            "User-Agent": USER_AGENT,
            "Content-Type": "application/json; utf-8",
            "X-Goog-Channel-ID": self.channel.id,
            "X-Goog-Channel-Expiration": format_datetime(
                self.channel.expires_at, usegmt=True
            ),
            "X-Goog-Message-Number": str(self.number),
            "X-Goog-Resource-ID": self.channel.resource_id,
            "X-Goog-Resource-State": self.state,
            "X-Goog-Resource-URI": self.channel.resource_uri,
        }
        if self.channel.token is not None:
            headers["X-Goog-Channel-Token"] = self.channel.token
        return headers


@dataclass(frozen=True)
class PushRecord:
    """One attempt to deliver a notification, in real time whatever the twin's clock."""

    channel_id: str
    calendar_id: str
    message_number: int
    state: str
    attempt: int
    changed_at: datetime
    sent_at: datetime
    answered_at: datetime | None
    status: int | None
    outcome: Outcome


class PushSender(Outbox):
    """Sends notifications from the event loop that serves the twin."""

    def __init__(
        self,
        behaviour: Behaviour,
        switchboard: Switchboard,
        wall: Clock | None = None,
    ) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.wall = wall or SystemClock()
        self.log: deque[PushRecord] = deque(maxlen=LOG_LENGTH)
        self.listeners: list[Callable[[PushRecord], None]] = []
        self._passages = Passages(switchboard)

    def message(self, channel: Channel, state: str) -> Message:
        """Make the next message of a channel."""
        return Message(channel, channel.next_number(), state, self.wall.now())

    def post(self, message: Message) -> None:
        """Send a message soon; may be called from any thread."""
        self.start(lambda: self.deliver(message))

    async def deliver(self, message: Message) -> None:
        """Send a message, with whatever the switchboard has in store for it."""
        channel = message.channel
        passage = self._passages.begin(channel.id, channel.calendar_id, channel.email)
        if passage.is_lost:
            self._note(message, 1, self.wall.now(), None, "dropped")
            return
        await passage.delay()
        await passage.be_overtaken()
        for _ in range(passage.times):
            await self._send(message)
        passage.end()

    async def _send(self, message: Message) -> None:
        """Post until it is delivered, refused, or given up.

        Google retries 500, 502, 503 and 504 with exponential back-off, nothing else.
        """
        pause = self.behaviour.retry_first_s
        for attempt in range(1, self.behaviour.retry_limit + 2):
            if not await self._attempt(message, attempt):
                return
            await asyncio.sleep(pause)
            pause *= 2

    async def _attempt(self, message: Message, attempt: int) -> bool:
        """Post once; True asks for another attempt."""
        last = attempt > self.behaviour.retry_limit
        sent_at = self.wall.now()
        status = await self._post(message)
        if status in DELIVERED:
            self._note(message, attempt, sent_at, status, "delivered")
            return False
        again = status in RETRIED or (status is None and self.behaviour.retry_refused)
        outcome: Outcome = "lost" if status is None else "refused"
        if again and not last:
            outcome = "retrying"
        self._note(message, attempt, sent_at, status, outcome)
        return outcome == "retrying"

    async def _post(self, message: Message) -> int | None:
        try:
            answer = await self.http.post(
                message.channel.address,
                headers=message.headers(),
                content=b"",
                timeout=self.behaviour.push_timeout_s,
            )
        except httpx2.HTTPError:
            return None
        return answer.status_code

    def _note(
        self,
        message: Message,
        attempt: int,
        sent_at: datetime,
        status: int | None,
        outcome: Outcome,
    ) -> None:
        record = PushRecord(
            channel_id=message.channel.id,
            calendar_id=message.channel.calendar_id,
            message_number=message.number,
            state=message.state,
            attempt=attempt,
            changed_at=message.changed_at,
            sent_at=sent_at,
            answered_at=None if status is None else self.wall.now(),
            status=status,
            outcome=outcome,
        )
        self.log.append(record)
        for listener in self.listeners:
            listener(record)
