"""What bookings add up to: the reference that the tables are held against.

A set function of what was told: order and repetition cannot matter, because nothing
here looks at either. `providers/bookings.py` says the rules in words.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from providers.bookings import FIELDS, Booking, Source

RANK = {"pending": 0, "accepted": 1, "rejected": 2, "cancelled": 3}
PHASES = {"started": 1, "ended": 2}
EARLY = datetime.min.replace(tzinfo=UTC)
OF_ITS_OWN = frozenset({"cancellation"})  # what a moved booking does not hand on


@dataclass(frozen=True)
class Joined:
    """One meeting, as its bookings tell it."""

    keys: frozenset[str]
    current: str
    state: str | None
    phase: str | None
    no_show: bool
    fields: dict[str, object]

    def __getattr__(self, name: str) -> object:
        if name in FIELDS:
            return self.fields.get(name)
        raise AttributeError(name)


def join(bookings: Iterable[Booking]) -> list[Joined]:
    """Return the meetings that were told of, in the order of their current keys."""
    told = _spread(_with_seats(list(bookings)))
    by_key: dict[str, list[Booking]] = defaultdict(list)
    for booking in told:
        by_key[booking.key].append(booking)
    after = _successions(told)
    found = [_joined(keys, by_key, after) for keys in _chains(set(by_key), after)]
    return sorted(found, key=lambda one: one.current)


def _with_seats(bookings: list[Booking]) -> list[Booking]:
    """Give those who came without a seat's id the first seat of the same person."""
    first: dict[str, tuple[datetime, str]] = {}
    for booking in bookings:
        if booking.seat_id and booking.weak_key:
            seat = (booking.as_of or EARLY, booking.key)
            first[booking.weak_key] = min(first.get(booking.weak_key, seat), seat)
    known = {weak: key for weak, (_, key) in first.items()}

    def resolved(key: str | None) -> str | None:
        return key if key is None else known.get(key, key)

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
    seats: dict[str, set[str]] = defaultdict(set)
    for booking in bookings:
        if booking.slot_id and not booking.whole_slot:
            seats[booking.slot_id].add(booking.key)
    spread: list[Booking] = []
    for booking in bookings:
        of_slot = seats.get(booking.key, set()) if booking.whole_slot else set()
        spread += [
            msgspec.structs.replace(booking, key=seat, supersedes=None)
            for seat in of_slot
        ] or [booking]
    return spread


def _successions(bookings: list[Booking]) -> dict[str, set[str]]:
    after: dict[str, set[str]] = defaultdict(set)
    for booking in bookings:
        if booking.supersedes:
            after[booking.supersedes].add(booking.key)
        if booking.superseded_by:
            after[booking.key].add(booking.superseded_by)
    return after


def _chains(keys: set[str], after: dict[str, set[str]]) -> list[set[str]]:
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
    keys: set[str], by_key: dict[str, list[Booking]], after: dict[str, set[str]]
) -> Joined:
    current = max(
        (key for key in keys if not after.get(key, set()) & keys),
        default=max(keys),
        key=lambda key: (
            RANK.get(_state(by_key[key]) or "", 0) < RANK["rejected"],
            key,
        ),
    )
    fields: dict[str, object] = {}
    for key in _from_oldest(current, keys, after):
        handed_on = {k: v for k, v in fields.items() if k not in OF_ITS_OWN}
        fields = handed_on | _fields(by_key[key])
    phases = [b.phase for b in by_key[current] if b.phase]
    return Joined(
        keys=frozenset(keys),
        current=current,
        state=_state(by_key[current]),
        phase=max(phases, key=PHASES.__getitem__, default=None),
        no_show=_no_show(by_key[current], fields.get("attendee_email")),
        fields=fields,
    )


def _from_oldest(current: str, keys: set[str], after: dict[str, set[str]]) -> list[str]:
    line: list[str] = []
    key: str | None = current
    while key is not None and key not in line:
        line.append(key)
        before = {old for old in keys if key in after.get(old, set())} - set(line)
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
    delivered, fetched = (
        max(_tellers(name, bookings, source), key=lambda told: told[:3], default=None)
        for source in ("delivery", "fetch")
    )
    if delivered is None or fetched is None:
        chosen = delivered or fetched
    else:
        chosen = fetched if fetched[1] >= delivered[1] else delivered
    return None if chosen is None else chosen[3]


def _tellers(
    name: str, bookings: list[Booking], source: Source
) -> list[tuple[str, datetime, bytes, object]]:
    """Return who tells a field, the last resort being the text of the value."""
    return [
        (booking.version, booking.as_of or EARLY, msgspec.json.encode(value), value)
        for booking in bookings
        if booking.source == source and (value := getattr(booking, name)) is not None
    ]
