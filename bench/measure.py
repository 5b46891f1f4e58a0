"""What is measured, how far it spreads, and whether that is enough."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

Verdict = Literal["holds", "falls short", "not measured", "shown"]


TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"


class NotMeasured(Exception):
    """A line cannot be measured on this machine; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The rounds of one measurement: judged by the middle, told with its ends."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, rounds: Iterable[float]) -> "Spread":
        values = sorted(rounds)
        if not values:
            raise ValueError("there was no round")
        return cls(values[0], median(values), values[-1])


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Compare round by round: what disturbed the machine disturbed both sides."""
    return Spread.of(mine / other for mine, other in zip(ours, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    if not values:
        raise ValueError("there is no value")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@dataclass(frozen=True, slots=True)
class Claim:
    """One bound of the table, and what was measured against it.

    Without a bound it is only shown. `unit` stands behind each number.
    """

    what: str
    measured: Spread | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = TIMES
    why_not: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.measured is None:
            return "not measured"
        if self.at_least is None and self.at_most is None:
            return "shown"
        return "holds" if self._holds(self.measured.middle) else "falls short"

    @property
    def shortfall(self) -> float:
        """By which share of the bound it falls short; 0 where it holds."""
        if self.measured is None or self.verdict != "falls short":
            return 0.0
        bound = self.at_least if self.at_least is not None else self.at_most
        return abs(self.measured.middle - (bound or 0)) / bound if bound else 1.0

    @property
    def reach(self) -> float:
        """How much of the bound is reached: 1 = just so, 2 = twice as good."""
        if self.measured is None:
            return 0.0
        if self.at_least is not None:
            return self.measured.middle / self.at_least if self.at_least else 1.0
        if self.at_most is not None:
            return self.at_most / self.measured.middle if self.measured.middle else 9.0
        return 1.0

    def _holds(self, value: float) -> bool:
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or value <= self.at_most


@dataclass(slots=True)
class Result:
    """What one line of the table came to: its claims, and the figures behind them."""

    line: str
    title: str
    claims: list[Claim] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    took_s: float = 0.0

    def show(self, what: str, rounds: Iterable[float], unit: str) -> None:
        """Add a figure that no bound speaks of."""
        spread = Spread.of(rounds)
        self.figures.append((what, told(spread, unit)))

    def compare(
        self,
        what: str,
        ours: Sequence[float],
        theirs: Sequence[float] | None,
        *,
        at_least: float,
        why_not: str = "",
    ) -> None:
        """Add a claim about a ratio; without the peer's rounds it is not measured."""
        measured = ratios(ours, theirs) if theirs else None
        claim = Claim(what, measured, at_least=at_least, why_not=why_not)
        self.claims.append(claim)


def number(value: float) -> str:
    """Write a number as short as its size allows."""
    if not value:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def told(spread: Spread, unit: str) -> str:
    """Write a spread: the middle, and the ends where they differ."""
    behind = unit if unit in {TIMES, "%"} else f" {unit}" if unit else ""
    middle = f"{number(spread.middle)}{behind}"
    if number(spread.low) == number(spread.high):
        return middle
    return f"{middle} ({number(spread.low)} {DASH} {number(spread.high)})"
