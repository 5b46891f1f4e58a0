"""The two halves of an adapter: one reads deliveries, the other makes calls."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

from providers.bookings import Booking, BookingAccount, BookingPage, Webhook
from providers.model import (
    CalendarEntry,
    Channel,
    Event,
    Item,
    Malformed,
    Notification,
    Page,
)
from runtime.sealing import Keyring


class Receiver(Protocol):
    """The half of an adapter that reads deliveries. It performs no I/O."""

    def read(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        keyring: Keyring,
        now: datetime,
    ) -> list[Notification]:
        """Verify a delivery, then parse it; header names are lower case.

        Raises:
            InvalidNotification: answer with its status, and store nothing.
        """


@runtime_checkable
class ShakesHands(Protocol):
    """A receiver whose provider asks an address whether it wants its deliveries."""

    def handshake(self, query: str) -> str | None:
        """Return the text to answer such a question with; None for a delivery.

        Whoever asks is answered, before anything is verified.
        """


class BookingReceiver(Protocol):
    """Reads deliveries that carry the booking itself. It performs no I/O."""

    def read(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        keyring: Keyring,
        now: datetime,
        channel_id: UUID | None = None,
    ) -> list[Notification]:
        """Verify a delivery, then parse it; header names are lower case.

        The channel id stands in the path of the webhooks that we made ourselves; one
        made by hand has none, and is routed by the organizer. Nothing comes of a test.

        Raises:
            StaleNotification: refuse it as below, and have its connection swept once.
            CustomTemplate: refuse it as below, and say what to change.
            InvalidNotification: answer with its status, and store nothing.
        """


class Client(Protocol):
    """The half of an adapter that makes calls, for one connection.

    Whatever fails raises a ProviderError, and its type says what to do.
    """

    @property
    def parameters(self) -> str:
        """What a cursor is bound to: stored beside it, a change makes it void."""

    @property
    def looks_through_window(self) -> bool:
        """Whether changes are seen only between `since` and `until` of a first read.

        What leaves the window vanishes like what is deleted, and a series is named
        when anything of it changes, rather than what.
        """

    async def list_changes(
        self,
        calendar_id: str,
        *,
        cursor: str | None,
        since: datetime | None = None,
        until: datetime | None = None,
        page_token: str | None = None,
    ) -> Page:
        """Return a page of what changed since the cursor; None reads everything.

        Without a cursor, what ended before `since` is left out, and where the provider
        can only look through a window, what begins after `until`.

        Series come as themselves, with their exceptions but without occurrences.

        Raises:
            CursorExpired: start again with None.
            Gone: the calendar is no longer readable.
        """

    async def list_window(
        self,
        calendar_id: str,
        *,
        start: datetime,
        end: datetime,
        page_token: str | None = None,
    ) -> Page:
        """Return a page of what lies in the window, soonest first, series expanded.

        No cursor comes of it.
        """

    async def instances(
        self,
        calendar_id: str,
        series_id: str,
        *,
        start: datetime,
        end: datetime,
        page_token: str | None = None,
    ) -> Page:
        """Return a page of a series' occurrences and exceptions in the window."""

    async def get(self, calendar_id: str, event_id: str) -> Item:
        """Read one event; Gone when there is none."""

    def read_event(self, item: Item, *, expanded: bool) -> Event | Malformed:
        """Understand an item; no call is made.

        Expanded says that the item came of list_window or instances.
        """

    async def watch(
        self,
        calendar_id: str,
        *,
        channel_id: UUID,
        token: str,
        address: str,
        ttl_s: int | None = None,
        id_prefix: str = "",
    ) -> Channel:
        """Ask for pushes to the address; the provider decides how long they last.

        The answer bears another channel's id where the provider has that one for this
        calendar, and takes no second: adopt it. The prefix goes before our id where
        the provider goes by that.

        Raises:
            Unwatchable: this calendar has no pushes: poll it.
        """

    async def stop(self, channel_id: UUID | str, resource_id: str) -> None:
        """End a channel; one that is gone already is as good.

        A text is the id that the provider knows it by, as it is.
        """

    async def calendars(self) -> list[CalendarEntry]:
        """List all calendars of the account."""


@runtime_checkable
class RenewsChannels(Protocol):
    """A client whose channels are extended; those of others are made anew."""

    async def renew(
        self, channel_id: UUID, resource_id: str, *, ttl_s: int | None = None
    ) -> Channel:
        """Extend a channel; Gone when it is dead and has to be made anew."""


class BookingClient(Protocol):
    """Makes the calls of a connection whose provider takes bookings.

    Whatever fails raises a ProviderError, and its type says what to do.
    """

    async def account(self) -> BookingAccount:
        """Say whose bookings these are."""

    async def sweep(
        self,
        *,
        updated_since: datetime,
        starting_from: datetime,
        until: datetime,
        page_token: str | None = None,
    ) -> BookingPage:
        """Return a part of what webhooks may have missed.

        Where the provider knows what was changed since, that; else what starts within
        the window, whether it was changed or not.
        """

    async def get(self, provider_id: str) -> list[Booking | Malformed]:
        """Read a booking: several where it has seats, or is a series. Gone: none."""

    async def cancel(
        self, provider_id: str, *, reason: str, seat_id: str | None = None
    ) -> None:
        """Cancel a booking; one that is cancelled already is as good."""

    async def watch(
        self, *, channel_id: UUID, address: str, signing_key: str | None
    ) -> Channel:
        """Have deliveries posted to an address, which is used only once.

        Raises:
            Unwatchable: there are no webhooks for this account: sweep it.
        """

    async def webhooks(self) -> list[Webhook]:
        """List what is registered, and what is wrong with it."""

    async def stop(self, resource_id: str) -> None:
        """End a webhook; one that is gone already is as good."""


@runtime_checkable
class ChangesKeys(Protocol):
    """A client whose webhooks take another signing key; others are made anew."""

    async def rekey(self, resource_id: str, signing_key: str) -> None:
        """Have a webhook signed with another key from now on."""
