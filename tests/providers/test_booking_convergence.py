"""Whatever people do, and however it is delivered: what is joined is what is true."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from hypothesis import given, settings
from hypothesis import strategies as st

from local_stack.twins.calcom import Booked, CalcomTwin
from local_stack.twins.calcom import Host as CalcomHost
from local_stack.twins.calendly import Booking as Invited
from local_stack.twins.calendly import CalendlyTwin, Host
from local_stack.twins.calendly.state import Subscription
from local_stack.twins.rest import Refusal
from providers.bookings import Booking
from providers.calcom import bookings as calcom
from providers.calendly import bookings as calendly
from providers.model import Malformed
from runtime.clock import ManualClock
from tests.support.booking_join import join
from tests.twins.booking_calls import BookingInbox

NOW = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
MONDAY = datetime(2026, 3, 9, 14, tzinfo=UTC)
PEOPLE = ("mira", "ivo", "lena", "tom")
HOOK = "https://hooks.test/x"

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["book", "move", "cancel", "absent", "present", "later"]),
        st.integers(0, 3),
        st.integers(0, 6),
    ),
    min_size=1,
    max_size=14,
)
Truth = dict[str, tuple[str, bool, datetime]]


def posted(twin: CalendlyTwin | CalcomTwin, act: Callable[[], None]) -> list[str]:
    """Let something happen, and return what was posted of it."""

    async def run() -> list[str]:
        inbox = BookingInbox()
        twin.deliver_to(HOOK, httpx2.ASGITransport(inbox))
        async with twin:
            act()
            await twin.outbox.drain()
        return [body.decode() for body in inbox.bodies]

    return asyncio.run(run())


def told(
    read: Callable[[str], list[Booking] | Malformed], bodies: list[str]
) -> list[Booking]:
    found = [read(body) for body in bodies]
    assert not any(isinstance(one, Malformed) for one in found)
    return [booking for one in found if isinstance(one, list) for booking in one]


def joined(bookings: list[Booking]) -> dict[str, tuple[Any, ...]]:
    return {
        one.current: (one.state, one.no_show, one.starts_at) for one in join(bookings)
    }


def live(
    steps: list[Step],
    book: Callable[[int, datetime], Any],
    clock: ManualClock,
) -> list[Any]:
    """Do what the steps say, where it can be done; return who is booked.

    No two things happen at once: which of them came first is told by times alone.
    """
    booked: list[Any] = []
    for what, who, day in steps:
        start = MONDAY + timedelta(days=day)
        mine = booked[(who + day) % len(booked)] if booked else None
        clock.advance(timedelta(milliseconds=1))
        try:
            if what == "later":
                clock.advance(timedelta(hours=1))
            elif what == "book":
                booked.append(book(who, start))
            elif mine is None or not mine.is_live:
                continue
            elif what == "move":
                booked[booked.index(mine)] = mine.reschedule(start)
            elif what == "cancel":
                mine.cancel()
            elif what == "absent":
                mine.did_not_come()
            else:
                mine.came_after_all()
        except Refusal:
            continue  # taken, or full: nothing happened
    return booked


@settings(max_examples=40, deadline=None)
@given(
    steps=STEPS,
    data=st.data(),
    order=st.sampled_from(["canceled_first", "created_first"]),
)
def test_calendlys_deliveries_add_up_to_what_its_people_did(
    steps: list[Step], data: st.DataObject, order: Any
) -> None:
    twin = CalendlyTwin(ManualClock(NOW))
    twin.behaviour.reschedule_order = order
    host = twin.host("ana@example.org")
    kinds = [host.event_type("Call"), host.event_type("Class", seats=3)]
    booked: list[Invited] = []

    def book(who: int, start: datetime) -> Invited:
        person = PEOPLE[who]
        kind = kinds[who % 2]
        return host.book(kind, start, email=f"{person}@example.com", name=person)

    def act() -> None:
        subscribe(twin, host)
        booked.extend(live(steps, book, twin.clock))

    bodies = posted(twin, act)
    truth = {
        one.uri: (
            "accepted" if one.is_live else "cancelled",
            one.invitee.no_show is not None,
            one.event.starts_at,
        )
        for one in booked
    }
    assert joined(told(calendly.read_delivery, shaken(data, bodies))) == truth


def subscribe(twin: CalendlyTwin, host: Host) -> None:
    """Register a webhook as the API would."""
    twin.store.known.subscriptions["s1"] = Subscription(
        id="s1",
        url=HOOK,
        events=sorted(calendly.TRIGGERS),
        scope="user",
        organization=host.user.organization,
        user=host.uri,
        creator=host.uri,
        created_at=NOW,
        updated_at=NOW,
        signing_key="k",
        by_app=False,
    )


@settings(max_examples=40, deadline=None)
@given(steps=STEPS, data=st.data(), needs_approval=st.booleans(), partial=st.booleans())
def test_calcoms_deliveries_add_up_to_what_its_people_did(
    steps: list[Step], data: st.DataObject, needs_approval: bool, partial: bool
) -> None:
    twin = CalcomTwin(ManualClock(NOW))
    twin.behaviour.partial = partial
    host = twin.host("ana@example.org")
    kinds = [
        host.event_type("Call", needs_approval=needs_approval),
        host.event_type("Class", seats=3),
    ]
    booked: list[Booked] = []

    def book(who: int, start: datetime) -> Booked:
        person = PEOPLE[who]
        kind = kinds[who % 2]
        made = host.book(kind, start, email=f"{person}@example.com", name=person)
        if needs_approval and who == 0:
            made.approve()
        return made

    def act() -> None:
        host.add_webhook(HOOK, secret="s")
        booked.extend(live(steps, book, twin.clock))

    bodies = posted(twin, act)
    known = {
        one.uid if one.seat_id is None else f"{one.uid}#{one.seat_id}": one
        for one in booked
    }
    found = joined(told(calcom.read_delivery, shaken(data, bodies)))
    assert set(found) == set(known)
    for key, one in known.items():
        state = one.row.status.lower() if one.is_live else "cancelled"
        assert found[key][0] == state
        assert found[key][2] == one.row.starts_at
        if one.is_live:
            assert found[key][1] == one.attendee.absent


Attended = dict[str, tuple[str, datetime]]


class Classes:
    """A class at several times; everybody books it once."""

    def __init__(self, twin: CalcomTwin, host: CalcomHost) -> None:
        self._twin = twin
        self._host = host
        self._kind = host.event_type("Class", seats=4)
        self._seats: dict[str, Booked] = {}

    def act(self, what: str, who: int, day: int) -> None:
        """Let somebody book, go elsewhere or cancel, or the host move them all."""
        name, start = PEOPLE[who], MONDAY + timedelta(days=day)
        email = f"{name}@example.com"
        mine = self._seats.get(email)
        if mine is None:
            booked = self._host.book(self._kind, start, email=email, name=name)
            self._seats[email] = booked
        elif mine.is_live and mine.row.starts_at != start:
            if what == "move":
                self._seats[email] = mine.reschedule(start)
            elif what == "move all":
                self._move_all(mine.uid, start)
            else:
                mine.cancel()

    def _move_all(self, uid: str, start: datetime) -> None:
        new = Booked(self._twin, uid).reschedule(start, by=self._host.email)
        for email, seat in self._seats.items():
            if seat.uid == uid and any(
                one.seat_id == seat.seat_id for one in new.row.attendees
            ):
                self._seats[email] = Booked(self._twin, new.uid, seat.seat_id)

    def truth(self) -> Attended:
        return {
            email: ("accepted", seat.row.starts_at)
            if seat.is_live
            else ("cancelled", seat.row.starts_at)
            for email, seat in self._seats.items()
        }


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["move", "move", "move", "move all", "cancel"]),
            st.integers(0, 3),
            st.integers(0, 1),
        ),
        min_size=3,
        max_size=14,
    ),
    data=st.data(),
    is_first_told=st.booleans(),
)
def test_whoever_is_moved_alone_or_with_all_is_once_where_they_went(
    steps: list[Step], data: st.DataObject, is_first_told: bool
) -> None:
    twin = CalcomTwin(ManualClock(NOW))
    twin.behaviour.seat_id_on_first_seat = is_first_told
    host = twin.host("ana@example.org")
    classes = Classes(twin, host)

    def act() -> None:
        host.add_webhook(HOOK, secret="s")
        for step in [("book", who, who % 2) for who in range(4)] + steps:
            twin.clock.advance(timedelta(minutes=1))
            classes.act(*step)

    bodies = posted(twin, act)
    found = join(told(calcom.read_delivery, shaken(data, bodies)))
    assert sorted(
        (one.attendee_email, one.state, one.starts_at) for one in found
    ) == sorted((who, *look) for who, look in classes.truth().items())


def shaken(data: st.DataObject, bodies: list[str]) -> list[str]:
    """Return all of them in any order, and some of them again."""
    if not bodies:
        return []
    again = data.draw(st.lists(st.sampled_from(bodies), max_size=5))
    return data.draw(st.permutations([*bodies, *again]))
