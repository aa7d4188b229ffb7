"""Where the derived and the learned flow meet: runs at the edge, their average paths and forecasts."""

import numpy as np
import pytest

from gfm import Trajectories
from gfm.experiments.both.edge_forecasts import DIRECTIONS, LEARNED, TITLES, EdgeForecast, Extrapolation
from gfm.store.experiment import Context

TINY = {"lr": 0.2, "noise": 0.0, "n": 40, "hidden": (4,), "start": 100, "steps": 48, "observed": 20, "sigma": 2,
        "tested": 2}


def test_the_average_path_is_free_of_the_oscillation_and_needs_its_margin():
    runs = EdgeForecast(**TINY)
    time = np.arange(-runs.margin, runs.steps + runs.margin + 1)
    path, swing = 0.01 * time, 0.5 * (-1.0) ** time
    found = runs.smoothed((path + swing)[None, :, None])[0, :, 0]
    np.testing.assert_allclose(found, path[runs.margin : -runs.margin], atol=2e-3)
    assert len(found) == runs.steps + 1


@pytest.mark.no_cover
def test_the_forecasts_of_a_replicate():
    # Both test runs of this replicate swing at the edge.
    found = EdgeForecast(**TINY, fitted=2, held=1, replicate=7, epochs=1).compute(Context())
    horizon, blocks = 28, 2
    assert set(found.info["cost"]) == set(TITLES)
    for name in TITLES:
        assert found.arrays[f"error/{name}"].shape == found.arrays["error/hold"].shape == (2, horizon)
        assert found.arrays[f"cosine/{name}"].shape == (2, blocks)
        assert np.isfinite(found.arrays[f"error/{name}"]).all()
    for name in LEARNED:
        assert (np.abs(found.arrays[f"field/{name}"]) <= 1 + 1e-9).all()
        assert found.info["cost"][name] >= (2 + 1) * (100 + 48)
    error = {name: found.arrays[f"error/{name}"][:, -1].mean() for name in ("derived", "hold")}
    assert error["derived"] < 0.05 * error["hold"] and (found.arrays["cosine/derived"] > 0.9).all()
    assert found.info["cost"]["averaged path"] > found.info["cost"]["raw"]  # the central flows are paid for


def test_other_replicates_are_other_networks():
    one, other = (Extrapolation(**TINY, replicate=number).record(2) for number in (0, 1))
    assert one.shape == other.shape and one.shape[:2] == (2, 48 + 2 * 6 + 1)
    assert not np.isclose(one, other).all(axis=(1, 2)).any()
    assert (Extrapolation(**TINY).record(2) == one).all()


@pytest.mark.parametrize("name", DIRECTIONS)
def test_a_direction_looks_through_an_oscillation_unless_its_distance_is_odd(name):
    time = np.arange(17.0)
    drift, swing = np.array([1.0, 0.0]), np.array([0.0, 5.0])
    window = time[:, None] * drift + ((-1.0) ** time)[:, None] * swing
    ways = DIRECTIONS[name](Trajectories(window[None]))
    off = np.abs((ways[-1] - ways[-2])[1])
    assert off > 5 if "odd" in name else off < 1e-9
    half = 9 if "averaged" in name else 8  # the middles of the first and the last eight of 17 states
    np.testing.assert_allclose((ways[-1] - ways[-2])[0], 2 * half)


def test_jumps_at_the_edge_shorten_the_way():
    runs = Extrapolation(**TINY | {"steps": 60})
    found = runs.compute(Context()).arrays
    for name in DIRECTIONS:
        assert (found[f"cost/{name}"] >= found[f"steps/{name}"]).all() and (found[f"steps/{name}"] > 0).all()
    assert (found["steps/averaged halves"] < found["steps/alone"]).all()
