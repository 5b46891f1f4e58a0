"""Addresses of those who send the booking itself: Calendly and Cal.com.

A webhook that we made ourselves ends in its channel's id; one made by hand does not,
and is routed by the organizer that its deliveries name.
"""

import asyncio
from typing import Final
from uuid import UUID

from starlette.types import Scope

from providers.errors import CustomTemplate, InvalidNotification, StaleNotification
from providers.model import Notification, Provider
from providers.protocols import BookingReceiver
from runtime.clock import Clock
from runtime.sealing import Keyring
from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.batcher import Batcher
from webhook_api.deliveries import Delivery
from webhook_api.limits import Limits
from webhook_api.outages import PAUSE_S, WORTH_WAITING, Outages
from webhook_api.receive import Endpoint
from webhook_api.refusals import Refusals, Refused

CHANNEL: Final = "channel_id"
# Whoever replays an old delivery again and again asks for one sweep all the same.
SWEEP_EVERY_S: Final = 60


class BookingEndpoint(Endpoint):
    """Takes what carries data, so that losing it costs more than time."""

    def __init__(
        self,
        provider: Provider,
        receiver: BookingReceiver,
        *,
        keyring: Keyring,
        clock: Clock,
        limits: Limits,
        batcher: Batcher,
        refusals: Refusals,
        self_test: Answer,
        patience_s: float = 0.0,
    ) -> None:
        """Wait so long for the database, where the sender never sends again."""
        super().__init__(
            provider,
            receiver,
            keyring=keyring,
            clock=clock,
            limits=limits,
            batcher=batcher,
            refusals=refusals,
            self_test=self_test,
            body_bytes=limits.batch_bytes,
        )
        self._bookings = receiver
        self._patience_s = patience_s
        self._outages = Outages(provider, super()._store, clock)
        self._swept_at: dict[tuple[UUID | None, str | None], float] = {}

    async def _notifications(
        self, scope: Scope, headers: dict[str, str], body: bytes
    ) -> list[Delivery]:
        now = self._clock.now()
        try:
            read = self._bookings.read(
                headers,
                body,
                keyring=self._keyring,
                now=now,
                channel_id=_channel_of(scope),
            )
        except StaleNotification as stale:
            await self._ask_for_a_sweep(stale)
            raise Refused(answers.STALE, stale.reason) from None
        except CustomTemplate as template:
            raise Refused(answers.CUSTOM_TEMPLATE, template.reason) from None
        except InvalidNotification as invalid:
            is_forged = invalid.status == 401
            answer = answers.NOT_VERIFIED if is_forged else answers.MALFORMED
            raise Refused(answer, invalid.reason) from None
        return [Delivery(one, now) for one in read]

    async def _store(self, deliveries: list[Delivery]) -> Answer:
        if not deliveries:
            return answers.VERIFIED  # a test: there is nothing to store
        loop = asyncio.get_running_loop()
        came_at, give_up_at = self._clock.now(), loop.time() + self._patience_s
        while True:
            try:
                return await super()._store(deliveries)
            except Refused as refused:
                if refused.answer not in WORTH_WAITING:
                    raise
                if loop.time() + PAUSE_S > give_up_at:
                    if self._patience_s:
                        self._outages.note(came_at)
                    raise
            await asyncio.sleep(PAUSE_S)

    async def close(self) -> None:
        """Stop what goes on beside requests."""
        await self._outages.close()

    async def _ask_for_a_sweep(self, stale: StaleNotification) -> None:
        """Note that something happened; what exactly, a sweep of the account finds."""
        whose = (stale.channel_id, stale.routing_key)
        now = asyncio.get_running_loop().time()
        if now - self._swept_at.get(whose, -SWEEP_EVERY_S) < SWEEP_EVERY_S:
            return
        if len(self._swept_at) >= self._limits.refused_addresses:
            self._swept_at.clear()
        missed = Notification(
            stale.provider,
            "lifecycle",
            stale.channel_id,
            stale.routing_key,
            {"reason": "missed"},
            None,
        )
        await super()._store([Delivery(missed, self._clock.now())])
        self._swept_at[whose] = now


def _channel_of(scope: Scope) -> UUID | None:
    """Return the channel that ends the path, where one does."""
    text = scope.get("path_params", {}).get(CHANNEL)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise Refused(answers.NOT_FOUND, "not found") from None
