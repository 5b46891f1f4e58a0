"""Waiting for what nobody tells of."""

import asyncio
from collections.abc import Awaitable, Callable

LOOK_EVERY_S = 0.01


async def until(happened: Callable[[], Awaitable[object]], *, within_s: float) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it never was.
    """
    async with asyncio.timeout(within_s):
        while not await happened():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
