"""The chart of the README: each bound and how far it was reached, light and dark."""

import math
from collections.abc import Iterator, Sequence
from html import escape

from bench.measure import Claim, Result, told

WIDTH = 860
LEFT = 470  # where bars begin
RIGHT = 130  # room for figures
ROW = 24
TOP = 58
BAR = 12
FARTHEST = 8.0  # times the bound; what reaches further is drawn so far
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .faint { fill: #59636e } .title { font-weight: 600; font-size: 15px }
  .holds { fill: #1a7f5a } .short { fill: #c4432b } .spread { stroke: #1f2328 }
  .bound { stroke: #59636e; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #9198a1 }
    .holds { fill: #3fb68b } .short { fill: #f0735a } .spread { stroke: #e6edf3 }
    .bound { stroke: #9198a1 }
  }
"""


def chart(results: Sequence[Result]) -> str:
    """Draw every claim that has a bound: the bar ends where the bound is exceeded."""
    claims = [
        (result, claim)
        for result in results
        for claim in result.claims
        if claim.measured is not None and claim.verdict != "shown"
        if claim.at_most != 0 and claim.unit not in {"", "%"}  # counts are no bars
    ]
    height = TOP + ROW * len(claims) + 16
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'role="img" aria-label="How far each bound is reached">',
            f"<style>{STYLE}</style>",
            '<text class="title" x="16" y="24">How far each bound is reached</text>',
            f'<text class="faint" x="{LEFT}" y="24">the dashed line is the bound; '
            "longer is better</text>",
            *_bound(height),
            *(
                line
                for row, (result, claim) in enumerate(claims)
                for line in _row(row, result, claim)
            ),
            "</svg>\n",
        ]
    )


def _bound(height: int) -> Iterator[str]:
    x = _x(1)
    yield f'<line class="bound" x1="{x}" x2="{x}" y1="{TOP - 14}" y2="{height - 10}"/>'
    yield (
        f'<text class="faint" x="{x}" y="{TOP - 18}" text-anchor="middle">bound</text>'
    )


def _row(row: int, result: Result, claim: Claim) -> Iterator[str]:
    y = TOP + ROW * row
    kind = "holds" if claim.verdict == "holds" else "short"
    label = f"{result.line}: {claim.what}"
    if len(label) > 66:
        label = label[:65] + "…"
    yield f'<text x="16" y="{y + 11}">{escape(label)}</text>'
    end = _x(claim.reach)
    yield (
        f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{max(end - LEFT, 2)}" '
        f'height="{BAR}" rx="2"/>'
    )
    if claim.measured is not None:
        middle = told(claim.measured, claim.unit).partition(" (")[0]
        yield f'<text x="{end + 6}" y="{y + 11}">{escape(middle)}</text>'


def _x(reach: float) -> int:
    """Place by ratio: twice as good is as far from the bound as half as good."""
    nearest = 1 / 4
    bounded = min(max(reach, nearest), FARTHEST)
    share = math.log(bounded / nearest) / math.log(FARTHEST / nearest)
    return round(LEFT + share * (WIDTH - RIGHT - LEFT))
