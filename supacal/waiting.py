"""Wait for what must come, and say what did not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.005


class TooLate(Exception):
    """Something that had to happen did not, within its time."""


async def until(
    what: str, check: Callable[[], Awaitable[T | None]], *, within_s: float
) -> T:
    """Return the first true answer.

    Raises:
        TooLate: there was none within so many seconds.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        answer = await check()
        if answer:
            return answer
        if time.monotonic() > give_up_at:
            raise TooLate(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(POLL_S)
