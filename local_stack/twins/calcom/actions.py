"""What happens to bookings, below who does it: the row, and what is told of it."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from local_stack.twins.calcom.bodies import millis
from local_stack.twins.calcom.state import (
    Attendee,
    Booking,
    EventType,
    bad_request,
    new_key,
    new_uid,
)

if TYPE_CHECKING:
    from local_stack.twins.calcom.twin import CalcomTwin

LIVE = frozenset({"ACCEPTED", "PENDING"})


class Actions:
    """Changes of the store, which the caller holds."""

    def __init__(self, twin: "CalcomTwin") -> None:
        self._twin = twin
        self._store = twin.store

    def book(
        self, kind: EventType, start: datetime, who: Attendee, **told: Any
    ) -> tuple[Booking, Attendee]:
        """Book a time, or a seat of it."""
        row = self._seated_at(kind, start)
        is_first = row is None
        if row is None:
            status = "PENDING" if kind.needs_approval or kind.needs_payment else None
            row = self._new_row(kind, start, status=status or "ACCEPTED", **told)
        elif len(row.attendees) >= (kind.seats or 1):
            raise bad_request("no_available_seats")
        if kind.seats:
            who.seat_id = new_key()
        row.attendees.append(who)
        self._write(row)
        is_told = not is_first or self._twin.behaviour.seat_id_on_first_seat
        seat: dict[str, Any] = {"seat_id": who.seat_id} if is_told else {}
        only = [who] if kind.seats else None
        if is_first:
            # The webhook leaves before the row knows where, and what else.
            self._hide_details(row)
        if kind.needs_payment:
            self._tell(
                "BOOKING_PAYMENT_INITIATED", row, only, **seat, status="ACCEPTED"
            )
        elif kind.needs_approval:
            self._tell("BOOKING_REQUESTED", row, only, **seat)
        else:
            self._tell("BOOKING_CREATED", row, only, **seat)
        return row, who

    def book_series(
        self, kind: EventType, starts: list[datetime], who: Attendee, **told: Any
    ) -> list[Booking]:
        """Book several times at once, each a booking of its own."""
        series_uid = new_uid()
        rows = []
        for start in starts:
            copy = Attendee(who.email, who.name, who.time_zone, who.phone)
            row, _ = self.book(kind, start, copy, series_uid=series_uid, **told)
            rows.append(row)
        return rows

    def pay(self, row: Booking) -> None:
        """Let the payment succeed."""
        self._write(row, status="ACCEPTED")
        self._tell("BOOKING_CREATED", row)
        facts = {"identifier": "cal.com", "bookingId": row.id}
        self._tell("BOOKING_PAID", row, metadata=facts)

    def approve(self, row: Booking) -> None:
        """Confirm a request; of a series all, told by one."""
        for one in self._series_of(row):
            if one.status == "PENDING":
                self._write(one, status="ACCEPTED")
        self._tell("BOOKING_CREATED", row)

    def decline(self, row: Booking, reason: str | None) -> None:
        """Reject a request."""
        self._write(row, status="REJECTED")
        self._tell("BOOKING_REJECTED", row, rejectionReason=reason)

    def move(self, row: Booking, start: datetime, by: str | None) -> Booking:
        """Move a booking: a new row takes over, and nobody is told of the old one."""
        if row.status not in LIVE:
            raise bad_request("Booking is cancelled or rejected")
        before: dict[str, Any] = {
            "rescheduleStartTime": millis(row.starts_at),
            "rescheduleEndTime": millis(row.ends_at),
            "rescheduledBy": by,
        }
        kind = self._store.known.types[row.type_id]
        is_pending = kind.needs_approval and by != row.host
        trigger = "BOOKING_REQUESTED" if is_pending else "BOOKING_RESCHEDULED"
        if self._twin.behaviour.reschedule_keeps_uid:
            length = row.ends_at - row.starts_at
            start = start.astimezone(UTC)
            self._write(row, starts_at=start, ends_at=start + length)
            row.sequence += 1
            self._tell(trigger, row, **before)
            return row
        new = self._taking_over(row, start, "PENDING" if is_pending else "ACCEPTED")
        self._write(row, status="CANCELLED", to_uid=new.uid)
        was: dict[str, Any] = {"rescheduleUid": row.uid, "rescheduleId": row.id}
        self._tell(trigger, new, **was, **before)
        return new

    def move_seat(self, row: Booking, who: Attendee, start: datetime) -> Booking:
        """Move one seat to the booking of another time; it keeps its id.

        What stays on either side keeps its time of change, too.
        """
        kind = self._store.known.types[row.type_id]
        target = self._seated_at(kind, start)
        if target is None:
            target = self._new_row(kind, start, status="ACCEPTED")
        if target is not row:
            row.attendees.remove(who)
            who.absent = False
            target.attendees.append(who)
        if not row.attendees:
            self._write(row, status="CANCELLED")
        more = {"rescheduleUid": row.uid}
        self._tell("BOOKING_RESCHEDULED", target, [who], seat_id=who.seat_id, **more)
        return target

    def cancel(
        self, row: Booking, by: str, reason: str | None, *, whole_series: bool = False
    ) -> None:
        """Cancel: told before the row shows it, and of a whole series only once."""
        if row.status not in LIVE:
            raise bad_request("This booking has already been cancelled")
        why: dict[str, Any] = {"cancellationReason": reason, "cancelledBy": by}
        self._end(row, reason, by)
        for one in self._series_of(row) if whole_series else []:
            if one.status in LIVE:
                self._end(one, reason, by)
        self._tell("BOOKING_CANCELLED", row, **why, requestReschedule=False)

    def cancel_seat(self, row: Booking, who: Attendee, reason: str | None) -> None:
        """Cancel one seat: told as a cancellation, although the booking lives on."""
        if row.attendees == [who]:
            self._end(row, reason, who.email)
        else:
            # Nothing that was changed tells of it: only the seat's own row is gone.
            self._store.hide(row, self._lag())
            row.attendees.remove(who)
        more: dict[str, Any] = {"status": "CANCELLED", "cancellationReason": reason}
        self._tell("BOOKING_CANCELLED", row, [who], seat_id=who.seat_id, **more)

    def ask_to_move(self, row: Booking) -> None:
        """Have the host ask for another time, which looks like a cancellation."""
        self._end(row, "Please choose another time", row.host)
        self._tell("BOOKING_CANCELLED", row, requestReschedule=True)

    def mark(self, row: Booking, email: str, *, absent: bool) -> None:
        """Mark somebody as not having come, or take that back."""
        for one in row.attendees:
            if one.email == email:
                one.absent = absent
        self._write(row)
        payload = {
            "message": f"{email} marked as {'' if absent else 'not '}no-show",
            "bookingUid": row.uid,
            "bookingId": row.id,
            "attendees": [{"email": email, "noShow": absent}],
        }
        hooks = self._twin.webhooks
        hooks.tell("BOOKING_NO_SHOW_UPDATED", row.host, payload)

    def take_place(self, row: Booking, trigger: str) -> None:
        """Let the time of a start or an end come, whoever is there."""
        flat = self._twin.behaviour.flat_meetings
        body = self._twin.bodies.flat(row)
        self._twin.webhooks.tell(trigger, row.host, body, flat=flat)

    def change(self, row: Booking, **values: Any) -> None:
        """Change what no trigger tells."""
        self._write(row, **values)

    def _end(self, row: Booking, reason: str | None, by: str) -> None:
        self._store.hide(row, self._lag())
        self._write(
            row,
            status="CANCELLED",
            cancellation_reason=reason,
            cancelled_by=by,
            updated_at=self._store.now() + self._lag(),
        )
        row.sequence += 1

    def _write(self, row: Booking, **values: Any) -> None:
        for name, value in ({"updated_at": self._store.now()} | values).items():
            setattr(row, name, value)

    def _hide_details(self, row: Booking) -> None:
        whole = (row.location, row.metadata, row.calendar_event)
        row.location, row.metadata, row.calendar_event = "", {}, None
        self._store.hide(row, self._lag())
        row.location, row.metadata, row.calendar_event = whole
        row.updated_at = self._store.now() + self._lag()

    def _lag(self) -> timedelta:
        return timedelta(seconds=self._twin.behaviour.row_lags_s)

    def _tell(
        self,
        trigger: str,
        row: Booking,
        attendees: list[Attendee] | None = None,
        *,
        seat_id: str | None = None,
        **more: Any,
    ) -> None:
        bodies = self._twin.bodies
        payload = bodies.payload(
            row, trigger, attendees=attendees, seat_id=seat_id, **more
        )
        kind = self._store.known.types[row.type_id]
        if self._twin.behaviour.partial and row.told and not kind.seats:
            payload = bodies.partial(payload, more)
        row.told = True
        self._twin.webhooks.tell(trigger, row.host, payload)

    def _series_of(self, row: Booking) -> list[Booking]:
        if row.series_uid is None:
            return [row]
        known = self._store.known.bookings.values()
        return [one for one in known if one.series_uid == row.series_uid]

    def _seated_at(self, kind: EventType, start: datetime) -> Booking | None:
        if not kind.seats:
            return None
        return next(
            (
                row
                for row in self._store.known.bookings.values()
                if (row.type_id, row.starts_at) == (kind.id, start.astimezone(UTC))
                and row.status in LIVE
            ),
            None,
        )

    def _taking_over(self, old: Booking, start: datetime, status: str) -> Booking:
        kind = self._store.known.types[old.type_id]
        new = self._new_row(
            kind,
            start,
            status=status,
            metadata=old.metadata,
            responses=old.responses,
            series_uid=old.series_uid,
        )
        # Who missed the old time has not missed the new one.
        new.attendees = [
            msgspec.structs.replace(one, absent=False) for one in old.attendees
        ]
        new.ical_uid, new.sequence = old.ical_uid, old.sequence + 1
        new.from_uid, new.title = old.uid, old.title
        new.calendar_event, new.told = old.calendar_event, old.told
        return new

    def _new_row(
        self, kind: EventType, start: datetime, *, status: str, **told: Any
    ) -> Booking:
        now, uid = self._store.now(), new_uid()
        start = start.astimezone(UTC)
        row = Booking(
            id=self._store.new_id(),
            uid=uid,
            type_id=kind.id,
            host=kind.host,
            title=kind.title,
            starts_at=start,
            ends_at=start + timedelta(minutes=kind.minutes),
            status=status,
            attendees=[],
            created_at=now,
            updated_at=now,
            ical_uid=f"{uid}@Cal.com",
            location=kind.location,
            calendar_event=self._calendar_event(kind, uid),
            **told,
        )
        self._store.known.bookings[uid] = row
        return row

    def _calendar_event(self, kind: EventType, uid: str) -> str | None:
        has_calendar = self._store.known.users[kind.host].calendar is not None
        return f"cal{uid[:8].lower()}" if has_calendar else None
