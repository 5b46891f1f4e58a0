"""Our words for what providers say: plain data, in our units.

Times are aware, a date without a time is a date, and None means "not told".
"""

from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, Self, TypeAlias
from uuid import UUID

import msgspec

NotificationKind: TypeAlias = Literal["hello", "change", "lifecycle", "booking"]
Role: TypeAlias = Literal["single", "series", "occurrence", "exception"]
Status: TypeAlias = Literal["confirmed", "tentative", "cancelled"]
Response: TypeAlias = Literal["accepted", "declined", "tentative", "needsAction"]
Visibility: TypeAlias = Literal["default", "public", "private", "confidential"]


class Provider(StrEnum):
    """Who holds the calendars."""

    GOOGLE = "google"
    MICROSOFT = "microsoft"
    CALENDLY = "calendly"
    CALCOM = "calcom"


class Notification(msgspec.Struct, frozen=True):
    """One thing a delivery says: mostly *that* something changed, not what.

    Exactly one of channel_id and routing_key says whose it is; neither, where it is
    everybody's: an outage of our own. The headers are only
    those that matter, in lower-case short names; the body is JSON text.
    """

    provider: Provider
    kind: NotificationKind
    channel_id: UUID | None
    routing_key: str | None
    headers: dict[str, str]
    body: str | None


class Item(msgspec.Struct, frozen=True):
    """An event as the provider sent it, not yet understood.

    Equal hashes mean that mapping it again would give what we have. The id is empty
    where the provider sent none; reading the event then says so.
    """

    provider_event_id: str
    content_hash: bytes
    raw: msgspec.Raw


class Page(msgspec.Struct, frozen=True):
    """One answer of a list: the cursor comes on the last page only.

    What vanished is gone, or only out of the window: those of them that are known are
    to be read by id, and a series that is still there is to be expanded again. So is a
    touched one, whether it came itself or not.
    """

    items: list[Item]
    next_page_token: str | None
    cursor: str | None
    time_zone: str | None
    vanished: list[str] = []
    touched_series: list[str] = []


class Attendee(msgspec.Struct, frozen=True):
    """Somebody invited, as this calendar sees them."""

    email: str | None
    name: str | None
    response: Response | None
    organizer: bool
    optional: bool
    resource: bool
    is_self: bool = msgspec.field(name="self")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event in the form that ``sync.apply_events`` takes, key by key.

    A bare tombstone has an id, a cancelled status and no role. is_organizer and
    attendees are None where the provider left them out: keep what is known.
    """

    provider_event_id: str
    role: Role | None
    status: Status
    ical_uid: str | None
    etag: str | None
    sequence: int | None
    title: str | None
    description: str | None
    location: str | None
    starts_at: datetime | None
    ends_at: datetime | None
    all_day: bool
    start_date: date | None
    end_date: date | None
    time_zone: str | None
    organizer_email: str | None
    is_organizer: bool | None
    own_response: Response | None
    attendees: list[Attendee] | None
    conference_url: str | None
    series_provider_id: str | None
    original_start: datetime | None
    original_start_date: date | None
    visibility: Visibility
    event_type: str
    provider_updated_at: datetime | None
    content_hash: str
    raw: msgspec.Raw

    @classmethod
    def vanished(cls, provider_event_id: str) -> Self:
        """Return the bare tombstone of what the provider has no more."""
        told: dict[str, Any] = dict.fromkeys(cls.__struct_fields__)
        told |= {"provider_event_id": provider_event_id, "status": "cancelled"}
        told |= {"visibility": "default", "event_type": "default", "all_day": False}
        told |= {"content_hash": "", "raw": msgspec.Raw(b"{}")}
        return cls(**told)


class Malformed(msgspec.Struct, frozen=True):
    """An item that cannot be read, and why; the reason quotes nothing of it.

    What is raw here is always JSON that Postgres can keep.
    """

    provider_event_id: str | None
    reason: str
    raw: msgspec.Raw


class Channel(msgspec.Struct, frozen=True):
    """A live subscription; one without an end has no expires_at."""

    channel_id: UUID
    resource_id: str
    expires_at: datetime | None


class CalendarEntry(msgspec.Struct, frozen=True):
    """One calendar of an account, as its list of calendars shows it."""

    provider_calendar_id: str
    name: str
    time_zone: str | None
    primary: bool
    access_role: str


class Tokens(msgspec.Struct, frozen=True):
    """What a token endpoint answered; repr shows none of it."""

    access_token: str
    refresh_token: str | None
    expires_in_s: int
    scope: str | None

    def __repr__(self) -> str:
        return f"Tokens(expires_in_s={self.expires_in_s}, …)"


class StoredTokens(msgspec.Struct, frozen=True):
    """What is sealed for a connection, so that all programs seal and open alike."""

    access_token: str
    refresh_token: str | None
    expires_at: datetime
    scope: str | None

    def __repr__(self) -> str:
        return f"StoredTokens(expires_at={self.expires_at.isoformat()}, …)"

    @classmethod
    def from_json(cls, plaintext: bytes) -> Self:
        return msgspec.json.decode(plaintext, type=cls)

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)

    def renewed(self, tokens: Tokens, *, now: datetime) -> "StoredTokens":
        """Take over a refresh; where no new refresh token came, ours lives on."""
        return StoredTokens(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token or self.refresh_token,
            expires_at=now + timedelta(seconds=tokens.expires_in_s),
            scope=tokens.scope or self.scope,
        )
