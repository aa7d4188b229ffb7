"""Units of the frame: of a run, of a layer, of a part of either."""

from dataclasses import replace

import numpy as np
import pytest

from gfm import Trajectories
from gfm.errors import InputError
from gfm.forecasting.series import from_series
from gfm.matching import AffineFlow, Conditioning, Frame, Solver
from gfm.matching.frame import units_of

GROUPS = ["0.weight", "0.weight", "0.bias", "2.weight", "2.weight"]


def runs(seed=0, count=12, states=31):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(count, states, 5)) * [1, 1, 1, 100, 100], axis=1)


def test_units_are_the_root_mean_square_movement():
    prefix = runs()
    moved = prefix[:, -1] - prefix[:, 0]
    np.testing.assert_allclose(units_of(prefix, "run"), np.sqrt(np.mean(moved**2, axis=1, keepdims=True)))
    units = units_of(prefix, "layer", groups=GROUPS)
    for part in (slice(0, 3), slice(3, 5)):  # weights and biases of a layer together
        expected = np.sqrt(np.mean(moved[:, part] ** 2, axis=1, keepdims=True))
        np.testing.assert_allclose(units[:, part], np.broadcast_to(expected, units[:, part].shape))
    np.testing.assert_allclose(units_of(prefix, "layer", 2, GROUPS), units)


def test_the_frame_goes_in_and_out_again():
    weights = runs()
    for scale in ("none", "run", "layer"):
        frame = Frame.of(weights[:, :11], scale, groups=GROUPS)
        inside = frame.inward(weights)
        np.testing.assert_allclose(inside[:, 10], 0, atol=1e-12)
        np.testing.assert_allclose(frame.outward(inside), weights)


def test_a_context_holds_where_a_weight_was_where_it_is_and_one_in_the_runs_unit():
    weights = runs()[:, :11]
    frame, unit = Frame.of(weights, "run"), units_of(weights, "run")
    whole = from_series(frame.context("prefix"), 5)
    np.testing.assert_allclose(whole[:, :10], (weights[:, :10] - weights[:, 10:]) / unit[:, None])
    np.testing.assert_allclose(whole[:, 10], weights[:, 10] / unit)
    np.testing.assert_allclose(whole[:, 11:], np.broadcast_to(1 / unit[:, None], (12, 1, 5)))
    np.testing.assert_array_equal(from_series(frame.context("ends"), 5), whole[:, [0, 10, 11]])


def test_a_layers_forecast_scales_with_the_layer():
    """Multiplying one layer's steps by a number multiplies its forecast steps, and no other's."""
    data = Trajectories(runs(count=20), groups=GROUPS)
    model = AffineFlow(10, view="coordinate", conditioning=Conditioning(scale="layer")).fit(data)
    prefix = runs(seed=1)[:, :11]
    prefix -= prefix[:, -1:]  # at the origin, so that scaling leaves the place alone
    larger = prefix * np.array([1, 1, 1, 7, 7])
    one, other = (model.forecast(Trajectories(p, groups=GROUPS)) for p in (prefix, larger))
    np.testing.assert_allclose(other[..., :3], one[..., :3], atol=1e-9)
    assert not np.allclose(other[..., 3:], one[..., 3:])
    model.options = replace(model.options, solver=Solver(memory=2**20))
    np.testing.assert_allclose(model.forecast(Trajectories(prefix, groups=GROUPS)), one, atol=1e-9)


def test_layers_need_labels_and_scales_a_known_name():
    with pytest.raises(InputError, match="groups"):
        units_of(runs(), "layer")
    with pytest.raises(InputError, match="scale"):
        units_of(runs(), "neuron")
