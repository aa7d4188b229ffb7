"""Intervals over replicates, against closed forms and another library."""

import math

import numpy as np
import pytest
from scipy import stats

from gfm.errors import InputError
from gfm.measures.intervals import SEEDS, by_claim, interval, ratio, ratio_text, seeds_rows, worse_end


def test_interval_is_that_of_the_t_test():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=10)
    mean, low, high = interval(values)
    known = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((values.mean(), known.low, known.high))


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = [low < 0 < high for _, low, high in (interval(rng.normal(size=5)) for _ in range(2000))]
    assert 0.93 < np.mean(inside) < 0.97


def test_pairing_removes_what_the_replicates_share():
    shared = np.exp(np.random.default_rng(2).normal(0, 3, size=10))
    assert ratio(0.5 * shared, shared) == pytest.approx((0.5, 0.5, 0.5))
    one, low, high = ratio(np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 2.0]))
    assert one == pytest.approx(1.0) and low == pytest.approx(1 / high)


def test_two_replicates_have_no_interval():
    assert np.isnan(interval(np.array([1.0, 2.0]))[1:]).all()
    assert ratio_text(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == "0.50"


def test_large_ratios_are_written_short():
    ours = np.array([1.0, 1.1, 0.9])
    assert ratio_text(ours, np.ones(3)) == "1.00 [0.78, 1.28]"
    assert ratio_text(1e-5 * ours, np.ones(3)) == "below 0.005"
    assert ratio_text(1e9 * ours, np.ones(3)) == "10⁹ [7.8·10⁸, 1.3·10⁹]"


@pytest.mark.parametrize("values", [[], [np.nan, 1.0, 2.0], [[1.0, 2.0]]])
def test_no_interval_of_nothing(values):
    with pytest.raises(InputError):
        interval(np.array(values))


def test_ratios_need_pairs_of_positive_errors():
    for theirs in ([1.0], [1.0, 0.0]):
        with pytest.raises(InputError):
            ratio(np.array([1.0, 1.0]), np.array(theirs))


def test_the_worse_end_over_seeds():
    five = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert worse_end(five) == interval(np.array(five))[2] and worse_end(five, low=True) == interval(np.array(five))[1]
    assert worse_end(five, around=4.0) == interval(np.array(five))[1] and worse_end([0.5, 1.2], around=1.0) == 0.5
    assert worse_end([1.0, 2.0]) == 2.0 and worse_end([1.0, 2.0], low=True) == 1.0  # too few for an interval
    assert worse_end([1.0, 2.0, math.inf, 3.0]) == math.inf
    assert worse_end([*five, "too short"]) == worse_end(five)
    assert worse_end(["too short", 1.0]) == "too short"
    assert worse_end(["too short"]) == "too short"
    assert worse_end([*five, math.nan]) == worse_end(five) and math.isnan(worse_end([1.0, math.nan]))


def test_rows_over_seeds():
    values = {"A": [1.0, 2.0, 3.0], "B": 3 * ["too short"], "C": [math.inf, 1.0, 1.0], "D": [1.0, math.nan, "short"]}
    each = [{name: column[seed] for name, column in values.items()} for seed in range(3)]
    assert by_claim(each) == values
    rows = seeds_rows(values)
    assert all(len(row) == len(SEEDS) for row in rows)
    assert rows == [["A", "2", "−0.484 to 4.48", "1 to 3", "3"], ["B", "not judged", "", "", "0"],
                    ["C", "∞", "", "", "3"], ["D", "1", "", "1 to 1", "1"]]
