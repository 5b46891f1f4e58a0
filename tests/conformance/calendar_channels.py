"""What every client promises of channels, whoever the calendars' provider is."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID, uuid4

import httpx2
import pytest

from providers import errors
from providers.model import Channel, Notification
from providers.protocols import Receiver, RenewsChannels, ShakesHands
from runtime.sealing import Keyring
from tests.conformance.calendar_clients import At, AtTwin
from tests.support.eventually import eventually

KEYRING = Keyring.parse(Keyring.generate())
AN_HOUR = timedelta(hours=1)
HOOKS = "https://hooks.test"


async def watch(at: At, hooks: str, channel_id: UUID | None = None) -> Channel:
    """Have the calendar watched, by a channel that was never there."""
    channel_id = channel_id or uuid4()
    return await at.client.watch(
        at.hand.calendar_id,
        channel_id=channel_id,
        token=KEYRING.channel_token(channel_id),
        address=hooks,
    )


class ChannelPromises:
    """Subclass it, and have fixtures `at` and `hooks`, an address that answers."""

    # Extended; or else made anew, beside the one that ends.
    renews: ClassVar[bool]

    async def test_a_channel_is_known_by_our_id_and_has_an_end(
        self, at: At, hooks: str
    ) -> None:
        channel_id = uuid4()

        channel = await watch(at, hooks, channel_id)
        await at.client.stop(channel.channel_id, channel.resource_id)

        assert channel.channel_id == channel_id
        assert channel.resource_id
        assert channel.expires_at is not None
        assert channel.expires_at > datetime.now(UTC) + AN_HOUR

    async def test_it_lives_on_by_being_extended_or_by_a_second_beside_it(
        self, at: At, hooks: str
    ) -> None:
        first = await watch(at, hooks)
        client = at.client
        assert isinstance(client, RenewsChannels) is self.renews

        if isinstance(client, RenewsChannels):
            second = await client.renew(first.channel_id, first.resource_id)
            assert second.channel_id == first.channel_id
        else:
            second = await watch(at, hooks)
            assert second.channel_id != first.channel_id

        for one in {first.channel_id: first, second.channel_id: second}.values():
            await client.stop(one.channel_id, one.resource_id)
        assert first.expires_at is not None
        assert second.expires_at is not None
        assert second.expires_at >= first.expires_at

    async def test_a_channel_that_was_stopped_is_stopped(
        self, at: At, hooks: str
    ) -> None:
        channel = await watch(at, hooks)
        client = at.client

        await client.stop(channel.channel_id, channel.resource_id)
        await client.stop(channel.channel_id, channel.resource_id)

        if isinstance(client, RenewsChannels):
            with pytest.raises(errors.Gone):
                await client.renew(channel.channel_id, channel.resource_id)


class Hooks:
    """Where a twin pushes to: answers it, and reads as the receiver does."""

    def __init__(self, receiver: Receiver) -> None:
        self.told: list[Notification] = []
        self._receiver = receiver

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if isinstance(self._receiver, ShakesHands):
            asked = self._receiver.handshake(request.url.query.decode())
            if asked is not None:
                return httpx2.Response(200, text=asked)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told += self._receiver.read(
            headers, request.content, keyring=KEYRING, now=datetime.now(UTC)
        )
        return httpx2.Response(202)

    def of(self, channel: Channel) -> list[Notification]:
        """What was told of a channel, but for its hello."""
        return [
            one
            for one in self.told
            if one.channel_id == channel.channel_id and one.kind == "change"
        ]


class PushPromises(ChannelPromises):
    """What more is promised where pushes reach us: on a twin."""

    receiver: ClassVar[Receiver]

    @pytest.fixture
    def reached(self, at: AtTwin) -> Hooks:
        hooks = Hooks(self.receiver)
        at.twin.deliver_to(HOOKS, httpx2.MockTransport(hooks))
        return hooks

    @pytest.fixture
    def hooks(self, reached: Hooks) -> str:
        return f"{HOOKS}/webhooks"

    async def test_a_channel_tells_of_changes_until_it_is_stopped(
        self, at: AtTwin, hooks: str, reached: Hooks
    ) -> None:
        channel = await watch(at, hooks)
        made = await at.hand.add("Check-up", at.start)
        await eventually(lambda: reached.of(channel))
        assert {one.headers["resource_id"] for one in reached.of(channel)} == {
            channel.resource_id
        }

        await at.client.stop(channel.channel_id, channel.resource_id)
        await at.twin.outbox.drain()
        told = len(reached.told)
        await at.hand.rename(made, "Later")
        await at.twin.outbox.drain()

        assert len(reached.told) == told

    async def test_a_channel_whose_creation_was_not_answered_can_be_had(
        self, at: AtTwin, hooks: str, reached: Hooks
    ) -> None:
        at.twin.switchboard.cut(self.creates)
        with pytest.raises(errors.Unavailable):
            await watch(at, hooks)

        channel = await watch(at, hooks)

        await at.hand.add("Check-up", at.start)
        await eventually(lambda: reached.of(channel))

    # What the twin calls it to make a channel.
    creates: ClassVar[str]
