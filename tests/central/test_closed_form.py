"""The closed form of Scalar RMSProp: against the flow's own solver, its limits, and finite differences."""

import math

import pytest
import torch
from toys import tiny_problem

from gfm.central.closed_form import (
    effective_sharpness_rate,
    gradient_descent_variance,
    normalised_variance,
    penalty_share,
    scalar_rmsprop_variance,
)
from gfm.central.substep import local_flow
from gfm.errors import InputError
from gfm.optimizers import ScalarRMSProp, State

LR, BETA2 = 0.3, 0.95


@pytest.fixture(scope="module")
def edge():
    """A point of a tiny network after some training: loss gradient, sharpness, its gradient, direction."""
    problem = tiny_problem()
    w = problem.w0
    for _ in range(60):
        w = w - 0.1 * problem.gradient(w)
    values, vectors = problem.top_eigenpairs(w, 1, tolerance=1e-12)
    u = vectors[:, 0]
    return problem, w, problem.gradient(w), float(values[0]), problem.third(w, u, u), u


@pytest.mark.parametrize("beta2", [0.0, 0.5, 1.0])
def test_where_nothing_pushes_towards_the_edge_there_is_no_oscillation(edge, beta2):
    """Descent lowers the sharpness, and a gradient above lr S / 2 raises nu: the effective sharpness falls."""
    _, _, _, S, dS, _ = edge
    g = dS * (LR * S / float(dS.norm()))
    assert normalised_variance(g, S, LR) < 0 and gradient_descent_variance(g, dS) < 0
    assert scalar_rmsprop_variance(g, dS, S, LR, beta2) == 0.0


@pytest.mark.parametrize("beta2", [0.3, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("lr", [0.01, 0.1, 1.0])
def test_effective_sharpness_stands_still(edge, lr, beta2):
    _, _, g, S, dS, _ = edge
    sigma2 = scalar_rmsprop_variance(g, dS, S, lr, beta2)
    if sigma2 > 0:
        assert abs(effective_sharpness_rate(g, dS, S, lr, beta2, sigma2)) <= 1e-12
    else:
        assert effective_sharpness_rate(g, dS, S, lr, beta2, 0.0) <= 1e-12


def test_the_rate_is_the_derivative_along_the_flow(edge):
    problem, w, g, S, dS, _ = edge
    sigma2, h = 0.3 * LR**2, 1e-4
    nu = (LR * S / 2) ** 2
    w_rate = -(g + 0.5 * sigma2 * dS) * LR / math.sqrt(nu)
    nu_rate = (1 - BETA2) / BETA2 * (float(g @ g) + sigma2 * S**2 - nu)

    def log_effective(t):
        top = float(problem.top_eigenpairs(w + t * w_rate, 1, tolerance=1e-12)[0][0])
        return math.log(LR * top / math.sqrt(nu + t * nu_rate))

    slope = (log_effective(h) - log_effective(-h)) / (2 * h)
    assert effective_sharpness_rate(g, dS, S, LR, BETA2, sigma2) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("dt", [1.0, 0.1, 1e-3])
def test_the_complementarity_problem_says_the_same(edge, dt):
    """At the edge itself the time-stepping form has the closed form's solution for every substep."""
    problem, w, g, S, dS, u = edge
    optimizer = ScalarRMSProp(lr=LR, beta2=BETA2)
    state = State(t=1.0, nu=torch.tensor((LR * S / 2) ** 2, dtype=torch.float64))
    P = float(optimizer.preconditioner(state))
    rates = local_flow(problem.at(w), optimizer, state, u[None] / math.sqrt(P)).rates(dt)
    sigma2 = float(rates.oscillation.X[0, 0]) / P  # Sigma = X u u^T / P for the unit u
    expected = scalar_rmsprop_variance(g, dS, S, LR, BETA2)
    assert expected > 0
    assert sigma2 == pytest.approx(expected, rel=1e-8)
    nu_rate = (1 - BETA2) / BETA2 * (float(g @ g) + expected * S**2 - float(state.nu))
    assert float(rates.state.nu) == pytest.approx(nu_rate, rel=1e-8, abs=1e-12)
    assert torch.allclose(rates.w, -(g + 0.5 * expected * dS) / P, rtol=1e-8, atol=1e-12)


def test_the_two_limits(edge):
    _, _, g, S, dS, _ = edge
    descent, normalised = gradient_descent_variance(g, dS), normalised_variance(g, S, LR)
    assert scalar_rmsprop_variance(g, dS, S, LR, 1.0) == pytest.approx(max(0.0, descent), rel=1e-14)
    assert scalar_rmsprop_variance(g, dS, S, LR, 0.0) == pytest.approx(max(0.0, normalised), rel=1e-14)
    low, high = sorted((max(0.0, descent), max(0.0, normalised)))
    for beta2 in (0.1, 0.5, 0.9, 0.99, 0.9999):
        assert low - 1e-15 <= scalar_rmsprop_variance(g, dS, S, LR, beta2) <= high + 1e-15


@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.99, 1.0])
def test_it_rises_with_the_learning_rate(edge, beta2):
    _, _, g, S, dS, _ = edge
    values = [scalar_rmsprop_variance(g, dS, S, lr, beta2) for lr in (0.01, 0.1, 0.2, 0.3, 0.5, 1.0)]
    assert values == sorted(values)


