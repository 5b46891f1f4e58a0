"""Waiting for something, but not for ever."""

import asyncio
import math


async def happens(event: asyncio.Event, within_s: float) -> bool:
    """Whether the event is set within so many seconds; infinity waits for it."""
    try:
        async with asyncio.timeout(None if within_s == math.inf else within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
