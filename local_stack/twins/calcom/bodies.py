"""What the webhooks and the API show of a booking, each in its own spelling."""

from datetime import UTC, datetime
from typing import Any

from local_stack.twins.calcom.state import Attendee, Booking, Store

# What a payload of a booking that was told of before may leave out.
ALWAYS = frozenset({"uid", "startTime", "endTime", "status", "organizer", "attendees"})


def millis(at: datetime) -> str:
    """Write a time with milliseconds and Z, as most of Cal.com does."""
    text = at.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def seconds(at: datetime) -> str:
    """Write a time without a fraction, as created and rescheduled do."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def offset(at: datetime) -> str:
    """Write a time with the server's own offset, as cancelled does."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


class Bodies:
    """Shows bookings."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def payload(
        self,
        row: Booking,
        trigger: str,
        *,
        attendees: list[Attendee] | None = None,
        seat_id: str | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Show a booking as webhooks do; `more` is what the trigger adds."""
        kind = self._store.known.types[row.type_id]
        host = self._store.known.users[row.host]
        time = offset if trigger == "BOOKING_CANCELLED" else seconds
        body: dict[str, Any] = {
            "bookerUrl": "https://cal.com",
            "type": kind.slug,
            "title": row.title,
            "description": "",
            "additionalNotes": "",
            "startTime": time(row.starts_at),
            "endTime": time(row.ends_at),
            "eventTypeId": kind.id,
            "seatsPerTimeSlot": kind.seats,
            "seatsShowAttendees": True,
            "organizer": {
                "id": host.id,
                "name": host.name,
                "email": host.email,
                "timeZone": host.time_zone,
                "language": {"locale": "en"},
            },
            "attendees": [
                _attendee(one)
                for one in (row.attendees if attendees is None else attendees)
            ],
            "customInputs": {},
            "responses": row.responses,
            "userFieldsResponses": {},
            "location": row.location,
            "destinationCalendar": None,
            "iCalUID": row.ical_uid,
            "iCalSequence": row.sequence,
            "requiresConfirmation": kind.needs_approval,
            "recurringEvent": _rule(row),
            "oneTimePassword": "not-for-keeping",
            "uid": row.uid,
            "bookingId": row.id,
            "eventTitle": kind.title,
            "length": kind.minutes,
            "price": 0,
            "status": row.status,
        }
        if trigger != "BOOKING_CANCELLED":
            link = {"videoCallUrl": "https://video.example.com/room-1"}
            body["metadata"] = {**link, **row.metadata}
        if seat_id is not None:
            body["attendeeSeatId"] = seat_id
        return body | more

    def partial(self, payload: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        """Leave of a payload what is always there, and what the trigger adds."""
        return {
            name: value
            for name, value in payload.items()
            if name in ALWAYS or name in more
        }

    def flat(self, row: Booking) -> dict[str, Any]:
        """Show a booking as MEETING_* do: the row of when it was made."""
        host = self._store.known.users[row.host]
        return {
            "id": row.id,
            "uid": row.uid,
            "userId": host.id,
            "userPrimaryEmail": host.email,
            "eventTypeId": row.type_id,
            "title": row.title,
            "startTime": millis(row.starts_at),
            "endTime": millis(row.ends_at),
            "createdAt": millis(row.created_at),
            "status": "ACCEPTED",
            "location": row.location,
            "fromReschedule": row.from_uid,
            "iCalUID": row.ical_uid,
            "iCalSequence": row.sequence,
            "attendees": [
                {"email": one.email, "name": one.name, "noShow": one.absent}
                for one in row.attendees
            ],
            "user": {"email": host.email, "name": host.name},
        }

    def fetched(self, row: Booking) -> dict[str, Any]:
        """Show a booking as the API v2 does."""
        kind = self._store.known.types[row.type_id]
        host = self._store.known.users[row.host]
        return {
            "id": row.id,
            "uid": row.uid,
            "title": row.title,
            "description": "",
            "hosts": [
                {
                    "id": host.id,
                    "name": host.name,
                    "email": host.email,
                    "timeZone": host.time_zone,
                }
            ],
            "status": row.status.lower(),
            "start": millis(row.starts_at),
            "end": millis(row.ends_at),
            "duration": kind.minutes,
            "eventType": {"id": kind.id, "slug": kind.slug},
            "location": row.location,
            "absentHost": False,
            "createdAt": millis(row.created_at),
            "updatedAt": millis(row.updated_at),
            "metadata": row.metadata,
            "icsUid": row.ical_uid,
            "attendees": [_fetched_attendee(one) for one in row.attendees],
            "guests": [],
            "bookingFieldsResponses": {
                slug: told.get("value") for slug, told in row.responses.items()
            },
            "cancellationReason": row.cancellation_reason,
            "cancelledByEmail": row.cancelled_by,
            "rescheduledFromUid": row.from_uid,
            "rescheduledToUid": row.to_uid,
            "recurringBookingUid": row.series_uid,
        }


def _rule(row: Booking) -> dict[str, int] | None:
    return None if row.series_uid is None else {"freq": 2, "interval": 1, "count": 4}


def _attendee(one: Attendee) -> dict[str, Any]:
    return {
        "name": one.name,
        "email": one.email,
        "timeZone": one.time_zone,
        "phoneNumber": one.phone,
        "language": {"locale": "en"},
    }


def _fetched_attendee(one: Attendee) -> dict[str, Any]:
    seat = {} if one.seat_id is None else {"seatUid": one.seat_id}
    return {
        "name": one.name,
        "email": one.email,
        "timeZone": one.time_zone,
        "phoneNumber": one.phone,
        "language": "en",
        "absent": one.absent,
        **seat,
    }
