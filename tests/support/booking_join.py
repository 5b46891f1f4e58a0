"""What bookings add up to: the reference that the tables are held against.

A set function of what was told: order and repetition cannot matter, because nothing
here looks at either. `providers/bookings.py` says the rules in words.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from providers.bookings import FIELDS, Booking, NoShow, Source
from tests.support.booking_way import EARLY, Moves, Way, links_of

RANK = {"pending": 0, "accepted": 1, "rejected": 2, "cancelled": 3}
PHASES = {"started": 1, "ended": 2}
SOURCES: tuple[Source, Source] = ("delivery", "fetch")
OF_ITS_OWN = frozenset({"cancellation"})  # what a moved booking does not hand on

Links = dict[str, set[str]]


@dataclass(frozen=True)
class Joined:
    """One meeting, as its bookings tell it."""

    keys: frozenset[str]
    current: str
    provider_id: str
    slot_id: str | None
    seat_id: str | None
    state: str | None
    phase: str | None
    no_show: bool
    version: str
    as_of: datetime | None
    fields: dict[str, object]

    def __getattr__(self, name: str) -> object:
        if name in FIELDS:
            return self.fields.get(name)
        raise AttributeError(name)


def join(bookings: Iterable[Booking]) -> list[Joined]:
    """Return the meetings that were told of, in the order of their current keys."""
    given = list(bookings)
    meant = _seats_meant(given)
    linked = _linked_by_the_last(given)
    told = _spread(_with_seats(linked, meant, _seats_known(given)))
    by_key: dict[str, list[Booking]] = defaultdict(list)
    for booking in told:
        by_key[booking.key].append(booking)
    weak: Links = defaultdict(set)
    for booking in given:
        if booking.key in meant and not booking.whole_slot:
            weak[meant[booking.key]].add(booking.key)
    links = links_of(told)
    way = Way.along(links, set(by_key), _met_at(by_key))
    chains = _chains(set(by_key), [*_ties(links), *_same_seats(told)])
    found = [_joined(keys, by_key, way, weak) for keys in chains]
    return sorted(found, key=lambda one: one.current)


def _linked_by_the_last(bookings: list[Booking]) -> list[Booking]:
    """Leave a link to the last of those who tell the same: it was made then."""
    times: dict[bytes, tuple[str, datetime]] = {}
    for booking in bookings:
        words, at = _words(booking), (booking.version, booking.as_of or EARLY)
        times[words] = max(times.get(words, at), at)
    return [
        booking
        if (booking.version, booking.as_of or EARLY) == times[_words(booking)]
        else msgspec.structs.replace(booking, supersedes=None, superseded_by=None)
        for booking in bookings
    ]


def _words(booking: Booking) -> bytes:
    """Return what is told, but for when and by which trigger."""
    timeless = msgspec.structs.replace(
        booking,
        version="",
        as_of=None,
        no_shows=[],
        trigger=None,
        ask=None,
        moved=False,
    )
    bare = msgspec.structs.replace(timeless, raw=msgspec.Raw(b"{}"))
    return msgspec.json.encode(bare, order="deterministic")


def _seats_meant(bookings: list[Booking]) -> dict[str, str]:
    """Return the first seat that each weak key was told with."""
    first: dict[str, tuple[datetime, str]] = {}
    for booking in bookings:
        if booking.seat_id and booking.weak_key:
            seat = (booking.as_of or EARLY, booking.key)
            first[booking.weak_key] = min(first.get(booking.weak_key, seat), seat)
    return {weak: key for weak, (_, key) in first.items()}


def _seats_known(bookings: list[Booking]) -> Links:
    """Return all seats that each weak key was told with."""
    known: Links = defaultdict(set)
    for booking in bookings:
        if booking.seat_id and booking.weak_key:
            known[booking.weak_key].add(booking.key)
    return known


def _with_seats(
    bookings: list[Booking], meant: dict[str, str], known: Links
) -> list[Booking]:
    """Give those who came without a seat's id the first seat of the same person.

    Links go to each seat of that person.
    """

    def linked(key: str | None) -> Iterable[str | None]:
        return known.get(key, {key}) if key else [None]

    return [
        msgspec.structs.replace(
            booking,
            key=meant.get(booking.key, booking.key),
            supersedes=older,
            superseded_by=newer,
        )
        for booking in bookings
        for older in linked(booking.supersedes)
        for newer in linked(booking.superseded_by)
    ]


def _spread(bookings: list[Booking]) -> list[Booking]:
    """Let what speaks for a whole slot speak for each of its seats."""
    seats: dict[str, dict[str, list[Booking]]] = defaultdict(lambda: defaultdict(list))
    for booking in bookings:
        if booking.slot_id and not booking.whole_slot:
            seats[booking.slot_id][booking.key].append(booking)
    spread: list[Booking] = []
    for booking in bookings:
        if not booking.whole_slot:
            spread.append(booking)
        elif booking.key in seats:
            spread += [
                msgspec.structs.replace(
                    booking,
                    key=seat,
                    supersedes=None,
                    superseded_by=None,
                    no_shows=_marks_since(_taken_at(told), booking.no_shows),
                )
                for seat, told in seats[booking.key].items()
            ]
        elif not booking.slot_id:
            spread.append(booking)
    return spread


def _taken_at(seat: list[Booking]) -> datetime:
    """Return since when somebody sits there: told first, or moved there since."""
    told = [booking.as_of or EARLY for booking in seat]
    moved = [
        booking.as_of or EARLY
        for booking in seat
        if booking.source == "delivery" and booking.supersedes
    ]
    return max(min(told), max(moved, default=EARLY))


def _marks_since(taken_at: datetime, marks: list[NoShow]) -> list[NoShow]:
    return [mark for mark in marks if mark.at >= taken_at]


def _ties(links: Moves) -> Iterator[tuple[str, str]]:
    return ((old, new) for old, news in links.items() for new in news)


def _same_seats(bookings: list[Booking]) -> Iterator[tuple[str, str]]:
    """Tie what bears one seat's id: a seat keeps it, wherever it is moved."""
    return ((booking.seat_id, booking.key) for booking in bookings if booking.seat_id)


