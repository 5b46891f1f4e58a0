"""A booking as one delivery, or one answer, tells it: Calendly's and Cal.com's alike.

Nothing orders their deliveries, and some are partial. So a Booking is no state but what
one message adds to it; a state is joined from all of them, in whatever order and
number they come, key by key:

* state      the highest: pending, accepted, rejected, cancelled. None tells none; a
             booking that was moved tells "accepted", for that is no cancellation
* no-show    the mark of the attendee's address with the latest `at`; one without an
             address means whoever booked. One of a whole slot names no seat: it means
             those that were told of by then, and not moved there since
* phase      the highest: started, ended
* the rest   a field that is None is not told, and absent from the JSON. Of those who
             tell it the highest `version` of a `source` is right; between a delivery
             and a fetch, the fetch if its `as_of` is not the earlier one
* the chain  a key that another one supersedes, or that names who supersedes it, is
             past, even where nothing was told of the one between: the meeting goes on
             as the key that nothing known supersedes. What bears one `seat_id` is one
             chain, too. Seats may be moved back: a key on a way that leads back to it
             is past only if it was left later than it was come to, by the `as_of` of
             links. Nor is a seat past of which a delivery told a state after it was
             left: somebody sits there again. Of several that are not past: the one
             whose least `sequence` is the highest, where all tell one and have one
             `ical_uid`; then the seat that somebody came to last, or that a delivery
             told of last; a fetch says so only where neither does; then one that is
             not cancelled or rejected; then the one come to last; then the greatest.
             Whatever it does not tell, but for a cancellation, it has from the key
             that it supersedes, of several from the one come to last
* the slot   what speaks for a whole slot counts for each of its seats, but for its
             links; while none is known, for nobody if it tells its `slot_id`, else
             for its own key

`weak_key` stands in where a seat was told without its id: it means the first seat that
was told with the same weak key, and itself where there is none. As the end of a link it
means each of them: nothing says which of their seats somebody was moved from.
"""

from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

from providers.model import Malformed, Provider

Source: TypeAlias = Literal["delivery", "fetch"]
BookingState: TypeAlias = Literal["pending", "accepted", "rejected", "cancelled"]
Phase: TypeAlias = Literal["started", "ended"]
CancelledBy: TypeAlias = Literal["host", "invitee"]


class _Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a booking is made of."""


class NoShow(_Part, frozen=True):
    """Somebody was marked as not having come, or the mark was taken back."""

    email: str | None
    marked: bool
    at: datetime


class Cancellation(_Part, frozen=True):
    """Why, and by whom, as far as it is told."""

    reason: str | None = None
    by: str | None = None
    by_whom: CancelledBy | None = None


class Answer(_Part, frozen=True):
    """What was asked on the booking page, and answered."""

    question: str
    answer: str
    slug: str | None = None


class CalendarReference(_Part, frozen=True):
    """The id of the same thing in the host's own calendar."""

    kind: str
    external_id: str
    calendar_id: str | None = None


class Seats(_Part, frozen=True):
    """How many fit into the slot, and how many are in it."""

    limit: int | None = None
    active: int | None = None


class Booking(_Part, frozen=True, kw_only=True):
    """What one message tells of one booking.

    key            what its state is kept by: Calendly's invitee URI, Cal.com's uid, or
                   `uid#seat` where several share a booking
    provider_id    what the provider's API knows it by
    slot_id        what several invitees share: an event's URI, a seated booking's uid
    whole_slot     it speaks for every seat of the slot
    moved          it ended because it was moved, not because anybody cancelled
    ask            one message for much: ask the provider for the booking, or its series
    link_pending   there will be a link to meet at; it is announced to nobody
    recurs         it is one of a series, whether or not that is named
    """

    provider: Provider
    key: str
    provider_id: str
    source: Source
    trigger: str | None = None
    version: str = ""
    as_of: datetime | None = None

    weak_key: str | None = None
    slot_id: str | None = None
    seat_id: str | None = None
    whole_slot: bool = False
    supersedes: str | None = None
    superseded_by: str | None = None
    moved: bool = False
    ask: Literal["booking", "series"] | None = None

    state: BookingState | None = None
    phase: Phase | None = None
    no_shows: list[NoShow] = []

    title: str | None = None
    description: str | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    location: str | None = None
    meeting_url: str | None = None
    link_pending: bool | None = None
    attendee_name: str | None = None
    attendee_email: str | None = None
    attendee_phone: str | None = None
    attendee_time_zone: str | None = None
    guests: list[str] | None = None
    organizer_email: str | None = None
    organizer_id: str | None = None
    answers: list[Answer] | None = None
    tracking: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    cancellation: Cancellation | None = None
    calendar_references: list[CalendarReference] | None = None
    ical_uid: str | None = None
    sequence: int | None = None
    seats: Seats | None = None
    series_id: str | None = None
    series_position: int | None = None
    recurs: bool | None = None

    raw: msgspec.Raw = msgspec.Raw(b"{}")

    def told(self) -> dict[str, object]:
        """Return the fields that this message carries."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in values.items() if value is not None}


FIELDS: Final = Booking.__struct_fields__[
    Booking.__struct_fields__.index("title") : Booking.__struct_fields__.index("raw")
]


class BookingPage(msgspec.Struct, frozen=True):
    """A part of a sweep."""

    bookings: list[Booking | Malformed]
    next_page_token: str | None


class BookingAccount(msgspec.Struct, frozen=True):
    """Whose bookings they are; the routing keys are what deliveries name it by."""

    provider_id: str
    email: str
    name: str
    time_zone: str | None
    organization_id: str | None

    def __repr__(self) -> str:
        return f"BookingAccount(provider_id={self.provider_id!r}, …)"


class Webhook(msgspec.Struct, frozen=True):
    """A registered webhook, as its provider lists it; a problem says what to mend."""

    resource_id: str
    address: str
    active: bool
    problem: str | None = None
