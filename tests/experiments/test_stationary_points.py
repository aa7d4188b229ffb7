"""Stationary points along a stored run: what they cost is kept, and a changing learning rate is refused."""

import pytest

from gfm.errors import InputError
from gfm.experiments.central.stationary_points import StationaryPaths, StationaryPoints
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
    # Three dense Hessians, each on a point of its own and with fewer copies for its last rows, and three gradients.
    assert (points.info["gradients"], points.info["hvps"], points.info["thirds"]) == (9, 3 * p, 0)
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
