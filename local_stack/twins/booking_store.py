"""What the twin of a booking provider knows, and keeps over a restart."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

import msgspec

from local_stack.twins.memory import decoded
from runtime.clock import Clock

Asked = ParamSpec("Asked")
Answered = TypeVar("Answered")
Known = TypeVar("Known", bound=msgspec.Struct)


class BookingStore(Generic[Known]):
    """What is known, and a time that never stands still: each is a tick later."""

    def __init__(self, clock: Clock, known: Known, *, tick: timedelta) -> None:
        self.clock = clock
        self.known = known
        self.on_change: Callable[[], None] = lambda: None
        self._tick = tick
        self._last: datetime | None = None
        self._lock = threading.RLock()

    @contextmanager
    def exclusive(self) -> Iterator[Known]:
        """Keep others out while several things change together."""
        with self._lock:
            yield self.known
        self.on_change()

    def alone(self, work: Callable[Asked, Answered]) -> Callable[Asked, Answered]:
        """Keep others out while some work is done."""

        @wraps(work)
        def alone(*args: Asked.args, **kwargs: Asked.kwargs) -> Answered:
            with self.exclusive():
                return work(*args, **kwargs)

        return alone

    def now(self) -> datetime:
        """Return the time, later than any it told before."""
        now = self.clock.now()
        if self._last is not None and now <= self._last:
            now = self._last + self._tick
        self._last = now
        return now

    def dump(self) -> bytes:
        """Return everything, for `load` after a restart."""
        with self._lock:
            return msgspec.json.encode(self.known)

    def load(self, document: bytes) -> None:
        """Take over what another store knew.

        Raises:
            Unreadable: nothing was taken over.
        """
        known = decoded(document, type(self.known))
        with self.exclusive():
            self.known = known
