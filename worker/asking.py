"""Ask a booking provider: for single bookings, and in sweeps for what was missed.

One call, or one page, at a time: between two of them deliveries are taken in.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

import asyncpg
import msgspec
import structlog

from providers.bookings import Booking
from providers.errors import Gone, Rejected
from providers.model import Malformed, Provider
from sql import queries
from worker.connections import Account
from worker.handler import Task
from worker.pages import Steps
from worker.telling import Teller

log = structlog.get_logger()

T = TypeVar("T")
LIVE: Final = frozenset({"pending", "accepted"})
# Older than any booking: everything was changed since.
EVER: Final = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
_told_decoder = msgspec.json.Decoder(list[Booking])


class Asker:
    """Asks on behalf of one connection, during one run."""

    def __init__(
        self,
        task: Task,
        connection: asyncpg.Record,
        account: Account,
        pool: asyncpg.Pool,
        teller: Teller,
        steps: Steps,
    ) -> None:
        self._task = task
        self._connection = connection
        self._connection_id = connection["connection_id"]
        self._calendar_id = connection["calendar_id"]
        self._account = account
        self._pool = pool
        self._teller = teller
        self._steps = steps
        self._series_read: set[str] = set()

    async def name_account(self) -> None:
        """Learn what the provider calls the account, where nobody has asked yet."""
        if self._connection["provider_account_id"] is not None:
            return
        told = await self._ask(self._account.bookings.account)
        await queries.bookings.name_account(
            self._pool,
            **self._task.fence,
            connection_id=self._connection_id,
            provider_account_id=told.provider_id,
        )

    async def fetch(self, wanted: asyncpg.Record) -> None:
        """Ask for one booking, and again later where the answer is behind."""
        provider_id = wanted["provider_id"]
        try:
            found = await self._read(provider_id, series=wanted["series"])
            moved, gone = await self._compare_seats(found)
            # That a seat is gone, the last of several answers is believed.
            news = [*moved, *gone] if wanted["is_last"] else moved
            bookings = await self._teller.tell_answers([*found, *news])
            again = bool(gone) or await self._is_behind(provider_id, bookings)
        except Gone:
            again = True  # a delivery may come before its booking can be read
        except Rejected as refused:
            log.warning(
                "booking.not_asked",
                provider=self._connection["provider"],
                connection_id=str(self._connection_id),
                error=str(refused),
            )
            again = False
        await queries.bookings.end_fetch(
            self._pool,
            **self._task.fence,
            connection_id=self._connection_id,
            provider_id=provider_id,
            fetch_at=wanted["fetch_at"],
            again=again,
        )

    async def sweep(self) -> bool:
        """Read a page of a sweep; whether that was its last."""
        sweep = await queries.bookings.begin_sweep(self._pool, **self._of_sweep)
        since: datetime | None = sweep["sweep_since"]
        try:
            page = await self._ask(
                lambda: self._account.bookings.sweep(
                    updated_since=since or EVER,
                    starting_from=sweep["sweep_from"],
                    until=sweep["sweep_to"],
                    page_token=sweep["sweep_page"],
                )
            )
        except Rejected:
            # It may be the token: pages are not kept for ever.
            await self._turn_page(None)
            raise
        found = page.bookings
        if since is None:
            found = [one for one in found if _starts_after(one, sweep["sweep_from"])]
        moved, _ = await self._compare_seats(found)
        await self._teller.tell_answers([*found, *moved], again=since is None)
        if page.next_page_token is None:
            await queries.bookings.end_sweep(self._pool, **self._of_sweep)
        else:
            await self._turn_page(page.next_page_token)
        return page.next_page_token is None

    async def _read(
        self, provider_id: str, *, series: bool
    ) -> list[Booking | Malformed]:
        client = self._account.bookings
        found = await self._ask(lambda: client.get(provider_id))
        named = {
            one.series_id
            for one in found
            if series and isinstance(one, Booking) and one.series_id
        }
        for series_id in sorted(named - self._series_read):
            told = await self._ask(lambda series_id=series_id: client.get(series_id))  # type: ignore[misc]
            # Of the one that was asked for, its own answer tells more.
            found += [one for one in told if not _is_of(one, provider_id)]
        self._series_read |= named
        return found

    async def _is_behind(self, asked_for: str, bookings: list[Booking]) -> bool:
        # Of a series, the others' ids in the calendars are not told with it.
        mine = [one for one in bookings if _is_of(one, asked_for)]
        if any(map(_is_unfinished, mine)):
            return True
        states = [
            {
                "key": one.key,
                "weak_key": one.weak_key,
                "slot_id": one.slot_id,
                "state": one.state,
            }
            for one in bookings
        ]
        behind: bool = await queries.bookings.is_behind(
            self._pool,
            connection_id=self._connection_id,
            fetched=msgspec.json.encode(states).decode(),
        )
        return behind

    async def _compare_seats(
        self, found: list[Booking | Malformed]
    ) -> tuple[list[Booking], list[Booking]]:
        """Return what an answer tells of seats: that they were moved, and are gone."""
        seats = [
            {
                "key": one.key,
                "weak_key": one.weak_key,
                "slot_id": one.slot_id,
                "seat_id": one.seat_id,
            }
            for one in found
            if isinstance(one, Booking) and one.seat_id is not None and _is_live(one)
        ]
        if not seats:
            return [], []
        told = await queries.bookings.compare_seats(
            self._pool,
            connection_id=self._connection_id,
            fetched=msgspec.json.encode(seats).decode(),
        )
        news = _told_decoder.decode(told)
        moved = [one for one in news if one.supersedes is not None]
        return moved, [one for one in news if one.supersedes is None]

    async def _turn_page(self, page: str | None) -> None:
        await queries.bookings.turn_sweep_page(
            self._pool,
            **self._task.fence,
            connection_id=self._connection_id,
            page=page,
        )

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        with self._steps.timed("api"):
            return await self._account.ask(call)

    @property
    def _of_sweep(self) -> dict[str, object]:
        return {
            **self._task.fence,
            "connection_id": self._connection_id,
            "calendar_id": self._calendar_id,
        }


def _is_of(booking: Booking | Malformed, provider_id: str) -> bool:
    return isinstance(booking, Booking) and booking.provider_id == provider_id


def _is_live(booking: Booking) -> bool:
    return booking.state in LIVE and booking.superseded_by is None


def _is_unfinished(booking: Booking) -> bool:
    """Whether more will be known of it soon: a link, or its ids in the calendars."""
    if not _is_live(booking):
        return False
    # Cal.com tells of a booking before it has put it into the host's calendar.
    in_no_calendar = not booking.calendar_references
    return bool(booking.link_pending) or (
        booking.provider is Provider.CALCOM and in_no_calendar
    )


def _starts_after(booking: Booking | Malformed, moment: datetime) -> bool:
    if isinstance(booking, Malformed) or booking.starts_at is None:
        return True
    return booking.starts_at >= moment
