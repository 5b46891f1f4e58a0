"""What a client does on a booking page during the tour."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

from local_stack.twins.all_four import Twins
from local_stack.twins.calendly import Booking as Invitee
from local_stack.twins.google import Calendar, Event
from supacal.scenes import Row, Scene
from supacal.stages import Stage

WEEKS = 3


class Booked(Protocol):
    """A booking in the hands of who made it."""

    def reschedule(self, start: datetime, /) -> "Booked": ...

    def cancel(self) -> None: ...


Book = Callable[[datetime, str], Booked]
NOTE = "Prepared by the booking page."


@dataclass(frozen=True)
class InCalendar:
    """The host's calendar, and what the provider does there."""

    stage: Stage
    write: Callable[[Booked, datetime], object]
    remove: Callable[[], object]


def booking_scenes(
    stage: Stage, name: str, book: Book, now: datetime, also: "InCalendar | None" = None
) -> Iterator[Scene]:
    """Yield what a client does; each scene begins where the one before has led.

    Also: what the provider does in the host's own calendar, once it is booked.
    """
    # An address of its own in each tour: who comes again has a meeting already.
    guest = f"carol+{uuid4().hex[:6]}@example.net"
    start = (now + timedelta(weeks=WEEKS)).replace(minute=0, second=0, microsecond=0)
    moved_to = start + timedelta(days=1, hours=2)
    booked: list[Booked] = []

    def concerns(row: Row) -> bool:
        return bool(row["attendee_email"] == guest)

    def cancel() -> None:
        booked[-1].cancel()
        if also is not None:
            also.remove()

    yield Scene(
        f"A client books with {name}",
        stage,
        lambda: booked.append(book(start, guest)),
        concerns,
        lambda meeting: meeting["starts_at"] == start,
        makes_meetings=True,
    )
    if also is not None:
        yield Scene(
            f"{name} writes it into her Google Calendar: it stays one meeting",
            also.stage,
            lambda: also.write(booked[-1], start),
            concerns,
            lambda meeting: meeting["description"] == NOTE,
            known_by=stage.calendar_id,
        )
    yield Scene(
        "The booking is moved by a day",
        stage,
        lambda: booked.append(booked[-1].reschedule(moved_to)),
        concerns,
        lambda meeting: meeting["starts_at"] == moved_to,
    )
    yield Scene(
        "The booking is cancelled",
        stage,
        cancel,
        concerns,
        lambda meeting: meeting["status"] == "cancelled",
    )


def with_calendly(twins: Twins, email: str) -> Book:
    """Return what books with somebody over Calendly."""
    host = twins.calendly.host(email)
    kind = next(iter(twins.calendly.store.known.types.values()))
    return lambda start, guest: host.book(kind, start, email=guest, name="Carol")


def calendly_in_google(calendar: Calendar, stage: Stage) -> InCalendar:
    """Return what writes Calendly's bookings into a calendar of Google."""
    written: list[Event] = []

    def write(booked: Booked, start: datetime) -> None:
        if not isinstance(booked, Invitee) or booked.event.calendar_event is None:
            raise TypeError("this is no booking of Calendly with a calendar")
        event_id = booked.event.calendar_event["external_id"]
        made = calendar.add(booked.event.name, start, id=event_id, description=NOTE)
        written.append(made)

    return InCalendar(stage, write, lambda: calendar.cancel(written.pop()))


def with_calcom(twins: Twins, email: str) -> Book:
    """Return what books with somebody over Cal.com."""
    host = twins.calcom.host(email)
    kind = next(iter(twins.calcom.store.known.types.values()))
    return lambda start, guest: host.book(kind, start, email=guest, name="Carol")
