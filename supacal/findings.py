"""What `supacal doctor` found out."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; what is wrong says what to do."""

    is_well: bool
    said: str


def tell(findings: Sequence[Finding]) -> int:
    """Print them, a line each; return the exit code."""
    for finding in findings:
        mark = "✓" if finding.is_well else "✗"
        sys.stdout.write(f"  {mark} {finding.said}\n")
    return 0 if all(finding.is_well for finding in findings) else 1
