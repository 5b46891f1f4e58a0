"""A twin that remembers: its calendars outlive the stack, as a provider's would."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from local_stack.twins.google import GoogleTwin
from local_stack.twins.google.memory import Unreadable, dump, load
from local_stack.twins.google.state import CalendarState

SOON_S = 0.5  # so much a stack that is killed may forget


class TwinFile:
    """Where a twin is kept."""

    def __init__(self, path: Path, twin: GoogleTwin) -> None:
        self._path = path
        self._twin = twin
        self._due: asyncio.TimerHandle | None = None

    def load(self, say: Callable[[str], None]) -> None:
        """Teach the twin what it knew when it was last kept, if it ever was."""
        if not self._path.exists():
            return
        try:
            load(self._twin, self._path.read_bytes())
        except Unreadable:
            say(
                "The Google twin's calendars were kept by another version of it: it "
                "starts with those of the demo."
            )
        for channel in self._twin.channels.by_id.values():
            # The receiver that it pushed to is gone, and may be on another port now.
            channel.expires_at = self._twin.clock.now()

    def follow(self) -> None:
        """Keep every change from now on, a moment after it happened."""
        loop = asyncio.get_running_loop()
        announce = self._twin.store.on_change

        def on_change(calendar: CalendarState) -> None:
            announce(calendar)
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._soon)

        self._twin.store.on_change = on_change
        self.keep()

    def keep(self) -> None:
        """Keep it now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._path.parent.mkdir(exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)  # it has tokens
        draft.write_bytes(dump(self._twin))
        draft.replace(self._path)

    def _soon(self) -> None:
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(SOON_S, self.keep)
