"""The table: on the terminal as it is measured, and as a page."""

import sys
from collections.abc import Iterator, Sequence

from bench.machine import Machine
from bench.measure import TIMES, Claim, Result, number, told

MARKS = {"holds": "✓", "falls short": "✗", "not measured": "?", "shown": "·"}
COMMAND = "make bench"
INTRODUCTION = f"""# Measurements

Written by `{COMMAND}`: every line beside what one would use instead, in one run, round
by round in turn. A ratio is taken within each round, so that whatever disturbs the
machine disturbs both sides; it is told as the middle of the rounds with the lowest and
the highest, and judged by the middle. Absolute figures are of one machine.
"""


def print_result(result: Result) -> None:
    """Print a line of the table as soon as it is measured."""
    _print(f"\n{result.title}  [{result.line}, {result.took_s:.0f} s]")
    for claim in result.claims:
        _print(f"  {MARKS[claim.verdict]} {claim.what}: {said(claim)}")
    for what, figure in result.figures:
        _print(f"      {what}: {figure}")


def print_summary(results: Sequence[Result], took_s: float) -> None:
    """Print how many bounds hold."""
    claims = [claim for result in results for claim in result.claims]
    counts = {
        verdict: sum(claim.verdict == verdict for claim in claims)
        for verdict in ("holds", "falls short", "not measured")
    }
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    _print(f"\n{words}; {took_s / 60:.1f} minutes")


def said(claim: Claim) -> str:
    """Say what was measured, the bound, and the verdict."""
    if claim.measured is None:
        return f"not measured: {claim.why_not}"
    measured = told(claim.measured, claim.unit)
    if claim.verdict == "shown":
        return measured
    return f"{measured}, {bound(claim)}: {verdict(claim)}"


def bound(claim: Claim) -> str:
    """Say what was promised."""
    behind = claim.unit if claim.unit in {TIMES, "%", ""} else f" {claim.unit}"
    if claim.at_least is not None:
        return f"at least {number(claim.at_least)}{behind}"
    if claim.at_most is not None:
        return f"at most {number(claim.at_most)}{behind}"
    return ""


def verdict(claim: Claim) -> str:
    """Say whether it holds, and by how much it does not."""
    if claim.verdict == "falls short":
        return f"falls short by {claim.shortfall:.0%}"
    return claim.verdict


def page(results: Sequence[Result], machine: Machine) -> str:
    """Return docs/measurements.md."""
    return "\n".join(
        [INTRODUCTION, *_facts(machine), "", *_table(results), "", *_figures(results)]
    )


def _facts(machine: Machine) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for name, fact in machine.facts():
        yield f"| {name} | {fact} |"


def _table(results: Sequence[Result]) -> Iterator[str]:
    yield "| what | measured | bound | verdict |"
    yield "|---|---|---|---|"
    for result in results:
        yield f"| **{result.title}** | | | |"
        for claim in result.claims:
            measured = claim.why_not
            if claim.measured is not None:
                measured = told(claim.measured, claim.unit)
            yield f"| {claim.what} | {measured} | {bound(claim)} | {verdict(claim)} |"


def _figures(results: Sequence[Result]) -> Iterator[str]:
    yield "## The figures behind them"
    for result in results:
        if not result.figures:
            continue
        yield f"\n{result.title} (`python -m bench --line {result.line}`):\n"
        yield "| | |"
        yield "|---|---|"
        for what, figure in result.figures:
            yield f"| {what} | {figure} |"
    yield ""


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
