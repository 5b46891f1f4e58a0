"""What every receiver promises, whoever the provider is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID, uuid4

import pytest

from providers.errors import InvalidNotification
from providers.model import Notification
from providers.protocols import BookingReceiver, Receiver
from runtime.sealing import Keyring

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
OLDER, NEWER = Keyring.generate("old"), Keyring.generate("new")
KEYRING = Keyring.parse(OLDER)
NO_MESSAGES = (b"\xff\xfe", b"[" * 100_000, b"null", b"", b"{", b"[]", b"7", b"{}")


@dataclass(frozen=True)
class Request:
    """What a provider posts."""

    headers: Mapping[str, str]
    body: bytes


class ReceiverPromises(ABC):
    """Subclass it: whose deliveries these are, and what proves them."""

    receiver: ClassVar[Receiver | BookingReceiver]
    # What proves itself and is no message. 401: its proof stands in the message.
    nonsense_is = 400

    @abstractmethod
    def sign(self, channel_id: UUID, keyring: Keyring) -> Request:
        """Make a genuine delivery on a channel."""

    @abstractmethod
    def nonsense(self, channel_id: UUID, keyring: Keyring) -> list[Request]:
        """Make what is proven as well as that can be, and is no message."""

    def read(
        self, request: Request, channel_id: UUID, keyring: Keyring = KEYRING
    ) -> list[Notification]:
        """Read it, as posted to the channel's address."""
        return self.receiver.read(
            request.headers, request.body, keyring=keyring, now=NOW
        )

    def refused(self, request: Request, channel_id: UUID) -> InvalidNotification:
        with pytest.raises(InvalidNotification) as refused:
            self.read(request, channel_id)
        return refused.value

    def test_a_genuine_delivery_is_of_its_channel(self) -> None:
        channel = uuid4()

        (notification,) = self.read(self.sign(channel, KEYRING), channel)

        assert notification.channel_id == channel
        assert notification.routing_key is None

    def test_it_is_genuine_as_long_as_its_key_is_on_the_ring(self) -> None:
        channel = uuid4()
        request = self.sign(channel, KEYRING)

        assert self.read(request, channel, Keyring.parse(f"{NEWER},{OLDER}"))
        with pytest.raises(InvalidNotification):
            self.read(request, channel, Keyring.parse(NEWER))

    def test_a_delivery_signed_with_another_key_is_refused(self) -> None:
        channel = uuid4()
        forged = self.sign(channel, Keyring.parse(NEWER))

        assert self.refused(forged, channel).status == 401

    def test_a_delivery_without_any_proof_is_refused(self) -> None:
        channel = uuid4()
        genuine = self.sign(channel, KEYRING)

        assert self.refused(Request({}, b"{}"), channel).status == 401
        if genuine.headers:
            bare = Request({}, genuine.body)
            assert self.refused(bare, channel).status == 401

    def test_what_is_no_message_is_refused(self) -> None:
        channel = uuid4()
        requests = self.nonsense(channel, KEYRING)

        assert requests
        for request in requests:
            assert self.refused(request, channel).status == self.nonsense_is, request

    def test_its_secrets_stand_nowhere_in_what_it_reads(self) -> None:
        channel = uuid4()
        request = self.sign(channel, KEYRING)
        secrets = [KEYRING.channel_token(channel), *KEYRING.signing_keys(channel)]

        told = str(self.read(request, channel))

        assert not any(secret in told for secret in secrets)


class BookingReceiverPromises(ReceiverPromises):
    """What more is promised where the body is signed, and its channel in the path."""

    receiver: ClassVar[BookingReceiver]

    @abstractmethod
    def sign(
        self, channel_id: UUID, keyring: Keyring, body: bytes | None = None
    ) -> Request:
        """Make a genuine delivery on a channel, of a booking or of another body."""

    def nonsense(self, channel_id: UUID, keyring: Keyring) -> list[Request]:
        return [self.sign(channel_id, keyring, body) for body in NO_MESSAGES]

    def read(
        self, request: Request, channel_id: UUID, keyring: Keyring = KEYRING
    ) -> list[Notification]:
        return self.receiver.read(
            request.headers,
            request.body,
            keyring=keyring,
            now=NOW,
            channel_id=channel_id,
        )

    def test_a_body_that_was_touched_is_refused(self) -> None:
        channel = uuid4()
        genuine = self.sign(channel, KEYRING)
        touched = Request(genuine.headers, genuine.body + b" ")

        assert self.refused(touched, channel).status == 401

    @pytest.mark.parametrize("body", NO_MESSAGES, ids=lambda body: repr(body[:4]))
    def test_nothing_is_read_before_it_is_verified(self, body: bytes) -> None:
        channel = uuid4()
        genuine = self.sign(channel, KEYRING)

        assert self.refused(Request(genuine.headers, body), channel).status == 401
