"""Calendly's webhooks: who is told what, how it is signed, and what failing costs."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from local_stack.twins.calendly.behaviour import Behaviour
from local_stack.twins.calendly.bodies import EventBodies, invitee_body, moment
from local_stack.twins.calendly.state import Event, Invitee, Store, Subscription
from local_stack.twins.outbox import Outbox
from local_stack.twins.passage import Passages
from local_stack.twins.posts import Post, Poster
from local_stack.twins.switchboard import Switchboard


class Webhooks:
    """Posts what happens to every subscription that asked for it."""

    def __init__(
        self,
        store: Store,
        behaviour: Behaviour,
        outbox: Outbox,
        switchboard: Switchboard,
    ) -> None:
        self._store = store
        self._behaviour = behaviour
        self.bodies = EventBodies(store, behaviour)
        # One key for the whole app: support hands it out, the API does not.
        self.app_key = "the-twin's-one-key-for-the-app"
        self.poster = Poster(outbox, Passages(switchboard), self._again)

    def tell(self, name: str, invitee: Invitee, *, after_s: float = 0.0) -> None:
        """Post one event of an invitee, as everything is at this moment."""
        event = self._store.known.events[invitee.event_id]
        host = self._store.user(event.host)
        payload = invitee_body(invitee)
        payload["scheduled_event"] = self.bodies.in_webhook(event)
        for subscription in self._store.known.subscriptions.values():
            mine = subscription.user in {None, host.uri}
            same = subscription.organization == host.organization
            if mine and same and subscription.is_active and name in subscription.events:
                post = self._post(name, subscription, payload, (host.email, event.id))
                self.poster.post(post, after_s=after_s)

    def _post(
        self,
        name: str,
        subscription: Subscription,
        payload: dict[str, Any],
        subjects: tuple[str, ...],
        first_at: int | None = None,
    ) -> Post:
        first_at = first_at or int(self._store.clock.now().timestamp())
        body = msgspec.json.encode(
            {
                "event": name,
                "created_at": moment(self._store.now()),
                "created_by": subscription.creator,
                "payload": payload,
            }
        )

        def anew() -> Post:
            return self._post(name, subscription, payload, subjects, first_at)

        return Post(
            subscription.id,
            subscription.url,
            name,
            body,
            self._signer(subscription, body, first_at),
            subjects,
            anew if self._behaviour.dates_each_attempt else None,
        )

    def _signer(
        self, subscription: Subscription, body: bytes, first_at: int
    ) -> Callable[[int], Mapping[str, str]]:
        def headers(_: int) -> Mapping[str, str]:
            now = int(self._store.clock.now().timestamp())
            at = first_at if self._behaviour.repeat_signature_time else now
            plain = {"Content-Type": "application/json", "User-Agent": "Calendly"}
            key = self.app_key if subscription.by_app else subscription.signing_key
            if key is None:
                return plain
            return plain | {"Calendly-Webhook-Signature": signature(key, at, body)}

        return headers

    def _again(self, post: Post, attempt: int, status: int | None) -> float | None:
        """Retry what was not answered 2xx, for a day; then the subscription ends."""
        subscription = self._store.known.subscriptions.get(post.webhook_id)
        if subscription is None:
            return None
        if status is not None and 200 <= status < 300:
            subscription.retry_started_at = None
            return None
        now = self._store.clock.now()
        started_at = subscription.retry_started_at or now
        subscription.retry_started_at = started_at
        longest = timedelta(seconds=self._behaviour.disable_after_s)
        if now - started_at >= longest:
            subscription.is_active = False
        if not subscription.is_active:
            return None
        pause_s: float = self._behaviour.retry_first_s * 2 ** (attempt - 1)
        return min(self._behaviour.retry_most_s, pause_s)


def signature(key: str, at: int, body: bytes) -> str:
    """Sign as Calendly does: over the time, a dot and the body."""
    signed = str(at).encode() + b"." + body
    v1 = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={at},v1={v1}"


def is_over(store: Store, event: Event) -> bool:
    """Tell whether an event has begun, after which it cannot be canceled."""
    return event.starts_at <= store.clock.now()
