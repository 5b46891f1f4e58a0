"""What the receiver tells its operator: counts, and a line a delivery."""

from collections import Counter
from collections.abc import Sequence

import structlog

from providers.model import Provider
from webhook_api.batcher import Waiting
from webhook_api.deliveries import Outcome
from webhook_api.metrics import Metrics

log = structlog.get_logger()

# A line costs half as much as a delivery. Flushes grow only when deliveries come
# quicker than anybody reads, so larger ones get a single line with the counts.
LINES_A_FLUSH = 10
# What became of a change that another of its channel was stored for.
COALESCED = "coalesced"


class Journal:
    """Writes down what was flushed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def flushed(
        self, batch: Sequence[Waiting], outcomes: Sequence[Outcome], seconds: float
    ) -> None:
        """Count a flush that took so long, and the deliveries in it, and log them."""
        metrics = self._metrics
        metrics.flush_rows.observe(len(batch))
        metrics.flush_seconds.observe(seconds)
        now = batch[0].answer.get_loop().time()
        for waiting in batch:
            metrics.delivery_seconds.observe(now - waiting.since)
        counts = Counter(
            (waiting.delivery.notification.provider, outcome.value)
            for waiting, outcome in zip(batch, outcomes, strict=True)
        )
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.others:
                said = COALESCED if outcome is Outcome.ACCEPTED else outcome.value
                provider = waiting.delivery.notification.provider
                counts[provider, said] += len(waiting.others)
        for (provider, said), times in counts.items():
            metrics.deliveries.add(provider.value, said, times=times)
        if len(batch) <= LINES_A_FLUSH:
            _log_each(batch, outcomes, now)
        else:
            _log_counts(counts, now - batch[0].since)


def _log_each(
    batch: Sequence[Waiting], outcomes: Sequence[Outcome], now: float
) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        notification = waiting.delivery.notification
        log.info(
            "delivery.received",
            provider=notification.provider.value,
            channel_id=notification.channel_id and str(notification.channel_id),
            kind=notification.kind,
            outcome=outcome.value,
            duration_ms=_milliseconds(now - waiting.since),
            **_sharing(waiting),
        )


def _sharing(waiting: Waiting) -> dict[str, int]:
    return {COALESCED: len(waiting.others)} if waiting.others else {}


def _log_counts(counts: Counter[tuple[Provider, str]], longest_s: float) -> None:
    for (provider, outcome), times in counts.items():
        log.info(
            "deliveries.received",
            provider=provider.value,
            outcome=outcome,
            count=times,
            duration_ms=_milliseconds(longest_s),
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)
