"""Change and lifecycle notifications: several items a request, sent until taken.

Graph judges a whole host by its slow answers: slow ones get new items later, very slow
ones lose them, and are told so by `missed`.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Literal, TypeAlias
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from local_stack.twins.microsoft.behaviour import Behaviour
from local_stack.twins.microsoft.errors import ApiError
from local_stack.twins.microsoft.hosts import Hosts
from local_stack.twins.microsoft.ids import etag
from local_stack.twins.microsoft.state import AccountState, Change, ChangeType, Json
from local_stack.twins.microsoft.subscriptions import Subscription
from local_stack.twins.outbox import Outbox
from local_stack.twins.passage import Passages
from local_stack.twins.switchboard import Switchboard
from runtime.clock import Clock, SystemClock

Outcome: TypeAlias = Literal["delivered", "retrying", "lost", "dropped"]

LOG_LENGTH = 20_000
# Spelled now one way, now another: receivers compare without case.
TYPES = ("#Microsoft.Graph.Event", "#microsoft.graph.event")


@dataclass(frozen=True)
class Notice:
    """One item, and where it goes."""

    subscription: Subscription
    address: str
    item: Json
    changed_at: datetime


@dataclass(frozen=True)
class PushRecord:
    """One request that was sent, in real time whatever the twin's clock."""

    address: str
    subscription_ids: tuple[str, ...]
    items: int
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
        account: Callable[[str], AccountState],
        wall: Clock | None = None,
    ) -> None:
        super().__init__()
        self.behaviour = behaviour
        self.wall = wall or SystemClock()
        self.log: deque[PushRecord] = deque(maxlen=LOG_LENGTH)
        self.listeners: list[Callable[[PushRecord], None]] = []
        self.hosts = Hosts(behaviour, self.wall)
        self._account = account
        self._waiting: dict[str, list[Notice]] = {}
        self._passages = Passages(switchboard)

    def tell(self, subscription: Subscription, change: Change) -> None:
        """Tell a subscriber of a change, as often as Outlook would."""
        again: ChangeType = "deleted" if change.kind == "deleted" else "updated"
        repeats = self.behaviour.notifications_per_change - 1
        for kind in (change.kind, *[again] * repeats):
            if kind in subscription.change_types:
                item = self._change_item(subscription, change, kind)
                address = subscription.notification_url
                self.post(Notice(subscription, address, item, self.wall.now()))

    def tell_lifecycle(self, subscription: Subscription, event: str) -> bool:
        """Tell a subscriber about its subscription; False if it never asked to."""
        if subscription.lifecycle_url is None:
            return False
        item = {**self._item(subscription), "lifecycleEvent": event}
        address = subscription.lifecycle_url
        self.post(Notice(subscription, address, item, self.wall.now()))
        return True

    def post(self, notice: Notice) -> None:
        """Send an item soon, with others for the same address; from any thread."""
        self.start(lambda: self._deliver(notice))

    async def validate(self, address: str) -> None:
        """Ask an address whether it wants this.

        Raises:
            ApiError: it did not answer as it must.
        """
        token = f"Validation: Testing client application reachability + {_nonce()}"
        joint = "&" if urlsplit(address).query else "?"
        reason = "did not answer in time"
        try:
            async with asyncio.timeout(self.behaviour.handshake_limit_s):
                answer = await self.http.post(
                    f"{address}{joint}validationToken={quote(token, safe='')}",
                    headers={"Content-Type": "text/plain; charset=utf-8"},
                    content=b"",
                    timeout=self.behaviour.handshake_limit_s,
                )
            kind = answer.headers.get("content-type", "").partition(";")[0].strip()
            if answer.status_code != 200:
                reason = f"answered {answer.status_code}, not 200"
            elif kind != "text/plain":
                reason = "answered with another content type than text/plain"
            elif answer.content != token.encode():
                reason = "did not answer with the validation token"
            else:
                return
        except (httpx2.HTTPError, TimeoutError):
            pass
        raise ApiError(
            400,
            "ValidationError",
            f"Subscription validation request failed. Notification endpoint {reason}.",
        )

    async def _deliver(self, notice: Notice) -> None:
        subscription = notice.subscription
        passage = self._passages.begin(
            subscription.id, subscription.calendar_id or "", subscription.email
        )
        if passage.is_lost or self.hosts.state(notice.address) == "drop":
            self._discard(notice)
            return
        await passage.delay()
        if self.hosts.state(notice.address) == "slow":
            await asyncio.sleep(self.behaviour.slow_delay_s)
        await passage.be_overtaken()
        await self._gather([notice] * passage.times)
        passage.end()

    async def _gather(self, notices: list[Notice]) -> None:
        """Put items to those that wait; the first of them sends all."""
        address = notices[0].address
        if self.behaviour.mix_subscriptions:
            address = address.partition("?")[0]
        waiting = self._waiting.setdefault(address, [])
        is_first = not waiting
        waiting += notices
        if is_first:
            await asyncio.sleep(self.behaviour.batch_s)
            await self._send(self._waiting.pop(address))

    async def _send(self, notices: list[Notice]) -> None:
        pause = self.behaviour.retry_first_s
        for attempt in range(1, self.behaviour.retry_limit + 2):
            if await self._attempt(notices, attempt):
                return
            await asyncio.sleep(pause)
            pause *= 2

    async def _attempt(self, notices: list[Notice], attempt: int) -> bool:
        """Post once; False asks for another attempt."""
        limits = (self.behaviour.answer_limit_s, self.behaviour.retry_limit_s)
        sent_at, began = self.wall.now(), perf_counter()
        status = await self._post(notices, limits[min(attempt - 1, 1)])
        self.hosts.note(notices[0].address, perf_counter() - began)
        delivered = status is not None and 200 <= status < 300
        last = attempt > self.behaviour.retry_limit
        outcome: Outcome = "delivered" if delivered else "lost" if last else "retrying"
        self._note(notices, attempt, sent_at, status, outcome)
        return outcome != "retrying"

    async def _post(self, notices: list[Notice], limit_s: float) -> int | None:
        body = msgspec.json.encode({"value": [notice.item for notice in notices]})
        try:
            async with asyncio.timeout(limit_s):
                answer = await self.http.post(
                    notices[0].address,
                    headers={"Content-Type": "application/json; charset=utf-8"},
                    content=body,
                    timeout=limit_s,
                )
        except (httpx2.HTTPError, TimeoutError):
            return None
        return answer.status_code

    def _discard(self, notice: Notice) -> None:
        self.hosts.of(notice.address).missed.add(notice.subscription.id)
        self._note([notice], 1, self.wall.now(), None, "dropped")

    def _item(self, subscription: Subscription) -> Json:
        return {
            "subscriptionId": subscription.id,
            "subscriptionExpirationDateTime": subscription.expires_at.isoformat(),
            "tenantId": self._account(subscription.email).tenant_id,
            "clientState": subscription.client_state,
        }

    def _change_item(
        self, subscription: Subscription, change: Change, kind: ChangeType
    ) -> Json:
        ids = change.ids
        event_id = ids.immutable if subscription.immutable else ids.mutable
        user = self._account(subscription.email).id
        path = f"Users/{user}/Events/{event_id}"
        return {
            **self._item(subscription),
            "changeType": kind,
            "resource": path,
            "resourceData": {
                "@odata.type": secrets.choice(TYPES),
                "@odata.id": path,
                "@odata.etag": etag(change.number),
                "id": event_id,
            },
        }

    def _note(
        self,
        notices: list[Notice],
        attempt: int,
        sent_at: datetime,
        status: int | None,
        outcome: Outcome,
    ) -> None:
        record = PushRecord(
            address=notices[0].address,
            subscription_ids=tuple({n.subscription.id: None for n in notices}),
            items=len(notices),
            attempt=attempt,
            changed_at=notices[0].changed_at,
            sent_at=sent_at,
            answered_at=None if status is None else self.wall.now(),
            status=status,
            outcome=outcome,
        )
        self.log.append(record)
        for listener in self.listeners:
            listener(record)


def _nonce() -> str:
    return secrets.token_hex(16)
