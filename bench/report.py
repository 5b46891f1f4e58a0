"""The table: on the terminal, and as a page."""

import sys

from bench.measure import Claim, Result, number, told

MARKS = {"holds": "✓", "falls short": "✗", "not measured": "?", "shown": "·"}


def print_result(result: Result) -> None:
    """Print a line of the table as soon as it is measured."""
    _print(f"\n{result.title}  [{result.line}, {result.took_s:.0f} s]")
    for claim in result.claims:
        _print(f"  {MARKS[claim.verdict]} {claim.what}: {said(claim)}")
    for what, figure in result.figures:
        _print(f"      {what}: {figure}")


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
    behind = claim.unit if claim.unit in {"×", "%"} else f" {claim.unit}"
    if claim.at_least is not None:
        return f"at least {number(claim.at_least)}{behind}"
    return f"at most {number(claim.at_most or 0)}{behind}"


def verdict(claim: Claim) -> str:
    """Say whether it holds, and by how much it does not."""
    if claim.verdict == "falls short":
        return f"falls short by {claim.shortfall:.0%}"
    return claim.verdict


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
