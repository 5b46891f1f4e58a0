"""Channels that say "something changed" more often than anybody could read."""

from uuid import UUID

from webhook_api.limits import Limits


class Crowds:
    """How often each channel has said so in this window, in bounded memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = limits.channel_changes
        self._counts: dict[int, int] = {}
        self._ends_at = 0.0

    def is_crowd(self, channel_id: UUID, now: float) -> bool:
        """Count one change; say whether its channel has had its share."""
        if now >= self._ends_at:
            self._counts = {}
            self._ends_at = now + self._limits.channel_window_s
        counts = self._counts
        key = channel_id.int  # UUIDs are hashed in Python, and this is the hot path
        count = counts.get(key, 0)
        if count >= self._most:
            return True
        # Newcomers beyond that are not counted, and so not limited, for this window.
        if count or len(counts) < self._limits.counted_channels:
            counts[key] = count + 1
        return False
