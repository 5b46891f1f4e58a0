"""A clock that runs like another one, and can be moved while it runs."""

from datetime import datetime, timedelta

from runtime.clock import Clock


class MovableClock:
    """Another clock plus an offset that somebody may change at any time."""

    def __init__(self, base: Clock) -> None:
        self._base = base
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return self._base.now() + self._offset

    def advance(self, by: timedelta) -> None:
        self._offset += by

    def set(self, to: datetime) -> None:
        if to.utcoffset() is None:
            raise ValueError("a clock is set to an aware time: give it a time zone")
        self._offset = to - self._base.now()
