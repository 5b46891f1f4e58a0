"""The table and the chart."""

# ruff: noqa: RUF001

from pathlib import Path
from xml.etree import ElementTree

from bench.chart import chart
from bench.machine import Machine, commit
from bench.measure import Claim, Result, Spread
from bench.report import page, said

CHECKOUT = Path(__file__).parents[2]
RESULTS = [
    Result(
        "receiver",
        "Receiver",
        [
            Claim("requests/s", Spread(11, 12, 13), at_least=10),
            Claim("p99 <low>", Spread(4, 5, 6), at_least=8),
            Claim("the peer", None, at_least=2, why_not="fastapi is not installed"),
            Claim("the sweep", Spread(40, 50, 60), unit="ms"),
        ],
        [("the peer", "1,000 /s")],
    )
]


def test_a_bound_that_is_missed_is_told_by_how_much():
    assert said(RESULTS[0].claims[1]) == (
        "5.00× (4.00 – 6.00), at least 8.00×: falls short by 38%"
    )


def test_what_was_not_measured_says_why():
    assert said(RESULTS[0].claims[2]) == "not measured: fastapi is not installed"


def test_what_has_no_bound_has_no_verdict():
    assert said(RESULTS[0].claims[3]) == "50.0 ms (40.0 – 60.0)"


def test_the_page_tells_results_machine_command_and_commit():
    machine = Machine(CHECKOUT, "make bench", "17.10", "fsync sleeps", "load.c", "9")
    text = page(RESULTS, machine)
    for words in (
        "| requests/s | 12.0× (11.0 – 13.0) | at least 10.0× | holds |",
        "| p99 <low> | 5.00× (4.00 – 6.00) | at least 8.00× | falls short by 38% |",
        "| the peer | fastapi is not installed | at least 2.00× | not measured |",
        "| the peer | 1,000 /s |",
        "`make bench`",
        commit(CHECKOUT),
        "procrastinate 3.",
    ):
        assert words in text


def test_the_chart_is_an_svg_that_knows_light_and_dark():
    drawn = chart(RESULTS)
    root = ElementTree.fromstring(drawn)  # noqa: S314
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in drawn
    bars = [one.get("class") for one in root if one.tag.endswith("rect")]
    assert bars == ["holds", "short"]


def test_a_bar_that_holds_ends_behind_the_bound_and_one_that_does_not_before():
    root = ElementTree.fromstring(chart(RESULTS))  # noqa: S314
    bound = next(float(one.get("x1")) for one in root if one.tag.endswith("line"))
    ends = [
        float(one.get("x")) + float(one.get("width"))
        for one in root
        if one.tag.endswith("rect")
    ]
    assert ends[0] > bound > ends[1]
