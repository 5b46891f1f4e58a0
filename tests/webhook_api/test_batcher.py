"""Joining what arrives together, with a database that is made to behave as needed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from providers.model import Notification, Provider
from tests.support.eventually import eventually
from webhook_api.batcher import Batcher, TooBusy, Waiting
from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits

Flush = Callable[[list[Delivery]], Awaitable[Sequence[Outcome]]]


def delivery() -> Delivery:
    notification = Notification(Provider.GOOGLE, "change", uuid4(), None, {}, None)
    return Delivery(notification, datetime.now(UTC))


class Database:
    """Stores in memory; holds each flush until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[Delivery]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.up = asyncio.Event()
        self.up.set()

    async def flush(self, batch: list[Delivery]) -> list[Outcome]:
        self.batches.append(batch)
        await self.open.wait()
        return [Outcome.ACCEPTED] * len(batch)

    def batcher(self, flush: Flush | None = None, **limits: float) -> Batcher:
        return Batcher(
            flush or self.flush,
            limits=replace(Limits(), **limits),  # type: ignore[arg-type]
            ready=self.up.wait,
            flushed=lambda *_: None,
        )


@pytest.fixture
async def database() -> Database:
    return Database()


async def test_one_delivery_is_flushed_at_once(database: Database) -> None:
    batcher = database.batcher()
    assert await batcher.submit(delivery()) is Outcome.ACCEPTED
    assert [len(batch) for batch in database.batches] == [1]


async def test_what_comes_during_a_flush_goes_together_in_the_next(
    database: Database,
) -> None:
    batcher = database.batcher()
    database.open.clear()
    first = batcher.submit(delivery())
    await eventually(lambda: database.batches)
    others = [batcher.submit(delivery()) for _ in range(20)]
    assert len(batcher) == 20
    database.open.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in database.batches] == [1, 20]


@pytest.mark.parametrize("senders", [1, 2, 8])
async def test_a_slow_release_strands_nobody(database: Database, senders: int) -> None:
    """The trap: an await between "nothing waits" and "no flusher runs"."""

    async def slow_to_leave(batch: list[Delivery]) -> list[Outcome]:
        outcomes = await database.flush(batch)
        for _ in range(5):
            await asyncio.sleep(0)
        return outcomes

    batcher = database.batcher(slow_to_leave, answer_s=30)

    async def sender(turns: int) -> None:
        for turn in range(50):
            for _ in range((turns + turn) % 7):
                await asyncio.sleep(0)
            assert await batcher.submit(delivery()) is Outcome.ACCEPTED

    await asyncio.wait_for(asyncio.gather(*(sender(n) for n in range(senders))), 10)
    assert sum(map(len, database.batches)) == 50 * senders


async def test_a_delivery_that_comes_as_the_last_is_told_is_not_stranded() -> None:
    """The last outcome is set, and in the same step somebody new arrives."""
    database = Database()
    batcher = database.batcher(answer_s=30)
    second: list[asyncio.Future[Outcome]] = []
    first = batcher.submit(delivery())
    first.add_done_callback(lambda _: second.append(batcher.submit(delivery())))
    await first
    await eventually(lambda: second)
    assert await asyncio.wait_for(second[0], 5) is Outcome.ACCEPTED


async def test_a_batch_has_a_largest_size(database: Database) -> None:
    batcher = database.batcher(flush_rows=10)
    await asyncio.gather(*(batcher.submit(delivery()) for _ in range(25)))
    assert [len(batch) for batch in database.batches] == [10, 10, 5]


async def test_a_full_queue_takes_no_more(database: Database) -> None:
    batcher = database.batcher(waiting_rows=3)
    database.up.clear()
    waiting = [batcher.submit(delivery()) for _ in range(3)]
    with pytest.raises(TooBusy):
        batcher.submit(delivery())
    database.up.set()
    assert set(await asyncio.gather(*waiting)) == {Outcome.ACCEPTED}
    assert await batcher.submit(delivery()) is Outcome.ACCEPTED


async def test_who_waits_too_long_is_told_and_not_stored_later(
    database: Database,
) -> None:
    batcher = database.batcher(answer_s=0.05)
    database.up.clear()
    assert await batcher.submit(delivery()) is Outcome.LATE
    database.up.set()
    in_time = delivery()
    assert await batcher.submit(in_time) is Outcome.ACCEPTED
    assert database.batches == [[in_time]]


async def test_each_has_its_own_deadline_and_one_in_a_slow_flush_too(
    database: Database,
) -> None:
    batcher = database.batcher(answer_s=0.1)
    database.open.clear()
    flushing = batcher.submit(delivery())
    await eventually(lambda: database.batches)
    assert await flushing is Outcome.LATE
    queued = batcher.submit(delivery())
    assert not queued.done()
    database.open.set()
    assert await queued is Outcome.ACCEPTED


async def test_a_sender_that_leaves_does_not_take_its_delivery_along(
    database: Database,
) -> None:
    batcher = database.batcher()
    left = delivery()
    batcher.submit(left).cancel()
    await batcher.submit(delivery())
    assert left in database.batches[0]


async def test_a_flush_that_breaks_fails_its_batch_and_not_the_next() -> None:
    database = Database()
    broken = iter([True])

    async def flush(batch: list[Delivery]) -> list[Outcome]:
        if next(broken, False):
            raise ZeroDivisionError
        return await database.flush(batch)

    batcher = database.batcher(flush)
    assert await batcher.submit(delivery()) is Outcome.UNAVAILABLE
    assert await batcher.submit(delivery()) is Outcome.ACCEPTED


async def test_draining_stores_what_waits(database: Database) -> None:
    batcher = database.batcher()
    waiting = [batcher.submit(delivery()) for _ in range(5)]
    await batcher.drain(5)
    assert {one.result() for one in waiting} == {Outcome.ACCEPTED}


async def test_draining_ends_even_when_the_database_does_not_come_back(
    database: Database,
) -> None:
    batcher = database.batcher()
    database.open.clear()
    flushing = batcher.submit(delivery())
    await eventually(lambda: database.batches)
    queued = batcher.submit(delivery())
    await batcher.drain(0.01)
    assert flushing.result() is queued.result() is Outcome.UNAVAILABLE


async def test_everything_flushed_is_reported_with_its_outcome() -> None:
    told: list[tuple[list[Waiting], Sequence[Outcome], float]] = []
    database = Database()
    batcher = Batcher(
        database.flush,
        limits=Limits(),
        ready=database.up.wait,
        flushed=lambda *flushed: told.append(flushed),
    )
    await asyncio.gather(*(batcher.submit(delivery()) for _ in range(3)))
    ((batch, outcomes, seconds),) = told
    assert (len(batch), list(outcomes)) == (3, [Outcome.ACCEPTED] * 3)
    assert seconds >= 0
