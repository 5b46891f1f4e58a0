"""What every client of a booking provider promises, whoever the provider is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import pytest

from local_stack.twins.booking_twin import BookingTwin
from providers import errors
from providers.bookings import Booking
from providers.model import Malformed
from providers.protocols import BookingClient
from tests.support.booking_join import Joined, join

DAY = timedelta(days=1)
NOT_A_TOKEN = "not-a-token"
HOOKS = "https://hooks.test"


class Booked(Protocol):
    """A booking in the hands of who made it, or of its host."""

    def cancel(self) -> None: ...

    def reschedule(self, start: datetime) -> "Booked": ...

    def did_not_come(self) -> None: ...

    def came_after_all(self) -> None: ...


class Book(Protocol):
    """Has somebody take a time."""

    def __call__(self, start: datetime, *, email: str) -> Booked: ...


@dataclass(kw_only=True)
class Account:
    """An account at a provider, and what reads its bookings."""

    client_with: Callable[[str], BookingClient]
    token: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def client(self) -> BookingClient:
        return self.client_with(self.token)

    async def swept(self) -> list[Booking]:
        """Read what webhooks may have missed, every page of it."""
        found: list[Booking | Malformed] = []
        token: str | None = None
        while True:
            page = await self.client.sweep(
                updated_since=self.now - 60 * DAY,
                starting_from=self.now,
                until=self.now + 60 * DAY,
                page_token=token,
            )
            found += page.bookings
            token = page.next_page_token
            if token is None:
                read = [one for one in found if isinstance(one, Booking)]
                assert len(read) == len(found)
                return read

    async def some(self) -> list[Booking]:
        """Read a few bookings, of which there have to be any."""
        found = await self.swept()
        assert found, (
            "This account has no bookings that could be read: have somebody book "
            "a time within the next 60 days."
        )
        return found[:3]


@dataclass(kw_only=True)
class Booker(Account):
    """An account of its own at a twin, and clients who book there."""

    twin: BookingTwin[Any, Any]
    email: str
    book: Book
    book_seat: Book

    @property
    def start(self) -> datetime:
        """Nine o'clock, a week from now."""
        at = self.now + 7 * DAY
        return at.replace(hour=9, minute=0, second=0, microsecond=0)

    async def meetings(self) -> list[Joined]:
        """What a sweep finds, added up."""
        return join(await self.swept())


class ReadingPromises:
    """What can be held against a real account too: nothing is written.

    Subclass it, and have a fixture `account` with something booked.
    """

    async def test_the_account_says_whose_bookings_these_are(
        self, account: Account
    ) -> None:
        found = await account.client.account()

        assert found.provider_id
        assert "@" in found.email
        assert found.email not in repr(found)

    async def test_every_booking_of_a_sweep_can_be_read_by_its_id(
        self, account: Account
    ) -> None:
        for booking in await account.some():
            found = await account.client.get(booking.provider_id)
            assert booking.key in {one.key for one in found if isinstance(one, Booking)}

    async def test_what_is_not_there_is_gone(self, account: Account) -> None:
        known = (await account.some())[0].provider_id
        # Both may stand in any id, hexadecimal or not.
        unknown = known[:-6] + ("111111" if not known.endswith("111111") else "222222")

        with pytest.raises(errors.Gone):
            await account.client.get(unknown)

    async def test_a_token_that_is_not_taken_is_said_to_be(
        self, account: Account
    ) -> None:
        stranger = account.client_with(NOT_A_TOKEN)

        with pytest.raises((errors.AccessExpired, errors.AccessLost)) as refused:
            await stranger.account()

        assert NOT_A_TOKEN not in str(refused.value)


class WebhookPromises:
    """What is written to an account, and taken back.

    Subclass it, and have fixtures `account` and `hooks`, an address to post to.
    """

    async def test_a_webhook_is_made_listed_and_ended(
        self, account: Account, hooks: str
    ) -> None:
        client, channel_id = account.client, uuid4()
        address = f"{hooks}/{channel_id}"

        channel = await client.watch(
            channel_id=channel_id, address=address, signing_key="k" * 43
        )
        try:
            listed = [one for one in await client.webhooks() if one.address == address]
        finally:
            await client.stop(channel.resource_id)
        await client.stop(channel.resource_id)

        assert channel.channel_id == channel_id
        assert channel.expires_at is None
        (webhook,) = listed
        assert webhook.resource_id == channel.resource_id
        assert (webhook.active, webhook.problem) == (True, None)
        assert address not in {one.address for one in await client.webhooks()}


