"""What the bench says of what it has measured."""

# ruff: noqa: RUF001

import pytest

from bench.measure import Claim, Result, Spread, number, percentile, ratios, told


def test_a_spread_is_told_as_its_middle_and_its_ends():
    assert Spread.of([5, 1, 3]) == Spread(1, 3, 5)
    assert told(Spread(1, 3, 5), "ms") == "3.00 ms (1.00 – 5.00)"


def test_rounds_that_came_out_alike_are_told_once():
    assert told(Spread(1200, 1200, 1200), "/s") == "1,200 /s"


def test_nothing_measured_is_no_spread():
    with pytest.raises(ValueError, match="no round"):
        Spread.of([])


def test_ratios_are_taken_within_each_round():
    # The machine was half as fast in the second round, for both.
    assert ratios([100, 50], [10, 5]) == Spread(10, 10, 10)


def test_rounds_that_have_no_partner_are_not_compared():
    with pytest.raises(ValueError, match="zip"):
        ratios([100, 50], [10])


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("measured", "at_least", "at_most", "verdict"),
    [
        (10.0, 10.0, None, "holds"),
        (9.99, 10.0, None, "falls short"),
        (40.0, None, 40.0, "holds"),
        (40.1, None, 40.0, "falls short"),
        (0.0, None, 0.0, "holds"),
        (3.0, None, None, "shown"),
    ],
)
def test_a_claim_is_judged_by_its_bound(measured, at_least, at_most, verdict):
    claim = Claim("it", Spread.of([measured]), at_least=at_least, at_most=at_most)
    assert claim.verdict == verdict


def test_the_middle_is_judged_and_not_the_best_round():
    claim = Claim("it", Spread.of([8, 9, 30]), at_least=10)
    assert claim.verdict == "falls short"
    assert claim.shortfall == pytest.approx(0.1)


def test_twice_the_bound_reaches_it_twice_whichever_way_is_better():
    assert Claim("it", Spread.of([20]), at_least=10).reach == 2
    assert Claim("it", Spread.of([20]), at_most=40).reach == 2


def test_a_ratio_without_its_peer_says_why():
    result = Result("line", "Line")
    result.compare("against it", [1.0], None, at_least=2, why_not="it is not installed")
    assert result.claims[0].verdict == "not measured"
    assert result.claims[0].why_not == "it is not installed"


@pytest.mark.parametrize(
    ("value", "text"),
    [(12345.6, "12,346"), (123.4, "123"), (12.34, "12.3"), (1.234, "1.23"), (0, "0")],
)
def test_numbers_are_as_short_as_their_size_allows(value, text):
    assert number(value) == text