@pytest.mark.parametrize(
    "change", [
        {"lr": 0.0}, {"lr": math.nan}, {"sharpness": -1.0}, {"beta2": 1.5}, {"sharpness_gradient": torch.zeros(3)}
    ]
)
def test_values_that_make_no_sense_are_refused(edge, change):
    _, _, g, S, dS, _ = edge
    values = {"gradient": g, "sharpness_gradient": dS, "sharpness": S, "lr": LR, "beta2": BETA2} | change
    with pytest.raises(InputError):
        scalar_rmsprop_variance(**values)


def test_a_flat_sharpness_cannot_be_held_by_the_weights_alone(edge):
    _, _, g, S, dS, _ = edge
    with pytest.raises(InputError, match="no gradient"):
        scalar_rmsprop_variance(g, 0 * dS, S, LR, 1.0)
    assert scalar_rmsprop_variance(g, 0 * dS, S, LR, 0.5) == pytest.approx(normalised_variance(g, S, LR))


@pytest.mark.parametrize("beta2", [0.5, 0.99])
def test_the_penalty_share_is_its_part_of_the_answer_to_more_variance(edge, beta2):
    """How much of the effective sharpness' answer to a variance is missing where grad S is zero."""
    _, _, g, S, dS, _ = edge

    def answer(slopes):
        rates = [effective_sharpness_rate(g, slopes, S, LR, beta2, sigma2) for sigma2 in (0.0, 1.0)]
        return rates[1] - rates[0]

    through_nu = answer(torch.zeros_like(dS))
    assert penalty_share(dS, S, LR, beta2) == pytest.approx(1 - through_nu / answer(dS), rel=1e-9)
    assert penalty_share(dS, S, 2 * LR, beta2) > penalty_share(dS, S, LR, beta2)


@pytest.mark.parametrize(("S", "lr", "beta2"), [(1.0, 0.1, 1.0), (1.0, 0.1, 0.0), (0.0, 0.1, 0.9), (1.0, -1.0, 0.9),
                                              (None, 0.1, 0.9), (1.0, "0.1", 0.9), (1.0, 0.1, None)])
def test_a_penalty_share_of_impossible_values_is_refused(S, lr, beta2):
    with pytest.raises(InputError, match="must be"):
        penalty_share(torch.ones(3), S, lr, beta2)


@pytest.mark.parametrize(("slopes", "words"), [
    (torch.ones(3, 2), "shape"), (torch.tensor(1.0), "shape"), (torch.full((3,), math.nan), "not finite"),
])
def test_a_penalty_share_needs_the_gradient_of_the_sharpness(slopes, words):
    with pytest.raises(InputError, match=words):
        penalty_share(slopes, 1.0, 0.1, 0.9)


def test_the_penalty_share_of_a_worked_example():
    """beta2 |grad S|^2 / 2 = 0.45 x 8 = 3.6 against (1 - beta2) S^2 / lr^2 = 0.1 x 4 / 0.25 = 1.6."""
    assert penalty_share(torch.tensor([2.0, 2.0]), 2.0, 0.5, 0.9) == pytest.approx(3.6 / 5.2)
