"""Watch channels: who may make one, how long it lives, when it falls silent."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote, urlsplit

from local_stack.twins.google.behaviour import Behaviour
from local_stack.twins.google.errors import ApiError, invalid, not_found, required
from local_stack.twins.google.oauth import Grant
from local_stack.twins.google.state import CalendarState, Json
from runtime.clock import Clock

CHANNEL_ID = re.compile(r"^[A-Za-z0-9\-_+/=]{1,64}$")
LONGEST_TOKEN = 256
DEFAULT_LIFE_S = 604_800
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
WIDEST_GAP = 40
ROOT = "https://www.googleapis.com/calendar/v3"


@dataclass(eq=False)
class Channel:
    """One live subscription of one user to one calendar."""

    id: str
    resource_id: str
    resource_uri: str
    calendar_id: str
    address: str
    token: str | None
    email: str
    client_id: str
    expires_at: datetime
    stopped_at: datetime | None = None
    last_number: int = 0

    def next_number(self) -> int:
        """Return a message number: 1 first, then growing with gaps."""
        first = self.last_number == 0
        self.last_number += 1 if first else 1 + secrets.randbelow(WIDEST_GAP)
        return self.last_number

    def answer(self) -> Json:
        """Return the channel as the watch call answers it."""
        milliseconds = int(self.expires_at.timestamp() * 1000)
        answer = {
            "kind": "api#channel",
            "id": self.id,
            "resourceId": self.resource_id,
            "resourceUri": self.resource_uri,
            "expiration": str(milliseconds),
        }
        return answer if self.token is None else {**answer, "token": self.token}


@dataclass
class Channels:
    """Every channel of the project, and every id that was ever used for one."""

    clock: Clock
    behaviour: Behaviour
    used_ids: set[str] = field(default_factory=set)
    by_id: dict[str, Channel] = field(default_factory=dict)
    _by_calendar: dict[str, list[Channel]] = field(default_factory=dict)

    def watch(
        self, calendar: CalendarState, asked_as: str, grant: Grant, body: Json
    ) -> Channel:
        """Open a channel.

        Raises:
            ApiError: what Google would not take.
        """
        self._check(calendar, body)
        channel_id = body["id"]
        if channel_id in self.used_ids:
            raise ApiError(
                400, "channelIdNotUnique", f"Channel id {channel_id} not unique"
            )
        channel = Channel(
            id=channel_id,
            resource_id=_resource_id(grant.email, calendar.id),
            resource_uri=f"{ROOT}/calendars/{quote(asked_as, safe='')}/events?alt=json",
            calendar_id=calendar.id,
            address=body["address"],
            token=body.get("token"),
            email=grant.email,
            client_id=grant.client_id,
            expires_at=self._expiry(body),
        )
        self.add(channel)
        return channel

    def add(self, channel: Channel) -> None:
        """Note a channel, and its id as used for ever."""
        self.used_ids.add(channel.id)
        self.by_id[channel.id] = channel
        self._by_calendar.setdefault(channel.calendar_id, []).append(channel)

    def stop(self, grant: Grant, body: Json) -> None:
        """Stop a channel; it may go on sending for a moment."""
        channel = self.by_id.get(str(body.get("id")))
        if (
            channel is None
            or not self.is_live(channel)
            or channel.resource_id != body.get("resourceId")
        ):
            raise not_found()
        if (channel.email, channel.client_id) != (grant.email, grant.client_id):
            raise ApiError(403, "forbidden", "Forbidden")
        if channel.stopped_at is None:
            channel.stopped_at = self.clock.now()

    def is_live(self, channel: Channel) -> bool:
        """Tell whether a channel still sends."""
        now = self.clock.now()
        if now >= channel.expires_at:
            return False
        linger = timedelta(seconds=self.behaviour.linger_after_stop_s)
        return channel.stopped_at is None or now < channel.stopped_at + linger

    def of(self, calendar: CalendarState) -> list[Channel]:
        """Return the channels that a change of a calendar is announced on."""
        live = [c for c in self._by_calendar.get(calendar.id, ()) if self.is_live(c)]
        self._by_calendar[calendar.id] = live
        return [c for c in live if calendar.role_of(c.email) != "none"]

    def _check(self, calendar: CalendarState, body: Json) -> None:
        if not body.get("id"):
            raise required("Required")
        if not isinstance(body["id"], str) or not CHANNEL_ID.match(body["id"]):
            raise invalid("Invalid channel id", "id")
        if body.get("type") not in {"web_hook", "webhook"}:
            raise ApiError(
                400,
                "push.channelTypeNotSupported",
                f"Channel type {body.get('type')} not supported",
            )
        self._check_address(body.get("address"))
        if len(body.get("token") or "") > LONGEST_TOKEN:
            raise invalid("Channel token is too long", "token")
        if calendar.generated:
            raise ApiError(
                400,
                "pushNotSupportedForRequestedResource",
                "Push notifications are not supported by this resource.",
                domain="calendar",
            )

    def _check_address(self, address: object) -> None:
        if not isinstance(address, str) or not address:
            raise required("Required")
        parts = urlsplit(address)
        local = self.behaviour.loopback_http and parts.hostname in LOOPBACK
        if parts.scheme != "https" and not (parts.scheme == "http" and local):
            raise ApiError(
                400,
                "push.webhookUrlNotHttps",
                f"WebHook callback must be HTTPS: {address}",
            )

    def _expiry(self, body: Json) -> datetime:
        """Return when a channel ends: the stricter of what is asked and allowed."""
        now = self.clock.now()
        ttl = (body.get("params") or {}).get("ttl")
        seconds = [float(self.behaviour.longest_channel_s)]
        try:
            if ttl is not None:
                seconds.append(int(ttl))
            if body.get("expiration") is not None:
                asked = int(body["expiration"]) / 1000
                seconds.append(asked - now.timestamp())
        except (TypeError, ValueError) as problem:
            raise invalid(f"Invalid ttl value for channel {ttl}") from problem
        if ttl is None and body.get("expiration") is None:
            seconds.append(DEFAULT_LIFE_S)
        if min(seconds) <= 0:
            raise invalid(f"Invalid ttl value for channel {int(min(seconds))}")
        # Google keeps whole seconds: the header that repeats it has no finer unit.
        return (now + timedelta(seconds=min(seconds))).replace(microsecond=0)


def _resource_id(email: str, calendar_id: str) -> str:
    """Return the id that all of one user's channels on a calendar share."""
    digest = hashlib.blake2b(f"{email}\n{calendar_id}".encode(), digest_size=20)
    return digest.hexdigest()[:27]