def _chains(keys: set[str], ties: Iterable[tuple[str, str]]) -> list[set[str]]:
    """Join keys that are tied, whether or not both ends were seen."""
    chain: dict[str, set[str]] = {key: {key} for key in keys}
    for one, other in ties:
        both = chain.get(one, {one}) | chain.get(other, {other})
        for key in both:
            chain[key] = both
    distinct = {id(one): one & keys for one in chain.values()}
    return [one for one in distinct.values() if one]


def _joined(
    keys: set[str], by_key: dict[str, list[Booking]], way: Way, weak: Links
) -> Joined:
    current = _current(keys, by_key, way)
    told = by_key[current]
    fields: dict[str, object] = {}
    for key in _from_oldest(current, keys, way):
        handed_on = {k: v for k, v in fields.items() if k not in OF_ITS_OWN}
        fields = handed_on | _fields(by_key[key])
    phases = [booking.phase for booking in told if booking.phase]
    last = _last("key", told)
    assert last is not None
    return Joined(
        keys=frozenset(keys.union(*(weak.get(key, set()) for key in keys))),
        current=current,
        provider_id=max(booking.provider_id for booking in told),
        slot_id=max((b.slot_id for b in told if b.slot_id), default=None),
        seat_id=max((b.seat_id for b in told if b.seat_id), default=None),
        state=_state(told),
        phase=max(phases, key=PHASES.__getitem__, default=None),
        no_show=_no_show(told, fields.get("attendee_email")),
        version=last.version,
        as_of=last.as_of,
        fields=fields,
    )


def _current(keys: set[str], by_key: dict[str, list[Booking]], way: Way) -> str:
    """Return the key that the meeting goes on as."""
    heads = [key for key in keys if not way.is_past(key)] or list(keys)
    sequences = _sequences({key: by_key[key] for key in heads})

    def rank(key: str) -> tuple[object, ...]:
        return (
            sequences.get(key, 0),
            _seated_at(key, by_key[key], way),
            _is_alive(by_key[key]),
            way.arrival(key),
            key,
        )

    return max(heads, key=rank)


