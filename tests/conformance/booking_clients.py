"""What every client of a booking provider promises, whoever the provider is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import uuid4

import pytest

from providers import errors
from providers.bookings import Booking
from providers.model import Malformed
from providers.protocols import BookingClient

DAY = timedelta(days=1)


class Booked(Protocol):
    """A booking in the hands of who made it."""

    def cancel(self) -> None: ...


class Book(Protocol):
    """Has somebody take a time."""

    def __call__(self, start: datetime, *, email: str) -> Booked: ...


@dataclass
class Booker:
    """An account of its own at a provider: a client, and clients who book there."""

    client: BookingClient
    client_with: Callable[[str], BookingClient]
    email: str
    book: Book
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def start(self) -> datetime:
        """Nine o'clock, a week from now."""
        at = self.now + 7 * DAY
        return at.replace(hour=9, minute=0, second=0, microsecond=0)

    async def swept(self) -> list[Booking]:
        return await sweep(self.client, self.now)


async def sweep(client: BookingClient, now: datetime) -> list[Booking]:
    """Read what webhooks may have missed, every page of it."""
    found: list[Booking | Malformed] = []
    token: str | None = None
    while True:
        page = await client.sweep(
            updated_since=now - DAY,
            starting_from=now,
            until=now + 60 * DAY,
            page_token=token,
        )
        found += page.bookings
        token = page.next_page_token
        if token is None:
            read = [one for one in found if isinstance(one, Booking)]
            assert len(read) == len(found)
            return read


class ReadingPromises:
    """What can be held against a real account too: nothing is written.

    Subclass it, and have a fixture `client`.
    """

    async def test_the_account_says_whose_bookings_these_are(
        self, client: BookingClient
    ) -> None:
        account = await client.account()

        assert account.provider_id
        assert "@" in account.email
        assert account.email not in repr(account)

    async def test_every_booking_of_a_sweep_can_be_read_by_its_id(
        self, client: BookingClient
    ) -> None:
        for booking in (await sweep(client, datetime.now(UTC)))[:3]:
            found = await client.get(booking.provider_id)
            assert booking.key in {one.key for one in found if isinstance(one, Booking)}


class BookingClientPromises:
    """Subclass it, and have a fixture `at`."""

    async def test_a_sweep_finds_all_that_is_booked(self, at: Booker) -> None:
        guests = [f"guest{n}@example.net" for n in range(120)]
        for n, guest in enumerate(guests):
            at.book(at.start + n * timedelta(hours=1), email=guest)

        found = await at.swept()

        assert {one.attendee_email for one in found} == set(guests)
        assert {one.source for one in found} == {"fetch"}
        assert {one.state for one in found} == {"accepted"}

    async def test_a_booking_is_read_by_its_id(self, at: Booker) -> None:
        at.book(at.start, email="carol@example.net")
        (swept,) = await at.swept()

        (read,) = await at.client.get(swept.provider_id)

        assert isinstance(read, Booking)
        assert read.key == swept.key
        assert read.attendee_email == "carol@example.net"
        assert read.starts_at == at.start
        assert read.ends_at is not None
        assert read.ends_at > at.start

    async def test_a_cancelled_booking_says_so(self, at: Booker) -> None:
        booked = at.book(at.start, email="carol@example.net")
        (swept,) = await at.swept()
        booked.cancel()

        (read,) = await at.client.get(swept.provider_id)

        assert isinstance(read, Booking)
        assert read.state == "cancelled"

    async def test_cancelling_twice_is_as_good_as_once(self, at: Booker) -> None:
        at.book(at.start, email="carol@example.net")
        (swept,) = await at.swept()

        await at.client.cancel(swept.provider_id, reason="ill")
        await at.client.cancel(swept.provider_id, reason="ill")

        (read,) = await at.client.get(swept.provider_id)
        assert isinstance(read, Booking)
        assert read.state == "cancelled"

    async def test_what_is_not_there_is_gone(self, at: Booker) -> None:
        at.book(at.start, email="carol@example.net")
        (swept,) = await at.swept()
        known = swept.provider_id
        unknown = known[:-6] + ("zzzzzz" if not known.endswith("zzzzzz") else "yyyyyy")

        with pytest.raises(errors.Gone):
            await at.client.get(unknown)

    async def test_a_webhook_is_made_listed_and_ended(self, at: Booker) -> None:
        channel_id = uuid4()
        address = f"https://hooks.test/webhooks/{channel_id}"

        channel = await at.client.watch(
            channel_id=channel_id, address=address, signing_key="k" * 43
        )
        (listed,) = await at.client.webhooks()
        await at.client.stop(channel.resource_id)
        await at.client.stop(channel.resource_id)

        assert channel.channel_id == channel_id
        assert channel.expires_at is None
        assert (listed.address, listed.active) == (address, True)
        assert listed.problem is None
        assert await at.client.webhooks() == []

    async def test_a_token_that_is_not_taken_is_said_to_be(self, at: Booker) -> None:
        stranger = at.client_with("not-a-token")

        with pytest.raises((errors.AccessExpired, errors.AccessLost)) as refused:
            await stranger.account()

        assert "not-a-token" not in str(refused.value)
