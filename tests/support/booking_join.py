"""What bookings add up to: the reference that the tables are held against.

A set function of what was told: order and repetition cannot matter, because nothing
here looks at either. `providers/bookings.py` says the rules in words.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from providers.bookings import FIELDS, Booking, Source

RANK = {"pending": 0, "accepted": 1, "rejected": 2, "cancelled": 3}
PHASES = {"started": 1, "ended": 2}
EARLY = datetime.min.replace(tzinfo=UTC)
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
    told = _spread(_with_seats(given, meant))
    by_key: dict[str, list[Booking]] = defaultdict(list)
    for booking in told:
        by_key[booking.key].append(booking)
    weak: Links = defaultdict(set)
    for booking in given:
        if booking.key in meant and not booking.whole_slot:
            weak[meant[booking.key]].add(booking.key)
    links = _links(told)
    after = _successions(set(by_key), links)
    found = [_joined(keys, by_key, after, weak) for keys in _chains(set(by_key), links)]
    return sorted(found, key=lambda one: one.current)


def _seats_meant(bookings: list[Booking]) -> dict[str, str]:
    """Return the first seat that each weak key was told with."""
    first: dict[str, tuple[datetime, str]] = {}
    for booking in bookings:
        if booking.seat_id and booking.weak_key:
            seat = (booking.as_of or EARLY, booking.key)
            first[booking.weak_key] = min(first.get(booking.weak_key, seat), seat)
    return {weak: key for weak, (_, key) in first.items()}


def _with_seats(bookings: list[Booking], meant: dict[str, str]) -> list[Booking]:
    """Give those who came without a seat's id the first seat of the same person."""

    def resolved(key: str | None) -> str | None:
        return key if key is None else meant.get(key, key)

    return [
        msgspec.structs.replace(
            booking,
            key=resolved(booking.key),
            supersedes=resolved(booking.supersedes),
            superseded_by=resolved(booking.superseded_by),
        )
        for booking in bookings
    ]


def _spread(bookings: list[Booking]) -> list[Booking]:
    """Let what speaks for a whole slot speak for each of its seats."""
    seats: Links = defaultdict(set)
    for booking in bookings:
        if booking.slot_id and not booking.whole_slot:
            seats[booking.slot_id].add(booking.key)
    spread: list[Booking] = []
    for booking in bookings:
        if not booking.whole_slot:
            spread.append(booking)
        elif booking.key in seats:
            spread += [
                msgspec.structs.replace(
                    booking, key=seat, supersedes=None, superseded_by=None
                )
                for seat in seats[booking.key]
            ]
        elif not booking.slot_id:
            spread.append(booking)
    return spread


def _links(bookings: list[Booking]) -> Links:
    """Return what each key is superseded by; what names itself says nothing."""
    after: Links = defaultdict(set)
    for booking in bookings:
        if booking.supersedes and booking.supersedes != booking.key:
            after[booking.supersedes].add(booking.key)
        if booking.superseded_by and booking.superseded_by != booking.key:
            after[booking.key].add(booking.superseded_by)
    return after


def _successions(keys: set[str], links: Links) -> Links:
    """Leave out the keys that nothing was told of: who comes after them, follows."""
    after: Links = {}
    for key in keys:
        met: set[str] = set()
        ahead = set(links.get(key, set()))
        while ahead:
            met |= ahead
            unseen = ahead - keys
            ahead = {new for old in unseen for new in links.get(old, set())} - met
        after[key] = (met & keys) - {key}
    return after


def _chains(keys: set[str], after: Links) -> list[set[str]]:
    """Join keys that a link ties, whether or not both ends were seen."""
    chain = {key: {key} for key in {*keys, *after, *set().union(*after.values())}}
    for old, news in after.items():
        for new in news:
            if chain[old] is not chain[new]:
                chain[old] |= chain[new]
                for key in chain[new]:
                    chain[key] = chain[old]
    distinct = {id(one): one & keys for one in chain.values()}
    return [one for one in distinct.values() if one]


def _joined(
    keys: set[str], by_key: dict[str, list[Booking]], after: Links, weak: Links
) -> Joined:
    heads = [key for key in keys if not after[key]]
    current = max(heads or keys, key=lambda key: (_is_alive(by_key[key]), key))
    told = by_key[current]
    fields: dict[str, object] = {}
    for key in _from_oldest(current, keys, after):
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


def _from_oldest(current: str, keys: set[str], after: Links) -> list[str]:
    line: list[str] = []
    key: str | None = current
    while key is not None:
        line.append(key)
        before = {old for old in keys if key in after[old]} - set(line)
        key = max(before, default=None)
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
