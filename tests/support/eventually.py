"""Wait for what is about to be true, without sleeping longer than it takes."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01


async def eventually(
    check: Callable[[], T | Awaitable[T]],
    *,
    within_s: float = 5,
    every_s: float = POLL_S,
) -> T:
    """Return the first true answer of `check`.

    While `check` answers something false, or an assertion in it fails, it is asked
    again; after `within_s` the last answer fails the test.
    """
    give_up_at = time.monotonic() + within_s
    while True:
        failed: AssertionError | None = None
        try:
            answer = check()
            if inspect.isawaitable(answer):
                answer = await answer
            if answer:
                return answer
        except AssertionError as error:
            failed = error
            answer = None
        if time.monotonic() > give_up_at:
            raise failed or AssertionError(
                f"not within {within_s} s: the last answer was {answer!r}"
            )
        await asyncio.sleep(every_s)
