"""Bookings as Cal.com posts them: made, moved, cancelled."""

import hmac
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

PATH = "/webhooks/calcom"
SIGNATURE = "X-Cal-Signature-256"
LENGTH = timedelta(minutes=30)
# What a life consists of after the booking is made; in turn.
LIVES = ((), ("move",), ("cancel",), ("move", "cancel"))


@dataclass(frozen=True, slots=True)
class Booking:
    """A booking at one moment of its life."""

    number: int
    title: str
    start: datetime
    told_at: datetime
    moved: int = 0

    @property
    def uid(self) -> str:
        return f"bench{self.number:07d}m{self.moved}"

    def made(self) -> str:
        """Return the body that tells of it."""
        return self._body("BOOKING_CREATED", "ACCEPTED")

    def move(self) -> "tuple[Booking, str]":
        """Return it as it is from then on, and the body that tells so."""
        later = replace(
            self,
            start=self.start + timedelta(days=1),
            told_at=self.told_at + timedelta(minutes=1),
            moved=self.moved + 1,
        )
        before = {
            "rescheduleUid": self.uid,
            "rescheduleStartTime": _written(self.start),
        }
        return later, later._body("BOOKING_RESCHEDULED", "ACCEPTED", **before)

    def cancel(self) -> "tuple[Booking, str]":
        """Return it as it is from then on, and the body that tells so."""
        later = replace(self, told_at=self.told_at + timedelta(minutes=1))
        why = {"cancellationReason": "Travelling"}
        return later, later._body("BOOKING_CANCELLED", "CANCELLED", **why)

    def _body(self, trigger: str, status: str, **more: str) -> str:
        person = {
            "email": f"guest{self.number}@bench.example",
            "name": f"Guest {self.number}",
            "timeZone": "America/Chicago",
        }
        return msgspec.json.encode(
            {
                "triggerEvent": trigger,
                "createdAt": _written(self.told_at),
                "payload": {
                    "title": self.title,
                    "startTime": _written(self.start),
                    "endTime": _written(self.start + LENGTH),
                    "organizer": {"name": "Host", "email": "host@bench.example"},
                    "attendees": [person],
                    "responses": {"name": {"label": "your_name", "value": "Guest"}},
                    "location": "integrations:daily",
                    "iCalUID": f"bench{self.number:07d}@Cal.com",
                    "iCalSequence": self.moved,
                    "uid": self.uid,
                    "bookingId": self.number,
                    "metadata": {"videoCallUrl": "https://video.bench.example/room"},
                    "status": status,
                    **more,
                },
            }
        ).decode()


def booking(number: int, title: str = "") -> Booking:
    """Return a booking just made, next week or later."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now + timedelta(days=7, minutes=30 * (number % 1000))
    return Booking(number, title or f"Call {number}", start, now)


def lives() -> Iterator[list[str]]:
    """Tell of one booking after the other, each from its making to its end."""
    for number, life in zip(itertools.count(1), itertools.cycle(LIVES), strict=False):
        one = booking(number)
        bodies = [one.made()]
        for step in life:
            one, body = one.move() if step == "move" else one.cancel()
            bodies.append(body)
        yield bodies


def post(channel_id: UUID, key: str, body: str) -> bytes:
    """Return a request as Cal.com posts it to a channel's own address."""
    content = body.encode()
    head = [
        f"POST {PATH}/{channel_id} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"{SIGNATURE}: {hmac.digest(key.encode(), content, 'sha256').hex()}",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + content


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
