"""Counters in Prometheus' text format: small enough not to need a library."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROWS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class Counter:
    """How often, by labels; their values must come from a small, fixed set."""

    def __init__(self, name: str, told: str, *labels: str) -> None:
        self.name, self.told, self._labels = name, told, labels
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *values: str, times: int = 1) -> None:
        self._counts[values] = self._counts.get(values, 0) + times

    def value(self, *values: str) -> int:
        return self._counts.get(values, 0)

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.told}"
        yield f"# TYPE {self.name} counter"
        for values, count in sorted(self._counts.items()):
            pairs = zip(self._labels, values, strict=True)
            labels = ",".join(f'{label}="{value}"' for label, value in pairs)
            yield f"{self.name}{{{labels}}} {count}"


class Histogram:
    """How much, how often; `steps` are the upper bounds of its buckets."""

    def __init__(self, name: str, told: str, steps: Sequence[float]) -> None:
        self.name, self.told, self._steps = name, told, steps
        self._counts = [0] * (len(steps) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._steps, value)] += 1
        self._sum += value

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.told}"
        yield f"# TYPE {self.name} histogram"
        total = 0
        for step, count in zip((*self._steps, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{step}"}} {total}'
        yield f"{self.name}_sum {self._sum:.6f}"
        yield f"{self.name}_count {total}"


class Gauge:
    """How much right now, asked when somebody looks."""

    def __init__(self, name: str, told: str, ask: Callable[[], float]) -> None:
        self.name, self.told, self._ask = name, told, ask

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self.name} {self.told}"
        yield f"# TYPE {self.name} gauge"
        yield f"{self.name} {self._ask():g}"


class Metrics:
    """What the receiver counts."""

    def __init__(self) -> None:
        self.deliveries = Counter(
            "supacal_deliveries_total",
            "Deliveries that were genuine, by what became of them.",
            "provider",
            "outcome",
        )
        self.refused = Counter(
            "supacal_refused_total",
            "Requests not answered 2xx, by reason.",
            "provider",
            "reason",
        )
        self.delivery_seconds = Histogram(
            "supacal_delivery_seconds", "From verified to committed.", SECONDS
        )
        self.flush_seconds = Histogram(
            "supacal_flush_seconds", "One call of the database.", SECONDS
        )
        self.flush_rows = Histogram(
            "supacal_flush_rows", "Deliveries stored by one call.", ROWS
        )
        self._gauges: list[Gauge] = []

    def watch(self, name: str, told: str, ask: Callable[[], float]) -> None:
        """Add a gauge."""
        self._gauges.append(Gauge(name, told, ask))

    def text(self) -> str:
        """Write all of it down."""
        families: tuple[Counter | Histogram | Gauge, ...] = (
            self.deliveries,
            self.refused,
            self.delivery_seconds,
            self.flush_seconds,
            self.flush_rows,
            *self._gauges,
        )
        lines = [line for family in families for line in family.lines()]
        return "\n".join(lines) + "\n"
