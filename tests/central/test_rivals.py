"""Rod Flow and Edge Flow: closed forms, the formulas on a network, their costs, and who may use them."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from toys import quadratic, tiny_problem

import gfm
from gfm.central import Settings
from gfm.central.processes import PROCESSES
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.optimizers import Adam, GradientDescent, HeavyBall

LR = 0.1


class Quartic(nn.Module):
    def __init__(self, w=0.3):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([w], dtype=torch.float64))

    def forward(self, x):
        return x * self.w


def quartic(S, Q, w=0.3):
    one = torch.ones(1, 1, dtype=torch.float64)
    return gfm.Problem(Quartic(w), one, 0 * one, lambda out, _: (S * out**2 / 2 - Q * out**4 / 4).mean())


def process(name, problem, *, w=None, u=None, a=None, lr=LR, **settings):
    rule = GradientDescent(lr=lr)
    made = PROCESSES[name](problem, rule, Settings(**settings), problem.w0, rule.init(problem.w0))
    if w is not None:
        made.w, made.u, made.a = w, u, a
    return made


def go(made, steps):
    for t in range(steps):
        made.observe(t)
        made.advance()


@pytest.mark.parametrize("S", [4.0, 18.0, 21.0, 24.0])
@pytest.mark.parametrize("name", ["rod", "edge"])
def test_on_a_quadratic_the_swing_grows_by_its_closed_form(name, S):
    problem = quadratic([S, 1.0], [1.0, 1.0])
    zero = torch.zeros(2, dtype=torch.float64)
    made = process(name, problem, w=zero, u=torch.tensor([1.0, 0.0], dtype=torch.float64), a=1e-2)
    go(made, 3)
    if name == "rod":  # dSigma/dt = (lr^2 S^2 / 2 - 2) Sigma
        assert made.a**2 == pytest.approx(1e-4 * math.exp(3 * (LR**2 * S**2 / 2 - 2)), rel=1e-9)
    else:  # that of gradient descent
        assert made.a == pytest.approx(1e-2 * abs(1 - LR * S) ** 3, rel=1e-9)
    assert made.w.abs().max() < 1e-15 and made.u[0] == 1


@pytest.mark.parametrize("name, rate", [("rod", lambda x: x + x**2 / 2), ("edge", lambda x: x)])
def test_on_a_quadratic_the_centre_relaxes_at_its_rate(name, rate):
    """With g = S w and both Hessians S, dw/dt = -(lr S + lr^2 S^2 / 2) w for Rod and -lr S w for Edge."""
    S, w = 7.0, torch.tensor([0.4], dtype=torch.float64)
    made = process(name, quadratic([S], [1.0]), w=w, u=torch.ones_like(w), a=0.1)
    assert float(made.rates(made.ends())[0]) == pytest.approx(-rate(LR * S) * 0.4, rel=1e-12)


@pytest.mark.parametrize("name", ["rod", "edge"])
def test_on_a_quartic_it_rests_where_the_formula_says(name):
    """For S w^2 / 2 - Q w^4 / 4: Sigma = S / Q - 2 / (lr Q), where gradient descent has its two-cycle."""
    S, Q = 21.0, 3.0
    w, u = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    made = process(name, quartic(S, Q), w=w, u=u, a=0.1)
    go(made, 110)
    assert made.a**2 == pytest.approx(S / Q - 2 / (LR * Q), rel=1e-6)
    assert abs(float(made.w)) < 1e-12


def test_rods_equation_is_the_published_one():
    """With the smooth half step, the rank-one rates and the tangent projection add up to the equation for Sigma."""
    problem = tiny_problem(width=3)
    made = process("rod", problem, lr=0.5)
    made.a = 0.2
    ends, lr = made.ends(), 0.5
    delta = made.a * made.u
    plus, minus = problem.gradient(made.w + delta), problem.gradient(made.w - delta)
    H = dense_hessian(problem, made.w + delta) + dense_hessian(problem, made.w - delta)
    w_rate, u_rate, growth = made.rates(ends)
    assert torch.allclose(w_rate, -(lr / 2) * (plus + minus) - (lr**2 / 8) * H @ (plus + minus), rtol=1e-9)
    Sigma = torch.outer(delta, delta)
    published = (lr**2 / 4) * (torch.outer(plus, plus) + torch.outer(minus, minus)) - 2 * Sigma
    swing = published - (lr**2 / 2) * torch.outer(ends.mean, ends.mean)
    rate = made.a * (growth * made.u + u_rate)
    ours = torch.outer(rate, delta) + torch.outer(delta, rate)
    # The projection on the tangent space: P M + M P - P M P with P = u u^T.
    P = torch.outer(made.u, made.u)
    assert torch.allclose(ours, P @ swing + swing @ P - P @ swing @ P, rtol=1e-9, atol=1e-14)


def test_edges_equation_is_the_reconstructed_one():
    problem = tiny_problem(width=3)
    made = process("edge", problem, lr=0.5)
    made.a = 0.2
    delta = made.a * made.u
    plus, minus = problem.gradient(made.w + delta), problem.gradient(made.w - delta)
    Hu = dense_hessian(problem, made.w) @ made.u
    w_rate, u_rate, growth = made.rates(made.ends())
    assert torch.allclose(w_rate, -0.25 * (plus + minus))
    assert torch.allclose(u_rate, 0.5 * (Hu - (made.u @ Hu) * made.u), atol=1e-12)
    s = float(made.u @ (plus - minus)) / 0.4
    assert growth == pytest.approx(math.log(abs(1 - 0.5 * s)), rel=1e-9)


@pytest.mark.parametrize("name", ["rod", "edge"])
def test_the_swing_turns_to_the_top_eigenvector(name):
    made = process(name, quadratic([19.0, 8.0, 1.0], [0.1, 0.3, 2.0]))
    go(made, 20)
    assert abs(float(made.u[0])) > 1 - 1e-6


@pytest.mark.parametrize("name, gradients, products", [("rod", 2, 2), ("edge", 3, 1)])
def test_costs_are_those_of_its_substeps(name, gradients, products):
    problem = tiny_problem()
    found = gfm.central.run(problem, GradientDescent(lr=0.1), 5, processes=[name], substeps=4)[name]
    assert found.spent_gradients.tolist() == [1 + 2 + 4 * gradients * t for t in range(6)]
    assert found.spent_products.tolist() == [4 * products * t for t in range(6)]


def test_all_flows_run_under_one_interface():
    names = ("discrete", "central", "rod", "edge", "stable")
    found = gfm.central.run(tiny_problem(), GradientDescent(lr=0.5), 6, processes=names, keep_weights=1)
    for name in names:
        series = found[name]
        assert series.weights.shape == (7, 433) and np.isfinite(series.loss).all()
        assert np.isfinite(series.eigenvalues[:, 0]).all() and found.costs[name]["gradients"] > 0
    for name in ("rod", "edge"):
        assert found[name].sigma.shape == found[name].displacement.shape == (7, 1)
        assert (found[name].predicted_loss >= found[name].loss - 1e-6).all()
        assert found[name].weights[0].tolist() == found["central"].weights[0].tolist()


def test_sigma_has_the_central_flows_unit():
    """Two runs with the same weights have a displacement u^T (w - w) = 0; sigma = a^2 / lr."""
    w, u = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    made = process("rod", quadratic([19.0, 1.0], [1.0, 1.0]), w=w, u=u, a=0.3)
    assert made.variance == pytest.approx(0.09 / LR)
    assert made.displacement(torch.tensor([0.3, 5.0], dtype=torch.float64)) ** 2 == pytest.approx(made.variance)


@pytest.mark.parametrize("rule", [HeavyBall(lr=0.1), Adam(lr=0.01)])
def test_other_rules_are_refused(rule):
    with pytest.raises(InputError, match="'edge' follows gradient descent only, not " + type(rule).__name__):
        gfm.central.run(tiny_problem(), rule, 2, processes=("discrete", "edge"))


def test_a_swing_that_leaves_all_bounds_stops():
    found = gfm.central.run(quartic(30.0, -900.0, 5.0), GradientDescent(lr=0.1), 40, processes=("rod",))
    assert np.isfinite(found["rod"].loss[0]) and np.isnan(found["rod"].loss[-1])


def test_it_starts_without_a_gradient():
    made = process("rod", quadratic([5.0, 1.0], [0.0, 0.0]))
    go(made, 3)
    assert made.a > 0 and torch.isfinite(made.u).all()
