"""The deliveries of one booking's life, as Calendly and Cal.com post them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

API = "https://api.calendly.com"
HOST = f"{API}/users/6f1c0d52-77aa-4b0e-9f0a-1f3a0f6f2a10"
MONDAY = datetime(2026, 3, 9, 14, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)


def micros(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def millis(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def uid(number: int) -> str:
    """A uid as Cal.com draws them; one of a higher number is the greater text."""
    return f"gTq7bX2mPz4Kc9Lw3RfYh{number}"


class CalendlyLife:
    """One person's booking; each step returns the bodies it causes."""

    def __init__(self, *, limit: int = 1) -> None:
        self.now = NOW
        self.limit = limit
        self.start = MONDAY
        self.number = 1
        self.old: str | None = None
        self.no_show: dict[str, str] | None = None
        self.marks = 0
        self.updated_at = self.now

    @property
    def event(self) -> str:
        return f"{API}/scheduled_events/0a1b2c3d-0000-4000-8000-{self.number:012d}"

    @property
    def uri(self) -> str:
        return f"{self.event}/invitees/9f8e7d6c-0000-4000-8000-{self.number:012d}"

    def book(self) -> list[str]:
        self._tick()
        return [self._body("invitee.created", self._invitee())]

    def reschedule(self) -> list[str]:
        self._tick()
        old, event = self.uri, self.event
        ended = self._invitee(status="canceled", rescheduled=True)
        ended["cancellation"] = self._cancellation()
        self.number += 1
        ended["new_invitee"] = self.uri
        assert ended["uri"] == old
        assert ended["event"] == event
        self.old = old
        self.start += timedelta(days=1)
        return [
            self._body("invitee.canceled", ended),
            self._body("invitee.created", self._invitee()),
        ]

    def cancel(self) -> list[str]:
        self._tick()
        ended = self._invitee(status="canceled", cancellation=self._cancellation())
        return [self._body("invitee.canceled", ended)]

    def mark(self) -> list[str]:
        self._tick()
        self.marks += 1
        uri = f"{API}/invitee_no_shows/{self.marks}"
        self.no_show = {"uri": uri, "created_at": micros(self.now)}
        return [self._body("invitee_no_show.created", self._invitee())]

    def unmark(self) -> list[str]:
        self._tick()
        self.no_show = None
        return [self._body("invitee_no_show.deleted", self._invitee())]

    def retried(self, body: str) -> str:
        """The same, told anew and dated so."""
        self._tick()
        return json.dumps({**json.loads(body), "created_at": micros(self.now)})

    def _tick(self) -> None:
        self.now += timedelta(hours=1)

    def _cancellation(self) -> dict[str, Any]:
        return {
            "canceled_by": "Mira Ostrow",
            "reason": "Clash",
            "canceler_type": "invitee",
            "created_at": micros(self.now),
        }

    def _invitee(self, **more: Any) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "event": self.event,
            "email": "mira.ostrow@example.com",
            "name": "Mira Ostrow",
            "first_name": "Mira",
            "last_name": "Ostrow",
            "status": "active",
            "timezone": "Europe/Lisbon",
            "created_at": micros(self.now),
            "updated_at": micros(self.now),
            "questions_and_answers": [
                {"question": "What to prepare?", "answer": "Q2", "position": 0}
            ],
            "tracking": {"utm_campaign": "spring", "utm_source": None},
            "text_reminder_number": None,
            "rescheduled": False,
            "old_invitee": self.old,
            "new_invitee": None,
            "cancel_url": "https://calendly.com/cancellations/x",
            "no_show": self.no_show,
            "scheduled_event": {
                "uri": self.event,
                "name": "Planning call",
                "status": "active",
                "start_time": micros(self.start),
                "end_time": micros(self.start + timedelta(minutes=30)),
                "location": {
                    "type": "google_conference",
                    "status": "pushed",
                    "join_url": "https://meet.example.com/abc",
                },
                "invitees_counter": {"total": 1, "active": 1, "limit": self.limit},
                "updated_at": micros(self.now),
                "event_memberships": [{"user": HOST, "user_email": "host@example.com"}],
                "event_guests": [],
            },
            **more,
        }

    def _body(self, event: str, payload: dict[str, Any]) -> str:
        return json.dumps(
            {
                "event": event,
                "created_at": micros(self.now + timedelta(seconds=1)),
                "created_by": HOST,
                "payload": payload,
            }
        )


