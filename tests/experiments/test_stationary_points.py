"""Stationary points along a stored run: what they cost is kept, and a changing learning rate is refused."""

import numpy as np
import pytest

from gfm.errors import InputError
from gfm.experiments.central import stationary_points
from gfm.experiments.central.stationary_points import LARGER, StationaryPaths, StationaryPoints, remembered
from gfm.store import Context

RUN = {
    "n": 20, "hidden": (2,), "optimizer": "rmsprop", "lr": 2e-3, "eps": 1e-6, "bias_correction": True, "steps": 2,
    "warmup": 2, "keep_weights": 1, "coordinates": 10**4, "processes": ("discrete", "central"), "eigen_every": 2,
}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("GFM_STORE", str(tmp_path))


def test_costs_are_those_of_the_points_and_paths(store):
    points = StationaryPoints.from_parameters(**RUN, every=1).compute(Context())
    p = points.info["p"]
    assert list(points.arrays["step"]) == [0, 1, 2]
    assert points.arrays["lagged"][0] == pytest.approx(1) and len(points.arrays["speed_limit"]) == len(LARGER)
    # Three dense Hessians, each on a point of its own and with fewer copies for its last rows, and three gradients.
    assert (points.info["gradients"], points.info["hvps"], points.info["thirds"]) == (6, 3 * p, 0)
    paths = StationaryPaths.from_parameters(**RUN, start=0, length=1).compute(Context()).info
    assert paths["hvps"] >= 4 * p and paths["thirds"] > 0 and paths["gradients"] >= 8
    assert paths["seconds"] > 0


def test_outputs_along_both_paths_start_where_the_flow_is(store):
    found = StationaryPaths.from_parameters(**RUN, start=0, length=1, outputs=1).compute(Context()).arrays
    flow = StationaryPaths.from_parameters(**RUN, outputs=1).run()["central"]
    for name in ("full", "ablated"):
        outputs = found[f"{name}_outputs"]
        assert outputs.shape == (2, flow.outputs.shape[1])
        assert outputs[0] == pytest.approx(flow.outputs[0])
        assert not (outputs[1] == outputs[0]).all()


def test_a_learning_rate_that_changes_is_refused():
    with pytest.raises(InputError, match="leave schedule at constant"):
        StationaryPoints.from_parameters(**RUN, schedule="cosine").compute(Context())


@pytest.mark.parametrize(("change", "words"), [
    ({"keep_weights": 2, "every": 3}, "multiple of keep_weights"), ({"every": 0}, "every must be a whole number"),
    ({"every": 1, "first": -1}, "first must be a whole number"), ({"every": 1, "first": 9}, "kept from first on"),
    ({"every": 1, "coordinates": 0}, "recorded 0 of"),
])
def test_checkpoints_that_there_are_not_are_refused(store, change, words):
    with pytest.raises(InputError, match=words):
        StationaryPoints.from_parameters(**{**RUN, **change}).compute(Context())


def test_nu_is_held_against_what_it_remembers_of_all_checkpoints_before(store, monkeypatch):
    calls = []

    def heard(*given):
        calls.append((*given, remembered(*given)))
        return calls[-1][-1]

    monkeypatch.setattr(stationary_points, "remembered", heard)
    experiment = StationaryPoints.from_parameters(**RUN | {"steps": 4, "keep_weights": 2}, every=2)
    found, nu = experiment.compute(Context()).arrays, experiment.run()["central"].nu_at
    (start, first, second, *options, average), (later, before, third, *again, last) = calls
    assert found["step"].tolist() == [0, 2, 4] and options == again == [2, 0.99]
    assert start == pytest.approx(nu[0] / (1 - 0.99**3))  # corrected for bias, after two steps of warm-up and its own
    assert later is average and (before == second).all() and (first != second).any() and (second != third).any()
    seen = nu[4] / (1 - 0.99**7)
    expected = [seen @ held / np.linalg.norm(seen) / np.linalg.norm(held) for held in (third, last)]
    assert [found["cosine"][2], found["lagged"][2]] == pytest.approx(expected)


def test_the_limit_is_that_of_ever_larger_learning_rates(store):
    found = StationaryPoints.from_parameters(**RUN, every=1).compute(Context()).arrays
    off = np.abs(found["speed_limit"] / found["speed_first"][-1] - 1)
    assert (np.diff(off) < 0).all() and off[-1] < 1e-3 < off[0]


@pytest.mark.parametrize(("steps", "beta2"), [(0, 0.9), (2.5, 0.9), (5, 1.0), (5, 0.0)])
def test_a_memory_of_no_steps_is_refused(steps, beta2):
    with pytest.raises(InputError):
        remembered(np.ones(2), np.ones(2), np.ones(2), steps, beta2)


def test_a_memory_follows_its_target_as_the_second_moment_does():
    """Against the update nu <- nu + (1 - beta2) / beta2 dt (target - nu) in many small steps."""
    before, now, average = np.array([1.0, 2.0]), np.array([2.0, 0.5]), np.array([0.5, 0.5])
    rate, small = 0.1 / 0.9, 1e-4
    expected = average.copy()
    for t in np.arange(0, 20, small):
        expected += small * rate * (before + (now - before) * t / 20 - expected)
    assert remembered(average, before, now, 20, 0.9) == pytest.approx(expected, rel=1e-3)