class BookingClientPromises(ReadingPromises, WebhookPromises):
    """Subclass it, and have a fixture `at`."""

    @pytest.fixture
    def account(self, at: Booker) -> Account:
        at.book(at.start, email="carol@example.net")
        return at

    @pytest.fixture
    def hooks(self) -> str:
        return HOOKS

    async def test_an_account_without_bookings_is_said_to_have_none(
        self, at: Booker
    ) -> None:
        with pytest.raises(AssertionError, match="have somebody book"):
            await at.some()

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

    async def test_a_move_is_the_same_booking_at_another_time(self, at: Booker) -> None:
        booked = at.book(at.start, email="carol@example.net")
        (before,) = await at.swept()
        booked.reschedule(at.start + DAY).reschedule(at.start + 2 * DAY)

        (moved,) = await at.meetings()

        assert moved.starts_at == at.start + 2 * DAY
        assert moved.state == "accepted"
        assert before.key in moved.keys
        assert before.key != moved.current

    async def test_who_did_not_come_is_said_so_until_that_is_taken_back(
        self, at: Booker
    ) -> None:
        booked = at.book(at.start, email="carol@example.net")
        booked.did_not_come()
        (absent,) = await at.meetings()
        booked.came_after_all()
        (present,) = await at.meetings()

        assert (absent.state, absent.no_show) == ("accepted", True)
        assert (present.state, present.no_show) == ("accepted", False)

    async def test_each_seat_of_a_time_is_a_booking_of_its_own(
        self, at: Booker
    ) -> None:
        guests = {"carol@example.net", "dan@example.net"}
        for guest in sorted(guests):
            at.book_seat(at.start, email=guest)

        found = await at.meetings()

        assert {one.attendee_email for one in found} == guests
        assert len({one.slot_id for one in found}) == 1
        assert {one.slot_id for one in found}.isdisjoint({one.current for one in found})
        assert {one.starts_at for one in found} == {at.start}

    async def test_one_seat_that_is_given_up_leaves_the_others(
        self, at: Booker
    ) -> None:
        carol = at.book_seat(at.start, email="carol@example.net")
        at.book_seat(at.start, email="dan@example.net")
        carol.cancel()

        found = await at.meetings()

        alive = [one.attendee_email for one in found if one.state != "cancelled"]
        assert alive == ["dan@example.net"]

    async def test_one_seat_that_moves_leaves_the_others_where_they_are(
        self, at: Booker
    ) -> None:
        carol = at.book_seat(at.start, email="carol@example.net")
        at.book_seat(at.start, email="dan@example.net")
        carol.reschedule(at.start + DAY)

        found = await at.meetings()

        alive = {
            one.attendee_email: one.starts_at
            for one in found
            if one.state != "cancelled"
        }
        assert alive == {
            "carol@example.net": at.start + DAY,
            "dan@example.net": at.start,
        }

    async def test_over_quota_says_how_long_to_wait(self, at: Booker) -> None:
        at.twin.switchboard.answer("*", 429, retry_after_s=17)

        with pytest.raises(errors.RateLimited) as limited:
            await at.client.account()

        assert limited.value.retry_after_s == 17

    async def test_a_call_that_is_cut_is_unavailable_and_tells_no_token(
        self, at: Booker
    ) -> None:
        at.twin.switchboard.cut("*")

        with pytest.raises(errors.Unavailable) as cut:
            await at.client.account()

        assert at.token not in str(cut.value)

    async def test_a_webhook_whose_answer_was_lost_is_found_again(
        self, at: Booker
    ) -> None:
        async def watch() -> str:
            channel = await at.client.watch(
                channel_id=channel_id,
                address=f"{HOOKS}/{channel_id}",
                signing_key="k" * 43,
            )
            return channel.resource_id

        channel_id = uuid4()
        at.twin.switchboard.cut("webhook*.create")
        with pytest.raises(errors.Unavailable):
            await watch()

        made = await watch()

        (listed,) = await at.client.webhooks()
        assert listed.resource_id == made
