"""Whatever the order and number of a booking's deliveries, one state comes of them."""

from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.bookings import Booking
from providers.calcom import bookings as calcom
from providers.calendly import bookings as calendly
from providers.model import Malformed
from tests.support.booking_bodies import CalcomLife, CalendlyLife
from tests.support.booking_join import Joined, join

Read = Callable[[str], list[Booking] | Malformed]


def told(read: Read, bodies: list[str]) -> list[Booking]:
    bookings: list[Booking] = []
    for body in bodies:
        found = read(body)
        assert isinstance(found, list), found.reason
        bookings += found
    return bookings


def only(bookings: list[Booking]) -> Joined:
    (joined,) = join(bookings)
    return joined


@st.composite
def calendly_lives(draw: st.DrawFn) -> tuple[CalendlyLife, list[str], str, bool]:
    life = CalendlyLife()
    bodies = life.book()
    for _ in range(draw(st.integers(0, 3))):
        bodies += life.reschedule()
    state, absent = "accepted", False
    for _ in range(draw(st.integers(0, 3))):
        absent = not absent
        bodies += life.mark() if absent else life.unmark()
    if draw(st.booleans()):
        state = "cancelled"
        bodies += life.cancel()
    return life, bodies, state, absent


@st.composite
def calcom_lives(draw: st.DrawFn) -> tuple[CalcomLife, list[str], str, bool]:
    life = CalcomLife(partial=draw(st.booleans()), keeps_uid=draw(st.booleans()))
    bodies = life.request() if draw(st.booleans()) else []
    bodies += life.book()
    bodies += life.pay() if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        bodies += life.reschedule()
    state, absent = "accepted", False
    for _ in range(draw(st.integers(0, 3))):
        absent = not absent
        bodies += life.mark(absent=absent)
    match draw(st.sampled_from(["cancel", "take place", "nothing"])):
        case "cancel":
            state = "cancelled"
            bodies += life.cancel()
        case "take place":
            bodies += life.take_place(flat=draw(st.booleans()))
        case _:
            pass
    return life, bodies, state, absent


def shuffled(draw: st.DrawFn, bodies: list[str]) -> list[str]:
    """Return all of them in any order, and some of them again."""
    again = draw(st.lists(st.sampled_from(bodies), max_size=4))
    return draw(st.permutations([*bodies, *again]))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=calendly_lives())
def test_a_calendly_booking_ends_as_it_was_lived_in_every_order(
    data: st.DataObject, lived: tuple[CalendlyLife, list[str], str, bool]
) -> None:
    life, bodies, state, absent = lived
    order = data.draw(st.composite(shuffled)(bodies))
    joined = only(told(calendly.read_delivery, order))
    assert joined == only(told(calendly.read_delivery, bodies))
    assert (joined.current, joined.state) == (life.uri, state)
    assert (joined.no_show, joined.starts_at) == (absent, life.start)
    assert len(joined.keys) == life.number


@settings(max_examples=100, deadline=None)
@given(data=st.data(), lived=calcom_lives())
def test_a_calcom_booking_ends_as_it_was_lived_in_every_order(
    data: st.DataObject, lived: tuple[CalcomLife, list[str], str, bool]
) -> None:
    life, bodies, state, absent = lived
    order = data.draw(st.composite(shuffled)(bodies))
    joined = only(told(calcom.read_delivery, order))
    assert joined == only(told(calcom.read_delivery, bodies))
    assert (joined.current, joined.state) == (life.uid, state)
    assert (joined.no_show, joined.starts_at) == (absent, life.start)
    assert (joined.title, joined.attendee_email) == (
        "30 min",
        "mira.ostrow@example.com",
    )
    assert joined.metadata == {"barkbookPetId": "p1"}
    assert len(joined.keys) == life.number


@pytest.mark.parametrize("life", [CalendlyLife, CalcomLife])
def test_created_moved_twice_cancelled_is_the_same_in_each_of_all_orders(
    life: type[CalendlyLife | CalcomLife],
) -> None:
    lived = life()
    read = (
        calendly.read_delivery
        if isinstance(lived, CalendlyLife)
        else calcom.read_delivery
    )
    bodies = lived.book() + lived.reschedule() + lived.reschedule() + lived.cancel()
    bookings = told(read, bodies)
    end = only(bookings)
    assert end.state == "cancelled"
    assert all(only(list(order)) == end for order in permutations(bookings))


def test_half_of_a_calendly_move_is_no_cancellation() -> None:
    life = CalendlyLife()
    created, (canceled, _) = life.book(), life.reschedule()
    joined = only(told(calendly.read_delivery, [*created, canceled]))
    assert joined.state == "accepted"


def test_a_late_created_does_not_bring_a_cancelled_booking_back() -> None:
    life = CalendlyLife()
    (created,), (canceled,) = life.book(), life.cancel()
    for order in ([created, canceled], [canceled, created]):
        assert only(told(calendly.read_delivery, order)).state == "cancelled"


def test_a_pending_move_supersedes_what_it_moves_and_is_accepted_by_uid_alone() -> None:
    life = CalcomLife()
    bodies = [*life.book(), *life.reschedule("BOOKING_REQUESTED")]
    assert only(told(calcom.read_delivery, bodies)).state == "pending"
    bodies += life.book()  # the approval names no uid but its own
    joined = only(told(calcom.read_delivery, bodies[::-1]))
    assert (joined.state, joined.starts_at) == ("accepted", life.start)


def test_a_declined_request_stays_declined() -> None:
    life = CalcomLife()
    bodies = [*life.request(), *life.reject()]
    assert only(told(calcom.read_delivery, bodies[::-1])).state == "rejected"
