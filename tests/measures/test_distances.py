"""How far the optimizer ends from its central flow, against how far from the stable flow."""

import numpy as np
import pytest

from gfm.central import Run, Series
from gfm.measures.flow import distance_ratio


def run_of(far, loss=1.0):
    steps = len(far)
    series = {name: Series({"loss": np.ones(steps)}) for name in ("discrete", "stable")}
    series["central"] = Series({"loss": np.append(np.ones(steps - 1), loss)})
    distances = {"discrete-central": np.linspace(0.0, 0.4, steps), "discrete-stable": np.array(far)}
    return Run(series, distances, {}, {})


def test_it_is_taken_at_the_end():
    assert distance_ratio(run_of([0.0, 1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.1)


def test_a_stable_flow_that_stops_counts_until_then():
    assert distance_ratio(run_of([0.0, 1.0, 4.0, np.nan, np.nan])) == pytest.approx(0.2 / 4.0)


def test_a_central_flow_that_stops_is_infinitely_wrong():
    assert distance_ratio(run_of([0.0, 1.0, 2.0, 3.0, 4.0], loss=np.nan)) == np.inf
