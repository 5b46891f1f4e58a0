"""Where bookings went, from key to key: a part of what they add up to."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from providers.bookings import Booking

EARLY = datetime.min.replace(tzinfo=UTC)
# From each key to the next: when that was told last.
Moves = dict[str, dict[str, datetime]]


@dataclass(frozen=True)
class Way:
    """Where bookings went: from each key to those that came after, and since when."""

    after: Moves
    arrivals: dict[str, datetime]
    met: dict[str, datetime]

    @classmethod
    def along(cls, links: Moves, keys: set[str], met: dict[str, datetime]) -> Self:
        """Follow links between keys that something was told of, seats met last then."""
        arrivals = {
            key: max(moves[key] for moves in links.values() if key in moves)
            for key in set().union(*links.values())
        }
        return cls(_successions(keys, links), arrivals, met)

    def arrival(self, key: str) -> tuple[bool, datetime]:
        return key in self.arrivals, self.arrivals.get(key, EARLY)

    def is_past(self, key: str) -> bool:
        """Tell whether it was left, and not come back to since."""
        left = self.after[key].values()
        met = self.met.get(key, EARLY)
        if not self._leads_back(key):
            return any(at >= met for at in left)
        return any(at > max(self.arrivals[key], met) for at in left)

    def _leads_back(self, key: str) -> bool:
        met: set[str] = set()
        ahead = set(self.after[key])
        while ahead:
            met |= ahead
            ahead = {new for old in ahead for new in self.after[old]} - met
        return key in met


def links_of(bookings: list[Booking]) -> Moves:
    """Return what each key is superseded by; what names itself says nothing."""
    after: Moves = defaultdict(dict)
    for booking in bookings:
        for old, new in (
            (booking.supersedes, booking.key),
            (booking.key, booking.superseded_by),
        ):
            if old and new and old != new:
                at = booking.as_of or EARLY
                after[old][new] = max(after[old].get(new, at), at)
    return after


def _successions(keys: set[str], links: Moves) -> Moves:
    """Leave out the keys that nothing was told of: who comes after them, follows."""
    after: Moves = {}
    for key in keys:
        found: dict[str, datetime] = {}
        for first, at in links.get(key, {}).items():
            met: set[str] = set()
            ahead = {first}
            while ahead:
                met |= ahead
                unseen = ahead - keys
                ahead = {new for old in unseen for new in links.get(old, {})} - met
            for new in (met & keys) - {key}:
                found[new] = max(found.get(new, at), at)
        after[key] = found
    return after
