"""A twin that remembers: what it knows outlives the stack, as a provider's would."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from local_stack.twins.memory import Twin, Unreadable

SOON_S = 0.5  # so much a stack that is killed may forget


class TwinFile:
    """Where a twin is kept."""

    def __init__(self, path: Path, twin: Twin) -> None:
        self._path = path
        self._twin = twin
        self._due: asyncio.TimerHandle | None = None

    def load(self, say: Callable[[str], None]) -> None:
        """Teach the twin what it knew when it was last kept, if it ever was."""
        if not self._path.exists():
            return
        try:
            self._twin.load(self._path.read_bytes())
        except Unreadable:
            say(
                f"What the twin of {self._path.stem.title()} knew was kept by another "
                "version of it: it starts with what the demo has."
            )
        # The receiver that it pushed to is gone, and may be on another port now.
        self._twin.forget_receivers()

    def follow(self) -> None:
        """Keep every change from now on, a moment after it happened."""
        loop = asyncio.get_running_loop()

        def on_change() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._soon)

        self._twin.follow(on_change)
        self.keep()

    def keep(self) -> None:
        """Keep it now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._path.parent.mkdir(exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)  # it has tokens
        draft.write_bytes(self._twin.dump())
        draft.replace(self._path)

    def _soon(self) -> None:
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(SOON_S, self.keep)
