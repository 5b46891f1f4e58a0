"""The deliveries of a class with seats, as Cal.com posts them."""

import json
from datetime import datetime, timedelta
from typing import Any

from tests.support.booking_bodies import MONDAY, NOW, millis, uid

MIRA, IVO = "mira.ostrow@example.com", "ivo.brandt@example.com"


class CalcomClass:
    """Bookings by their numbers, each a day later; each step returns its delivery."""

    def __init__(self) -> None:
        self.now = NOW

    @staticmethod
    def start(number: int) -> datetime:
        return MONDAY + timedelta(days=number)

    def sit(self, number: int, email: str, seat_id: str | None) -> str:
        return self._body("BOOKING_CREATED", number, [email], seat_id)

    def move_seat(self, old: int, new: int, email: str, seat_id: str | None) -> str:
        return self._body(
            "BOOKING_RESCHEDULED", new, [email], seat_id, rescheduleUid=uid(old)
        )

    def move_all(self, old: int, new: int, *emails: str) -> str:
        """Have the host move everybody who is in it, told without their seats."""
        moved = {"rescheduleUid": uid(old), "rescheduledBy": "host@example.com"}
        return self._body("BOOKING_RESCHEDULED", new, list(emails), None, **moved)

    def cancel_seat(self, number: int, email: str, seat_id: str | None) -> str:
        ended = {"status": "CANCELLED", "cancellationReason": "Clash"}
        return self._body("BOOKING_CANCELLED", number, [email], seat_id, **ended)

    def cancel_all(self, number: int, *emails: str) -> str:
        ended = {"status": "CANCELLED", "cancelledBy": "host@example.com"}
        return self._body("BOOKING_CANCELLED", number, list(emails), None, **ended)

    def mark(self, number: int, email: str, *, absent: bool = True) -> str:
        """Have the host say who did not come: by address, not by seat."""
        payload = {
            "message": f"{email} marked as no-show",
            "bookingUid": uid(number),
            "bookingId": 9000 + number,
            "attendees": [{"email": email, "noShow": absent}],
        }
        return self._posted("BOOKING_NO_SHOW_UPDATED", payload)

    def _body(
        self,
        trigger: str,
        number: int,
        emails: list[str],
        seat_id: str | None,
        **more: Any,
    ) -> str:
        start = self.start(number)
        seat = {} if seat_id is None else {"attendeeSeatId": seat_id}
        payload = {
            "uid": uid(number),
            "bookingId": 9000 + number,
            "title": "Class",
            "startTime": millis(start),
            "endTime": millis(start + timedelta(minutes=30)),
            "organizer": {"name": "Ana", "email": "host@example.com"},
            "attendees": [{"email": one, "name": one} for one in emails],
            "iCalUID": f"{uid(number)}@Cal.com",
            "iCalSequence": 0,
            "seatsPerTimeSlot": 5,
            "status": "ACCEPTED",
            **seat,
            **more,
        }
        return self._posted(trigger, payload)

    def _posted(self, trigger: str, payload: dict[str, Any]) -> str:
        self.now += timedelta(hours=1)
        return json.dumps(
            {
                "triggerEvent": trigger,
                "createdAt": millis(self.now),
                "payload": payload,
            }
        )
