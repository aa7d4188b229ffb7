"""The barrier that mini-batch noise puts in the place of the edge of stability."""

import numpy as np
import pytest
import torch

from gfm.central.barrier import barrier_flow, barrier_variance, gap_at_rest
from gfm.central.closed_form import gradient_descent_variance
from gfm.errors import InputError

B, C, LR, START = 20.0, 0.05, 0.02, 80.0


def sharpness(w):
    return START + B * w[:, 1]


def gradient(w):
    return torch.stack([sharpness(w) * w[:, 0], B * w[:, 0] ** 2 / 2 - C], 1)


def rise(w):
    return torch.tensor([0.0, B], dtype=w.dtype).expand_as(w)


def flow(times, noise, rtol=1e-7):
    start = torch.zeros(len(noise), 2, dtype=torch.float64)
    times, noise = torch.tensor(times, dtype=torch.float64), torch.tensor(noise, dtype=torch.float64)
    return barrier_flow(start, times, gradient, sharpness, rise, lr=LR, noise=noise, rtol=rtol)


def test_the_variance_is_where_a_noisy_step_rests():
    for S, s2 in ((30.0, 2.0), (99.0, 0.1)):
        variance = 0.0
        for _ in range(3000):
            variance = (1 - LR * S) ** 2 * variance + LR**2 * s2
        found = barrier_variance(torch.tensor(S, dtype=torch.float64), LR, s2)
        assert float(found) == pytest.approx(variance, rel=1e-9)


def test_the_variance_is_large_but_positive_at_and_beyond_the_edge():
    assert (barrier_variance(torch.tensor([100.0, 120.0]), LR, 1.0) > 1e6).all()


def test_at_rest_the_barrier_gives_the_central_flows_variance():
    slope, rising = torch.tensor([0.3, -0.2, 0.1]), torch.tensor([1.0, 4.0, -2.0])
    gap = gap_at_rest(-(slope @ rising), rising @ rising, torch.tensor(90.0), torch.tensor(0.7))
    assert 0.7 / (90.0 * float(gap)) == pytest.approx(gradient_descent_variance(slope, rising), rel=1e-6)


def test_the_flow_moves_as_its_equation_says_and_comes_to_rest_at_the_gap():
    noise = [0.5, 3.0]
    times = [0.0, 100.0, 100.01, 30000.0]
    path, variance = flow(times, noise, rtol=1e-11)
    assert path.shape == (4, 2, 2) and variance.shape == (4, 2)
    moved = (path[2] - path[1]) / 0.01
    S = START + B * path[1, :, 1]
    expected = -LR * (-C + 0.5 * torch.tensor(noise) / (S * (2 / LR - S)) * B)
    assert np.allclose(moved[:, 1], expected, rtol=1e-4) and (path[..., 0] == 0).all()
    assert np.allclose(variance[-1], 2 * C / B, rtol=1e-6)
    S = START + B * path[-1, :, 1]
    rest = gap_at_rest(torch.tensor(B * C), torch.tensor(B**2), S, torch.tensor(noise, dtype=torch.float64))
    assert np.allclose(2 / LR - S, rest, rtol=1e-6)


def test_little_noise_gives_the_central_flow():
    times = np.linspace(0, 2000, 401)
    central = np.minimum(START + LR * B * C * times, 2 / LR)
    off = [np.abs(START + B * flow(times, [s2])[0][:, 0, 1].numpy() - central).max() for s2 in (0.1, 0.01)]
    assert off[1] < 0.2 * off[0] < 0.2


def test_impossible_flows_are_refused():
    with pytest.raises(InputError, match="positive variance"):
        flow([0.0, 1.0], [1.0, 0.0])
    times, noise = torch.tensor([0.0, 1.0]), torch.ones(1)
    for start, lr, words in ((torch.ones(1, 2), LR, "starts where"), (torch.zeros(1, 2), 0.0, "lr")):
        with pytest.raises(InputError, match=words):
            barrier_flow(start, times, gradient, sharpness, rise, lr=lr, noise=noise)