class CalcomLife:
    """One booking; each step returns the bodies it causes."""

    def __init__(self, *, partial: bool = False, keeps_uid: bool = False) -> None:
        self.now = NOW
        self.start = MONDAY
        self.number = 1
        self.sequence = 0
        self.partial = partial  # later deliveries carry only what changed
        self.keeps_uid = keeps_uid  # as older payloads do

    @property
    def uid(self) -> str:
        return uid(self.number)

    def request(self) -> list[str]:
        return [self._booking("BOOKING_REQUESTED", status="PENDING")]

    def book(self) -> list[str]:
        return [self._booking("BOOKING_CREATED")]

    def pay(self) -> list[str]:
        return [self._booking("BOOKING_PAID", metadata={"identifier": "cal.com"})]

    def reject(self) -> list[str]:
        return [self._booking("BOOKING_REJECTED", status="REJECTED")]

    def reschedule(self, trigger: str = "BOOKING_RESCHEDULED") -> list[str]:
        old, before = self.uid, self.start
        if not self.keeps_uid:
            self.number += 1
        self.sequence += 1
        self.start += timedelta(days=1)
        moved = {"rescheduleUid": old, "rescheduleStartTime": millis(before)}
        status = "PENDING" if trigger == "BOOKING_REQUESTED" else "ACCEPTED"
        return [self._booking(trigger, status=status, only=moved, **moved)]

    def cancel(self) -> list[str]:
        self.sequence += 1
        why = {"cancellationReason": "Travelling", "cancelledBy": "host@example.com"}
        return [self._booking("BOOKING_CANCELLED", status="CANCELLED", only=why, **why)]

    def mark(self, *, absent: bool = True) -> list[str]:
        marked = [{"email": "mira.ostrow@example.com", "noShow": absent}]
        payload = {"message": "x", "bookingUid": self.uid, "attendees": marked}
        return [self._body("BOOKING_NO_SHOW_UPDATED", payload)]

    def take_place(self, *, flat: bool = True) -> list[str]:
        return [
            self._took_place("MEETING_STARTED", flat=flat),
            self._took_place("MEETING_ENDED", flat=flat),
        ]

    def _took_place(self, trigger: str, *, flat: bool) -> str:
        row = {
            "id": 9000 + self.number,
            "uid": self.uid,
            # A snapshot of long ago: nothing of it but that it takes place is news.
            "title": "an older title",
            "startTime": millis(MONDAY - timedelta(days=7)),
            "endTime": millis(MONDAY - timedelta(days=7)),
            "createdAt": millis(NOW - timedelta(days=30)),
            "status": "ACCEPTED",
            "attendees": [{"email": "old@example.com", "name": "x", "noShow": False}],
            "user": {"email": "host@example.com"},
        }
        if flat:
            return json.dumps({"triggerEvent": trigger, **row})
        return self._body(trigger, row)

    def _booking(
        self,
        trigger: str,
        *,
        status: str = "ACCEPTED",
        only: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        times = {
            "startTime": millis(self.start),
            "endTime": millis(self.start + timedelta(minutes=30)),
        }
        if self.partial and only is not None:
            return self._body(trigger, {"uid": self.uid, **times, **only})
        if self.keeps_uid:
            more.pop("rescheduleUid", None)
        person = {"email": "mira.ostrow@example.com", "name": "Mira Ostrow"}
        return self._body(
            trigger,
            {
                "title": "30 min",
                **times,
                "organizer": {"name": "Ana", "email": "host@example.com"},
                "attendees": [{**person, "timeZone": "America/Chicago"}],
                "responses": {"name": {"label": "your_name", "value": "Mira Ostrow"}},
                "userFieldsResponses": {"dog": {"label": "Dog", "value": "Rex"}},
                "location": "integrations:daily",
                "iCalUID": f"{uid(1)}@Cal.com",
                "iCalSequence": self.sequence,
                "uid": self.uid,
                "bookingId": 9000 + self.number,
                "metadata": {
                    "videoCallUrl": "https://video.example.com/room-1",
                    "barkbookPetId": "p1",
                },
                "status": status,
                **more,
            },
        )

    def _body(self, trigger: str, payload: dict[str, Any]) -> str:
        self.now += timedelta(hours=1)
        return json.dumps(
            {
                "triggerEvent": trigger,
                "createdAt": millis(self.now),
                "payload": payload,
            },
            separators=(",", ":"),
        )