def _met_at(by_key: dict[str, list[Booking]]) -> dict[str, datetime]:
    """Return when deliveries last spoke of seats: somebody sat there then."""
    met = {
        key: [b.as_of or EARLY for b in _spoken_of(told) if b.source == "delivery"]
        for key, told in by_key.items()
    }
    return {key: max(times) for key, times in met.items() if times}


def _seated_at(key: str, told: list[Booking], way: Way) -> tuple[bool, datetime]:
    """Return when a seat was come to or met; if nobody says so, read."""
    if not any(booking.slot_id for booking in told):
        return False, EARLY
    times = [moves[key] for moves in (way.arrivals, way.met) if key in moves]
    times = times or [booking.as_of or EARLY for booking in _spoken_of(told)]
    return bool(times), max(times, default=EARLY)


def _spoken_of(told: list[Booking]) -> list[Booking]:
    """Return those who tell how a seat is, if it is one that is known by its id."""
    if not any(booking.seat_id for booking in told):
        return []
    return [booking for booking in told if booking.state and not booking.whole_slot]


def _sequences(heads: dict[str, list[Booking]]) -> dict[str, int]:
    """Return with which sequence of their one iCalUID they begin; none if unlike."""
    counted = {
        key: [
            (booking.ical_uid, booking.sequence)
            for booking in bookings
            if booking.ical_uid is not None and booking.sequence is not None
        ]
        for key, bookings in heads.items()
    }
    uids = {uid for told in counted.values() for uid, _ in told}
    if len(uids) != 1 or not all(counted.values()):
        return {}
    return {key: min(number for _, number in told) for key, told in counted.items()}


def _from_oldest(current: str, keys: set[str], way: Way) -> list[str]:
    line: list[str] = []
    key: str | None = current
    while key is not None:
        line.append(key)
        before = {old for old in keys if key in way.after[old]} - set(line)
        key = max(before, key=lambda old: (way.arrival(old), old), default=None)
    return line[::-1]


def _state(bookings: list[Booking]) -> str | None:
    states = [booking.state for booking in bookings if booking.state]
    return max(states, key=RANK.__getitem__, default=None)


def _is_alive(bookings: list[Booking]) -> bool:
    return _state(bookings) not in {"rejected", "cancelled"}


def _no_show(bookings: list[Booking], email: object) -> bool:
    mine = str(email or "").lower()
    marks = [
        (mark.at, mark.marked)
        for booking in bookings
        for mark in booking.no_shows
        if mark.email is None or mark.email.lower() == mine
    ]
    return max(marks, default=(EARLY, False))[1]


def _fields(bookings: list[Booking]) -> dict[str, object]:
    return {
        name: value for name in FIELDS if (value := _value(name, bookings)) is not None
    }


def _value(name: str, bookings: list[Booking]) -> object:
    teller = _last(name, bookings)
    return None if teller is None else getattr(teller, name)


def _last(name: str, bookings: list[Booking]) -> Booking | None:
    """Return who is right of those who tell a field."""
    delivered, fetched = (
        max(
            (b for b in bookings if b.source == source and _tells(name, b)),
            key=lambda b: (b.version, b.as_of or EARLY, _text(getattr(b, name))),
            default=None,
        )
        for source in SOURCES
    )
    if delivered is None or fetched is None:
        return delivered or fetched
    is_newer = (fetched.as_of or EARLY) >= (delivered.as_of or EARLY)
    return fetched if is_newer else delivered


def _tells(name: str, booking: Booking) -> bool:
    return getattr(booking, name) is not None


def _text(value: object) -> str:
    """Write JSON as Postgres does: the shorter key of an object comes first."""
    return json.dumps(_in_order(msgspec.to_builtins(value)), ensure_ascii=False)


def _in_order(value: object) -> object:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: (len(name.encode()), name))
        return {name: _in_order(value[name]) for name in names}
    if isinstance(value, list):
        return [_in_order(one) for one in value]
    return value
