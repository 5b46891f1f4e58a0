"""Start several things at a time, so that none is forgotten when one of them fails."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*starts: Coroutine[Any, Any, object]) -> None:
    """Run them all; the first failure ends the others, and is raised once they have."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def in_thread(work: Callable[[], T]) -> T:
    """Run it in a thread; being cancelled waits for it, as a thread can't be ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
