"""Noisy descent near the edge: the valley, its path, and what is measured on a network's mini-batches."""

from itertools import combinations

import numpy as np
import pytest
import torch

from gfm.errors import InputError
from gfm.experiments.both.noise import NoisyPath, NoisyValley, noise_for
from gfm.experiments.both.noisy_network import NoisyNetwork, measured
from gfm.store import Context


def test_the_valley_rests_where_the_noise_was_made_for():
    run = NoisyValley(slopes=((20.0, 0.05), (5.0, 0.05)), gaps=(4.0, 8.0), seeds=40, steps=8000)
    found = run.compute(Context()).arrays
    assert found["rise"].tolist() == [20, 20, 5, 5] and found["noise"] == pytest.approx(
        [noise_for(gap, 0.02, b, 0.05) for b in (20.0, 5.0) for gap in (4.0, 8.0)])
    gap = 100 - found["sharpness"].mean(1)
    assert gap[:2] == pytest.approx([4, 8], rel=0.05)
    assert found["variance"][:2].mean(1) == pytest.approx(2 * 0.05 / 20, rel=0.05)
    assert found["balance"].mean(1) == pytest.approx(found["noise"], rel=0.05)
    assert 0.7 < found["spread"][0].mean() < 1.1  # the root of b c is 1
    again = run.compute(Context()).arrays
    assert all(np.array_equal(found[name], again[name]) for name in found)


def test_noise_and_gap_belong_together():
    s2 = noise_for(np.array([1.0, 10.0]), 0.02, 20.0, 0.05)
    S = 100 - np.array([1.0, 10.0])
    assert s2 * 20.0**2 / (2 * S * 20.0 * 0.05) == pytest.approx([1.0, 10.0])


def test_the_flow_follows_the_runs_and_the_central_flow_is_its_limit():
    run = NoisyPath(gaps=(4.0, 16.0), seeds=150, steps=2000, every=50, vanishing=(0.6, 0.06))
    found = run.compute(Context()).arrays
    assert found["step"][:2].tolist() == [24.5, 74.5] and found["sharpness"].shape == (2, 40)
    assert np.abs(found["sharpness"] - found["flow_sharpness"]).max() < 0.6
    assert np.abs(found["variance"] / found["flow_variance"] - 1).mean() < 0.08
    assert 3 < found["error"][0] / found["error"][1] < 10


def each(w):
    """Four residuals of three weights, well curved."""
    a = torch.tensor([[1.0, 0.5, 2.0], [0.3, 2.0, -1.0], [2.0, -0.4, 0.6], [0.9, 1.1, -2.0]], dtype=torch.float64)
    targets = torch.tensor([0.2, 1.0, -0.5, 0.8], dtype=torch.float64)
    return 0.5 * (torch.tanh(a @ w) + 0.3 * (a @ w) ** 2 - targets) ** 2


def full(w):
    return each(w).mean()


def hessian(w):
    return torch.func.hessian(full)(w)


def sharpness(w):
    return torch.linalg.eigvalsh(hessian(w))[-1]


def test_what_is_measured_on_the_network():
    w, lr, size = torch.tensor([0.7, -0.1, 0.3], dtype=torch.float64), 0.2, 2
    found = measured(each, w.repeat(1, 100, 1), np.array([size]), lr)
    found = {name: values[0] for name, values in found.items()}
    lam, V = torch.linalg.eigh(hessian(w))
    u = V[:, -1]
    assert found["sharpness"] == pytest.approx(float(lam[-1])) and found["second"] == pytest.approx(float(lam[-2]))
    assert found["variance"] == pytest.approx(0, abs=1e-20) and found["loss"] == pytest.approx(float(full(w)))
    rise, slope = torch.func.grad(sharpness)(w), torch.func.grad(full)(w)
    rise = rise - (rise @ u) * u
    assert found["steepness"] == pytest.approx(float(rise @ rise))
    assert found["falls"] == pytest.approx(-float(slope @ rise))
    # All batches of two examples: their gradients' covariance.
    slopes = torch.func.jacrev(each)(w)
    batches = torch.stack([slopes[list(some)].mean(0) for some in combinations(range(4), size)])
    covariance = (batches - batches.mean(0)).T @ (batches - batches.mean(0)) / len(batches)
    assert found["noise"] == pytest.approx(float(u @ covariance @ u))
    # The other directions: iterate the covariance to rest, then differentiate what it adds to the loss.
    fast = [i for i in range(2) if 5 <= 100 * lr * lam[i]]
    assert fast, "the example needs another fast direction"
    kept = V[:, fast] @ V[:, fast].T
    step, rest = kept - lr * kept @ hessian(w) @ kept, torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(4000):
        rest = step @ rest @ step + lr**2 * kept @ covariance @ kept
    added = torch.func.grad(lambda v: 0.5 * (hessian(v) * rest).sum())(w)
    assert found["others"] == pytest.approx(float(added @ rise), rel=1e-6) and abs(found["others"]) > 1e-12


def test_the_displacement_along_the_top_direction_is_measured_about_the_windows_mean():
    w = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    u = torch.linalg.eigh(hessian(w))[1][:, -1]
    swing = torch.tensor([1e-4, -1e-4], dtype=torch.float64).repeat(50)
    found = measured(each, (w + swing[:, None] * u)[None], np.array([4]), 0.2)
    assert found["variance"][0] == pytest.approx(1e-8) and found["noise"][0] == 0


def test_the_network_stays_below_its_edge_further_on_smaller_batches():
    run = NoisyNetwork(batches=(48, 8), runs=2, steps=400, hidden=6)
    result = run.compute(Context())
    found = result.arrays
    assert result.info["p"] == 24 and found["batch"].tolist() == [48, 8]
    assert all(found[name].shape == (2, 2) for name in set(found) - {"batch"})
    assert (found["noise"][0] == 0).all() and (found["noise"][1] > 0).all()
    assert (found["sharpness"][1] < found["sharpness"][0]).all() and (found["loss"] < 0.5).all()
    assert found["sharpness"][0, 0] != found["sharpness"][0, 1]  # other initial weights


@pytest.mark.parametrize("wrong", [
    (NoisyValley, {"lr": 0.0}), (NoisyValley, {"gaps": (60.0,)}), (NoisyValley, {"gaps": ()}),
    (NoisyValley, {"start": 100.0}), (NoisyPath, {"seeds": 0}), (NoisyPath, {"steps": 1001}),
    (NoisyNetwork, {"batches": (49,)}), (NoisyNetwork, {"batches": ()}),
    (NoisyNetwork, {"batches": (2.5,)}), (NoisyNetwork, {"steps": 300}),
    (NoisyNetwork, {"steps": 4050}), (NoisyNetwork, {"lr": -1.0}), (NoisyNetwork, {"window": 5}),
])
def test_impossible_values_are_refused(wrong):
    kind, values = wrong
    with pytest.raises(InputError):
        kind(**values)
