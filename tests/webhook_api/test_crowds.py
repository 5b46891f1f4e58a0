"""Channels that say "something changed" too often, and what they are promised."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import httpx2
import pytest
from structlog.testing import capture_logs

from providers.model import Notification, NotificationKind, Provider
from tests.support.eventually import eventually
from tests.support.sessions import Connection
from tests.webhook_api.channels import PATH, Channel, error_of
from tests.webhook_api.faults import KILL, STUCK, Connect, stuck
from tests.webhook_api.test_batcher import Database
from webhook_api.app import Receiver
from webhook_api.batcher import TooBusy
from webhook_api.crowds import Crowds
from webhook_api.deliveries import Delivery, Outcome
from webhook_api.limits import Limits

ONE, TWO = UUID(int=1), UUID(int=2)
NUMBERS = "select headers from sync.webhook_deliveries order by id"
PULLS = "select count(*) from sync.tasks where kind = 'pull'"


def delivery(
    number: int = 0, kind: NotificationKind = "change", channel_id: UUID | None = ONE
) -> Delivery:
    headers = {"message_number": str(number)}
    notification = Notification(Provider.GOOGLE, kind, channel_id, None, headers, None)
    return Delivery(notification, datetime.now(UTC))


@pytest.fixture
async def database_in_memory() -> Database:
    return Database()


class TestCounting:
    def test_a_channel_has_its_share_in_each_window(self) -> None:
        crowds = Crowds(Limits(channel_changes=2, channel_window_s=60))
        said = [crowds.is_crowd(ONE, now) for now in (100, 110, 120, 159)]
        assert said == [False, False, True, True]
        assert not crowds.is_crowd(ONE, 160)

    def test_another_channel_costs_it_nothing(self) -> None:
        crowds = Crowds(Limits(channel_changes=1))
        assert not crowds.is_crowd(ONE, 0)
        assert not crowds.is_crowd(TWO, 0)
        assert crowds.is_crowd(ONE, 0)

    def test_memory_is_bounded_and_newcomers_are_not_limited(self) -> None:
        crowds = Crowds(Limits(channel_changes=1, counted_channels=10))
        for number in range(100):
            assert not crowds.is_crowd(UUID(int=number), 0)
        assert len(crowds._counts) == 10
        assert crowds.is_crowd(UUID(int=3), 0)
        assert not crowds.is_crowd(UUID(int=50), 0)


class TestSharing:
    """One change of a channel in a window; of more, one a flush."""

    @pytest.fixture
    def database(self, database_in_memory: Database) -> Database:
        return database_in_memory

    async def test_what_waits_together_is_stored_once_and_it_is_the_last(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=1)
        database.up.clear()
        answers = [batcher.submit(delivery(number)) for number in range(10)]
        assert len(batcher) == 10
        database.up.set()
        assert await asyncio.gather(*answers) == [Outcome.ACCEPTED] * 10
        (batch,) = database.batches
        numbers = [one.notification.headers["message_number"] for one in batch]
        assert numbers == ["0", "9"]
        assert len(batcher) == 0
        assert not batcher._last_of

    async def test_what_comes_during_a_flush_is_not_answered_with_it(
        self, database: Database
    ) -> None:
        async def flush(batch: list[Delivery]) -> list[Outcome]:
            outcomes = await database.flush(batch)
            database.open.clear()
            return outcomes

        batcher = database.batcher(flush, channel_changes=0)
        database.open.clear()
        under_way = [batcher.submit(delivery(number)) for number in (0, 1)]
        await eventually(lambda: database.batches)
        later = [batcher.submit(delivery(number)) for number in (2, 3)]
        database.open.set()
        assert await asyncio.gather(*under_way) == [Outcome.ACCEPTED] * 2
        assert not any(one.done() for one in later)
        database.open.set()
        assert await asyncio.gather(*later) == [Outcome.ACCEPTED] * 2
        assert [len(batch) for batch in database.batches] == [1, 1]

    async def test_of_two_channels_neither_is_stored_for_the_other(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=1)
        database.up.clear()
        answers = [
            batcher.submit(delivery(channel_id=channel_id))
            for channel_id in (ONE, TWO) * 5
        ]
        database.up.set()
        await asyncio.gather(*answers)
        (batch,) = database.batches
        stored = Counter(one.notification.channel_id for one in batch)
        assert stored == {ONE: 2, TWO: 2}

    @pytest.mark.parametrize("kind", ["hello", "lifecycle", "booking"])
    async def test_what_tells_more_than_that_something_changed_is_each_stored(
        self, database: Database, kind: NotificationKind
    ) -> None:
        batcher = database.batcher(channel_changes=1)
        database.up.clear()
        answers = [batcher.submit(delivery(kind=kind)) for _ in range(10)]
        database.up.set()
        await asyncio.gather(*answers)
        assert [len(batch) for batch in database.batches] == [10]

    async def test_what_names_no_channel_is_each_stored(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=1)
        database.up.clear()
        answers = [batcher.submit(delivery(channel_id=None)) for _ in range(10)]
        database.up.set()
        await asyncio.gather(*answers)
        assert [len(batch) for batch in database.batches] == [10]

    async def test_a_sender_that_leaves_takes_nobody_along(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=0)
        database.up.clear()
        first, second, third = (batcher.submit(delivery(n)) for n in range(3))
        first.cancel()
        second.cancel()
        database.up.set()
        assert await third is Outcome.ACCEPTED
        assert [len(batch) for batch in database.batches] == [1]

    async def test_all_are_told_when_the_time_of_the_first_is_up(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=0, answer_s=0.05)
        database.up.clear()
        left, *stayed = (batcher.submit(delivery(n)) for n in range(3))
        left.cancel()
        assert await asyncio.gather(*stayed) == [Outcome.LATE] * 2

        in_time = batcher.submit(delivery(3))
        assert not in_time.done()
        database.up.set()
        assert await in_time is Outcome.ACCEPTED
        assert len(batcher) == 0
        assert not batcher._last_of

    async def test_who_comes_after_all_others_left_is_told_in_time(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=0, answer_s=0.1)
        database.up.clear()
        left = batcher.submit(delivery())
        left.cancel()
        batcher._expire()  # nobody is left to be told anything
        assert await asyncio.wait_for(batcher.submit(delivery()), 5) is Outcome.LATE

    async def test_those_who_share_fill_the_queue_as_well(
        self, database: Database
    ) -> None:
        batcher = database.batcher(channel_changes=0, waiting_rows=3)
        database.up.clear()
        waiting = [batcher.submit(delivery()) for _ in range(3)]
        with pytest.raises(TooBusy):
            batcher.submit(delivery())
        database.up.set()
        await asyncio.gather(*waiting)
        assert await batcher.submit(delivery()) is Outcome.ACCEPTED

    async def test_draining_tells_those_who_share(self, database: Database) -> None:
        batcher = database.batcher(channel_changes=0)
        database.up.clear()
        waiting = [batcher.submit(delivery()) for _ in range(3)]
        await batcher.drain(0.01)
        assert {one.result() for one in waiting} == {Outcome.UNAVAILABLE}


class TestReceiving:
    """On a real database: three changes a minute."""

    @pytest.fixture
    def limits(self) -> Limits:
        return replace(Limits(), channel_changes=3)

    async def test_above_its_share_a_channel_is_coalesced_and_answered_200(
        self,
        client: httpx2.AsyncClient,
        channel: Channel,
        app: Receiver,
        database: Connection,
        connect: Connect,
        admin: Connection,
    ) -> None:
        def send(number: int) -> asyncio.Task[httpx2.Response]:
            headers = channel.headers(number=number)
            return asyncio.create_task(client.post(PATH, headers=headers))

        async with stuck(connect):
            sent = [send(0)]
            await eventually(lambda: admin.fetchval(STUCK))
            sent += [send(number) for number in range(1, 20)]
            await eventually(lambda: len(app.batcher) == 19)
        responses = await asyncio.gather(*sent)

        assert {one.status_code for one in responses} == {200}
        assert all(one.json() == {"status": "accepted"} for one in responses)
        rows = await database.fetch(NUMBERS)
        numbers = [json.loads(row["headers"])["message_number"] for row in rows]
        assert numbers == ["0", "1", "2", "19"]
        assert await database.fetchval(PULLS) == 1
        assert app.metrics.deliveries.value("google", "accepted") == 4
        assert app.metrics.deliveries.value("google", "coalesced") == 16

    async def test_those_who_share_with_one_that_is_not_stored_get_its_503(
        self,
        client: httpx2.AsyncClient,
        channel: Channel,
        app: Receiver,
        database: Connection,
        connect: Connect,
        admin: Connection,
    ) -> None:
        for number in range(3):
            await client.post(PATH, headers=channel.headers(number=number))
        async with stuck(connect):
            sent = [
                asyncio.create_task(client.post(PATH, headers=channel.headers()))
                for _ in range(10)
            ]
            await eventually(lambda: admin.fetchval(STUCK))
            await admin.execute(KILL)
            responses = await asyncio.gather(*sent)

        assert {error_of(one) for one in responses} == {"database_unavailable"}
        assert {one.status_code for one in responses} == {503}
        assert len(await database.fetch(NUMBERS)) == 3
        assert app.metrics.deliveries.value("google", "coalesced") == 0
        assert app.metrics.deliveries.value("google", "unavailable") == 10

        again = await client.post(PATH, headers=channel.headers())
        assert again.status_code == 200
        assert len(await database.fetch(NUMBERS)) == 4

    async def test_the_line_of_the_one_stored_says_for_how_many(
        self, app: Receiver, channel: Channel
    ) -> None:
        with capture_logs() as logs:
            await asyncio.gather(
                *(app.batcher.submit(delivery(channel_id=channel.id)) for _ in range(8))
            )
        assert [line.get("coalesced") for line in logs] == [None] * 3 + [4]
