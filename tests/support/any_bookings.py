"""Bookings of every kind, as no provider would tell them all of one."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import strategies as st

from providers.bookings import Answer, Booking, Cancellation, NoShow, Seats
from providers.model import Provider

Row = dict[str, Any]

T0 = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)

moments = st.integers(0, 2).map(lambda hours: T0 + timedelta(hours=hours))
emails = st.sampled_from(["a@example.com", "B@example.com", "ö@example.com"])
marks = st.builds(
    NoShow, email=st.none() | emails.map(str.upper), marked=st.booleans(), at=moments
)
texts = st.sampled_from(["", "a", 'a"', "b\n", "ß", "aa"])
names = st.sampled_from(["a", "bb", "ba", "ccc", "é"])
fields = st.fixed_dictionaries(
    {"starts_at": moments},
    optional={
        "title": texts,
        "attendee_email": emails,
        "link_pending": st.booleans(),
        "guests": st.lists(emails, max_size=2),
        "answers": st.lists(st.builds(Answer, texts, texts, texts), max_size=2),
        "metadata": st.dictionaries(names, texts, max_size=2),
        "cancellation": st.builds(Cancellation, texts),
        "ical_uid": st.sampled_from(["i1", "i1", "i1", "i2"]),
        "sequence": st.integers(0, 11),
        "seats": st.builds(Seats, limit=st.integers(1, 2)),
        "series_id": texts,
    },
)
slots = st.sampled_from(["u1", "u1", "u2"])
people = st.sampled_from(["#a@example.com", "#a@example.com", "#b@example.com"])
plain = st.sampled_from(["k1", "k2", "k3", "k4"])
seats = st.sampled_from(["#s1", "#s2"])


@st.composite
def identities(draw: st.DrawFn) -> Row:
    slot = draw(slots)
    match draw(st.sampled_from(["plain", "shared", "seat", "weak", "whole", "bare"])):
        case "plain":
            return {"key": draw(plain)}
        case "shared":
            return {"key": draw(plain), "slot_id": "e1"}
        case "seat":
            seat = draw(seats)
            weak = draw(st.none() | people)
            return {
                "key": slot + seat,
                "seat_id": seat,
                "slot_id": slot,
                "weak_key": weak and slot + weak,
            }
        case "weak":
            weak = slot + draw(people)
            return {"key": weak, "weak_key": weak, "slot_id": slot}
        case "whole":
            return {"key": slot, "slot_id": slot, "whole_slot": True}
        case _:
            return {"key": draw(slots | plain), "whole_slot": True}


@st.composite
def messages(draw: st.DrawFn, known: list[Row]) -> Booking:
    """What one of these is told, tied to another of them or to one not told of."""
    identity = draw(st.sampled_from(known))
    is_bare = identity.get("whole_slot") and "slot_id" not in identity
    more: Row = {} if is_bare else draw(fields)
    named = [
        one[name] for one in known for name in ("key", "weak_key") if one.get(name)
    ]
    links = st.none() | st.sampled_from([*named, "k4"])
    return Booking(
        provider=Provider.CALCOM,
        provider_id=identity["key"].split("#")[0],
        source=draw(st.sampled_from(["delivery", "fetch"])),
        version=draw(st.sampled_from(["", "1"])),
        as_of=draw(st.none() | moments),
        supersedes=draw(links),
        superseded_by=draw(links) if draw(st.booleans()) else None,
        state=draw(
            st.sampled_from([None, "pending", "accepted", "rejected", "cancelled"])
        ),
        phase=draw(st.sampled_from([None, None, "started", "ended"])),
        no_shows=draw(st.lists(marks, max_size=2)),
        **identity,
        **more,
    )


@st.composite
def journeys(draw: st.DrawFn, known: list[Row]) -> list[Booking]:
    """From one to the next, and maybe back; or from the first to each of the others."""
    stops = draw(st.lists(st.sampled_from(known), min_size=2, max_size=5))
    forks = draw(st.booleans())
    return [
        msgspec.structs.replace(
            draw(messages([stop])),
            supersedes=(stops[0] if forks else before)["key"],
            superseded_by=None,
            ical_uid=draw(st.sampled_from(["i1", "i1", "i1", "i1", "i2", None])),
            sequence=draw(st.integers(0, 11)),
        )
        for before, stop in pairwise(stops)
    ]


@st.composite
def again(draw: st.DrawFn, booking: Booking) -> Booking:
    """The same words, told at another time."""
    return msgspec.structs.replace(
        booking,
        version=draw(st.sampled_from(["", "1", "2", "3"])),
        as_of=draw(st.none() | moments),
        no_shows=[
            msgspec.structs.replace(mark, at=draw(moments)) for mark in booking.no_shows
        ],
        trigger="SWEPT",
    )


@st.composite
def tellings(draw: st.DrawFn) -> list[list[Booking]]:
    """Batches in which messages come once, twice, and at other times."""
    # Of few kinds at a time: or they would seldom have to do with each other.
    known = draw(st.lists(identities(), min_size=1, max_size=4))
    told = draw(st.lists(messages(known), min_size=2, max_size=10))
    told += draw(st.just([]) | journeys(known))
    told += draw(st.lists(st.sampled_from(told), max_size=3))
    swept = draw(st.lists(st.sampled_from(told), max_size=3))
    told += [draw(again(booking)) for booking in swept]
    batches: list[list[Booking]] = [[]]
    for booking in draw(st.permutations(told)):
        if draw(st.booleans()) and batches[-1]:
            batches.append([])
        batches[-1].append(booking)
    return batches
