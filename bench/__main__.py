"""`python -m bench`: measures every line of the table, or some, and judges them."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import uvloop

from bench.chart import chart
from bench.ground import CHECKOUT, Ground
from bench.lines import (
    bookings,
    callback,
    claim,
    claimed,
    coalescing,
    drain,
    held,
    lanes,
    memory,
    page,
    receiver,
)
from bench.machine import Machine
from bench.measure import Claim, NotMeasured, Result
from bench.report import page as page_of
from bench.report import print_result, print_summary
from runtime import logging

DOCS = CHECKOUT / "docs"
SCRATCH = CHECKOUT / ".supacal" / "bench"


class Line(Protocol):
    """A module of bench/lines."""

    NAME: str
    TITLE: str

    async def measure(self, ground: Ground) -> Result:
        """Measure it."""


# The order of the table; memory comes last, for it looks at what the others left.
LINES: dict[str, Line] = {
    line.NAME: line
    for line in (
        receiver,
        claimed,
        drain,
        coalescing,
        held,
        page,
        callback,
        claim,
        lanes,
        bookings,
        memory,
    )
}


def main() -> int:
    """Measure and print; what falls short is told, and no error."""
    words = _words()
    began = time.monotonic()
    with (
        Ground(SCRATCH, quick=words.quick) as ground,
        (ground.directory / "bench.log").open("w") as log,
    ):
        logging.configure(stream=log)
        results = uvloop.run(measure_all(ground, words.line or list(LINES)))
        if words.write_docs:
            _write_docs(results, _machine(ground, began))
    print_summary(results, time.monotonic() - began)
    return 0


async def measure_all(ground: Ground, names: Sequence[str]) -> list[Result]:
    """Measure lines in the order of the table, each printed as it comes."""
    results = []
    for name in [name for name in LINES if name in names]:
        result = await measure_one(ground, LINES[name])
        print_result(result)
        results.append(result)
    return results


async def measure_one(ground: Ground, line: Line) -> Result:
    """Measure a line; what it lacks is its own matter, the others run."""
    began = time.monotonic()
    try:
        result = await line.measure(ground)
    except NotMeasured as reason:
        claim = Claim(line.TITLE, None, why_not=str(reason))
        result = Result(line.NAME, line.TITLE, [claim])
    result.took_s = time.monotonic() - began
    return result


def _machine(ground: Ground, began: float) -> Machine:
    compiled = "load.c, compiled" if ground.load.is_compiled else "bench/load_python.py"
    took = (time.monotonic() - began) / 60
    return Machine(
        checkout=CHECKOUT,
        command="make bench",
        postgres=ground.postgres_version,
        slow_disk=ground.disk.means,
        loader=f"{compiled}, a process of its own",
        took=f"{took:.0f} minutes",
    )


def _write_docs(results: Sequence[Result], machine: Machine) -> None:
    (DOCS / "measurements.md").write_text(page_of(results, machine))
    (DOCS / "measurements.svg").write_text(chart(results))


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--line",
        action="append",
        choices=list(LINES),
        help="only this; may be repeated",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small and few: whether it works at all"
    )
    parser.add_argument(
        "--write-docs",
        action="store_true",
        help=f"write {Path('docs') / 'measurements.md'} and the chart",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
