"""What was refused and is never sent again: its span is told as soon as that can be."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import structlog

from providers.model import Notification, Provider
from runtime.clock import Clock
from webhook_api import answers
from webhook_api.answers import Answer
from webhook_api.deliveries import Delivery
from webhook_api.refusals import Refused

log = structlog.get_logger()

# It may be stored when it is tried again.
WORTH_WAITING: Final = frozenset({
    answers.DATABASE_UNAVAILABLE, answers.TOO_SLOW, answers.TOO_BUSY
})  # fmt: skip
PAUSE_S: Final = 0.25


class Outages:
    """Notes since when deliveries are refused, and stores that when all is well again.

    One row of kind lifecycle, which names neither channel nor account: it is
    everybody's of that provider. Their sweeps then begin before the span.
    """

    def __init__(
        self,
        provider: Provider,
        store: Callable[[list[Delivery]], Awaitable[Answer]],
        clock: Clock,
    ) -> None:
        self._provider = provider
        self._store = store
        self._clock = clock
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._telling: asyncio.Task[None] | None = None

    def note(self, since: datetime) -> None:
        """A delivery that came then was refused just now."""
        self._since = min(self._since or since, since)
        self._until = self._clock.now()
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def close(self) -> None:
        """Give up; where the span is not told, the log has it."""
        if self._telling is not None:
            self._telling.cancel()
            with suppress(asyncio.CancelledError):
                await self._telling
        if self._since is not None:
            self._log("outage.untold", self._since, self._until)

    async def _tell(self) -> None:
        try:
            while self._since is not None and self._until is not None:
                since, until = self._since, self._until
                if await self._told(since, until) and self._until == until:
                    self._since = self._until = None
        finally:
            self._telling = None

    async def _told(self, since: datetime, until: datetime) -> bool:
        headers = {
            "reason": "outage",
            "from": since.isoformat(),
            "until": until.isoformat(),
        }
        outage = Notification(self._provider, "lifecycle", None, None, headers, None)
        try:
            await self._store([Delivery(outage, self._clock.now())])
        except Refused as refused:
            if refused.answer not in WORTH_WAITING:
                self._log("outage.untold", since, until)
                return True
            await asyncio.sleep(PAUSE_S)
            return False
        self._log("outage.told", since, until)
        return True

    def _log(self, event: str, since: datetime, until: datetime | None) -> None:
        log.warning(event, provider=self._provider.value, since=since, until=until)
