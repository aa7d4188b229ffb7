"""Rules and closed forms on motions that they continue exactly, and the training loop's promises."""

import numpy as np
import pytest
import torch
from torch import nn

from gfm import Trajectories
from gfm.errors import InputError, NumericalError
from gfm.forecasters import (
    LFD2,
    OLS,
    DynamicModes,
    FitReport,
    Geometric,
    Linear,
    LinearEnds,
    Quadratic,
)
from gfm.forecasting.training import Training, train_module

t = np.arange(31)[None, :, None]
rng = np.random.default_rng(3)


def error(forecaster, weights):
    data = Trajectories(weights)
    return np.abs(forecaster.fit(data).forecast(data.prefix(10)) - weights[:, 11:]).max()


def test_straight_lines():
    weights = rng.normal(size=(4, 1, 2)) + t * rng.normal(size=(4, 1, 2))
    assert error(Linear(10), weights) < 1e-12
    assert error(LinearEnds(10), weights) < 1e-12
    assert error(Quadratic(10), weights) < 1e-11


def test_parabolas():
    weights = rng.normal(size=(4, 1, 2)) + t * rng.normal(size=(4, 1, 2)) + t**2 * 0.1
    assert error(Quadratic(10), weights) < 1e-9
    assert error(Linear(10), weights) > 1


def test_one_exponential_by_aitken_and_three_by_modes():
    one = 1 + rng.normal(size=(4, 1, 2)) * 0.9**t
    assert error(Geometric(10), one) < 1e-10
    rates = np.array([0.95, 0.8, 0.6])
    three = 1 + np.einsum("rjp,jt->rtp", rng.normal(size=(4, 3, 6)), rates[:, None] ** t[0, :, 0])
    assert error(Geometric(10), three) > 1e-4
    assert error(DynamicModes(10, rank=4), three) < 1e-6


def test_ols_equals_the_normal_equations_where_these_are_sound():
    weights = rng.normal(size=(40, 31, 1))
    data = Trajectories(weights)
    ours = OLS(10, columns=(0, 5, 10)).fit(data).coefficients
    x = np.hstack([weights[:, [0, 5, 10], 0], np.ones((40, 1))])
    expected = np.linalg.solve(x.T @ x, x.T @ weights[:, 11:, 0])
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError):
        OLS(10, columns=(0, 11)).fit(data)


def test_lfd_penalty_is_zero_exactly_for_shrinking_steps():
    model = LFD2(10, penalty=1.0)
    observed = torch.zeros(1, 11)
    shrinking = torch.tensor([[1.0, 1.5, 1.75]])
    growing = torch.tensor([[1.0, 2.5, 1.75]])
    assert model._penalty(observed, shrinking) == 0
    assert model._penalty(observed, growing) == pytest.approx((0.5 + 0) / 2)


def line_problem():
    x = torch.linspace(-1, 1, 20)[:, None]
    net = nn.Linear(1, 1)
    return net, lambda i, _: (net(x[i]) - 3 * x[i]).square().mean()


def test_training_restores_the_best_state_and_has_a_patience():
    net, loss = line_problem()
    states = []

    def validate():  # gets worse from the third epoch on
        states.append(net.weight.item())
        return abs(len(states) - 3.0)

    report = FitReport()
    train_module(net, loss, 20, validate, Training(epochs=100, patience=7), report)
    assert report.epochs == 3 + 7 and report.best_epoch == 3
    assert net.weight.item() == states[2]
    assert len(report.train) == len(report.validation) == 10
    assert report.parameters == 2


def test_training_refuses_to_go_on_without_numbers():
    net, loss = line_problem()
    with pytest.raises(NumericalError):
        train_module(
            net, lambda i, g: loss(i, g) * float("nan"), 20, lambda: 0.0, Training(), FitReport()
        )
    with pytest.raises(InputError):
        Training(rate=0.0)
    with pytest.raises(InputError):
        Training(patience=0)
