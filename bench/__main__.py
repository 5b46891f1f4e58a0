"""`python -m bench`: measures every line of the table, or one, and judges it."""

import argparse
import sys
import time

import uvloop

from bench.ground import CHECKOUT, Ground
from bench.lines import (
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
from bench.measure import Claim, NotMeasured, Result
from bench.report import print_result
from runtime import logging

LINES = {
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
        memory,
    )
}


def main() -> int:
    """Measure; 1 if a line falls short."""
    words = _words()
    with (
        Ground(CHECKOUT / ".supacal" / "bench", quick=words.quick) as ground,
        (ground.directory / "bench.log").open("w") as log,
    ):
        logging.configure(stream=log)
        results = uvloop.run(_measure_all(ground, words.line or list(LINES)))
    return 0


async def _measure_all(ground: Ground, names: list[str]) -> list[Result]:
    results = []
    for name in names:
        result = await _measure(ground, name)
        print_result(result)
        results.append(result)
    return results


async def _measure(ground: Ground, name: str) -> Result:
    line = LINES[name]
    began = time.monotonic()
    try:
        result = await line.measure(ground)
    except NotMeasured as reason:
        claim = Claim(line.TITLE, None, why_not=str(reason))
        result = Result(name, line.TITLE, [claim])
    result.took_s = time.monotonic() - began
    return result


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--line", action="append", choices=list(LINES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
