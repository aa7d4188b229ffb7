"""Steepest descent in the maximum norm: its sharpness, the bound on it, and the runs."""

import numpy as np
import pytest
import torch

from gfm.central.stationary.program import first_term
from gfm.errors import InputError
from gfm.experiments.both.max_norm import MOST, MaxNormDescent, max_norm_sharpness
from gfm.store import Context


def test_the_sharpness_is_the_largest_over_the_corners_and_the_bound_holds():
    draw = np.random.default_rng(0)
    for p in (2, 5, 8):
        root = draw.standard_normal((p, p))
        H = root @ root.T
        corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * p)).reshape(p, -1)
        found = max_norm_sharpness(H)
        assert found == pytest.approx(np.einsum("is,ij,js->s", corners, H, corners).max())
        inside = draw.uniform(-1, 1, (p, 2000))
        assert np.einsum("is,ij,js->s", inside, H, inside).max() <= found
        assert 2 / np.pi <= found / (2 * first_term(H).P.sum()) <= 1 + 1e-6


def test_too_many_weights_are_refused():
    with pytest.raises(InputError, match=f"at most {MOST} weights"):
        max_norm_sharpness(np.eye(MOST + 1))


def test_a_step_moves_every_weight_by_the_same_amount_and_lowers_the_loss_below_the_edge():
    run = MaxNormDescent(lr=0.02, steps=40, every=2, runs=2)
    found = run.compute(Context()).arrays
    assert found["step"].tolist() == list(range(0, 41, 2)) and found["loss"].shape == (2, 21, 2)
    assert (run.lr * found["sharpness"] < 2).all() and (np.diff(found["loss"].reshape(2, -1)) < 0).all()
    assert (found["sharpness"] <= found["bound"] * (1 + 1e-6)).all()
    # All rows in order of the steps, from all starts: the second run begins elsewhere.
    assert found["loss"][0, 0, 0] != found["loss"][1, 0, 0]


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"steps": 0}, {"every": 1}, {"runs": 0}, {"hidden": 5}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(InputError):
        MaxNormDescent(**wrong)


def test_the_callers_random_numbers_are_left_alone():
    before = torch.get_rng_state()
    MaxNormDescent().problem()
    assert torch.equal(torch.get_rng_state(), before)
