"""The derivatives of one substep, for every optimizer, against the dense Hessian and closed forms."""

from functools import cache

import numpy as np
import pytest
import torch
from toys import tiny_problem

import gfm
from gfm.central import Settings, complementarity
from gfm.central.complementarity import Solution
from gfm.central.processes import Central
from gfm.central.substep import local_flow
from gfm.curvature import dense_hessian
from gfm.linalg.symmetric import pairs, scale, to_half
from gfm.optimizers import Adam, GradientDescent, HeavyBall, RMSProp, ScalarRMSProp

RULES = {
    "gd": GradientDescent(lr=1.0),
    "gd with a schedule": GradientDescent(lr=lambda t: 1.0 / (1 + 0.05 * t)),
    "heavy ball": HeavyBall(lr=0.2, momentum=0.5),
    "scalar rmsprop": ScalarRMSProp(lr=0.3, beta2=0.9),
    "scalar rmsprop, corrected": ScalarRMSProp(lr=0.3, beta2=0.9, eps=1e-3, bias_correction=True),
    "rmsprop": RMSProp(lr=0.02, beta2=0.9, eps=1e-3, bias_correction=True),
    "adam": Adam(lr=0.05, beta1=0.5, beta2=0.9, eps=1e-3),
}


def start(rule, k=3):
    """A trained point, a state with some history, and the P-orthonormal top rows there."""
    problem, w, state, U, values = trained(rule)
    return problem, w, state, U[:k].clone(), values[:k].clone()


@cache
def trained(rule):
    """The same with three rows."""
    problem = tiny_problem(width=8)
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(40):
        g = problem.gradient(w)
        state = rule.update(state, g)
        w = w - 0.3 * g
    state = rule.update(state, problem.gradient(w))
    return problem, w, state, *rows(problem, rule, w, state, 3)


def rows(problem, rule, w, state, k):
    P = rule.preconditioner(state)
    P = torch.full_like(w, float(P)) if not torch.is_tensor(P) or P.ndim == 0 else P
    H = dense_hessian(problem, w)
    values, vectors = torch.linalg.eigh(H / P.sqrt() / P.sqrt()[:, None])
    return (vectors.flip(1)[:, :k] / P.sqrt()[:, None]).T.contiguous(), values.flip(0)[:k]


def at_threshold(rule, values, which):
    """The same rule with a threshold at the given eigenvalue: the edge is where we stand."""
    kind = type("Shifted", (type(rule),), {"threshold": float(values[which])})
    shifted = object.__new__(kind)
    shifted.__dict__.update(rule.__dict__)
    return shifted


def residual(problem, rule, w, state, U):
    """C P - H in the basis of U, from the dense Hessian."""
    P = rule.preconditioner(state)
    H = dense_hessian(problem, w)
    return (rule.threshold * (U * P) @ U.T - U @ H @ U.T).numpy()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_residual_moves_as_predicted_for_any_covariance(name, k, monkeypatch):
    """A + B[X] meets the dense Hessian to second order in dt, whatever X is: the error falls by four.

    This holds every derivative at once: the gradient of <H, Sigma>, the preconditioner's drift, and
    the oscillation's share in the second moments. X is given, of a size that moves the residual
    about as much as the stable flow does: where rows lie far beyond the edge, the X that is solved for makes
    a jump of fixed length in every dt, and then no order can be seen.
    """
    problem, w, state, U, values = start(RULES[name], k)
    rule = at_threshold(RULES[name], values, k - 1)
    local = local_flow(problem.at(w, k), rule, state, U, critical_share=0.2)
    R = np.random.default_rng(k).standard_normal((k, k))
    X = R @ R.T
    X *= 2 * np.abs(local.alpha).max() / np.abs(local.B @ to_half(X)).max()
    solved = Solution(X, 0.0, 0.0, 0.0, True)
    monkeypatch.setattr(complementarity, "solve", lambda A, B: solved)
    errors = []
    for dt in (4e-3, 2e-3):
        rates = local.rates(dt)
        after = residual(problem, rule, w + dt * rates.w, state.moved(rates.state, dt), U)
        errors.append(np.abs(after - rates.oscillation.slack).max())
        moved = np.abs(after - local.residual).max()
    assert 3.3 < errors[0] / errors[1] < 4.7
    assert errors[1] < 0.1 * moved


@pytest.mark.parametrize("name", RULES)
def test_the_residual_after_a_substep_is_the_one_that_was_solved_for(name):
    """At the edge, with the X that is solved for: the residual is zero before and after, to second order."""
    problem, w, state, U, values = start(RULES[name], 1)
    rule = at_threshold(RULES[name], values, 0)
    local = local_flow(problem.at(w, 1), rule, state, U)
    errors = []
    for dt in (2e-3, 1e-3):
        rates = local.rates(dt)
        after = residual(problem, rule, w + dt * rates.w, state.moved(rates.state, dt), U)
        errors.append(np.abs(after - rates.oscillation.slack).max())
    assert errors[1] < 0.3 * errors[0] + 1e-12


@pytest.mark.parametrize("name", [n for n in RULES if "rmsprop" in n or n == "adam"])
def test_what_second_moments_see_below_the_edge_is_too_much_by_first_order(name):
    """The push of the pair i, j is too large by c^2 / (lambda_i lambda_j).

    Put for H u_i is c P u_i where lambda_i P u_i is true: 5 % at most for candidates within 2.5 % of the edge.
    """
    problem, w, state, U, values = start(RULES[name], 3)
    rule, c = RULES[name], 1.02 * float(values[0])
    shifted = at_threshold(rule, values, 0)
    type(shifted).threshold = c
    local = local_flow(problem.at(w, 3), shifted, state, U, critical_share=0.1)
    images = problem.hvp(w, U.T).T
    rate, size = rule.memory(state).rate, float(local.nu_push.abs().max())
    for a, (i, j) in enumerate(zip(*(x.tolist() for x in pairs(3)), strict=True)):
        true = rate * scale(3)[a] * rule.observed(images[i][None], images[j][None])[0]
        share = float(values[i] * values[j]) / c**2
        assert torch.allclose(share * local.nu_push[a], true, rtol=1e-6, atol=1e-9 * size)


@pytest.mark.parametrize("name", RULES)
def test_b_is_symmetric_and_the_solution_is_certified(name):
    problem, w, state, U, values = start(RULES[name], 3)
    rule = at_threshold(RULES[name], values, 1)
    local = local_flow(problem.at(w, 3), rule, state, U, critical_share=0.5)
    assert np.allclose(local.B, local.B.T)
    assert np.linalg.eigvalsh(local.B)[0] > -1e-12 * np.trace(local.B)
    found = local.rates(0.25).oscillation
    assert found.solution.converged and found.solution.violation < 1e-8
    assert np.linalg.eigvalsh(found.X)[0] >= -1e-14
    assert abs(np.sum(found.X * found.slack)) < 1e-8 * np.abs(found.X).max() * np.abs(local.residual).max() + 1e-12


def test_one_direction_equals_the_closed_form():
    """A13: at S = 2 / lr, sigma^2 = 2 <-g, grad S> / |grad S|^2.

    The flow is -lr times the gradient without its component along grad S.
    """
    problem, w, _, U, values = start(GradientDescent(lr=1.0), 1)
    lr = 2.0 / float(values[0])
    rule = GradientDescent(lr=lr)
    u = U[0] / U[0].norm()
    slope = problem.third(w, u, u)
    g = problem.gradient(w)
    sigma2 = float(2 * (-g @ slope) / (slope @ slope))
    assert sigma2 > 0  # the sharpness rises along the gradient flow
    expected = -lr * (g - (g @ slope) / (slope @ slope) * slope)
    state = rule.update(rule.init(w), g)
    local = local_flow(problem.at(w, 1), rule, state, lr**0.5 * u[None])
    for dt in (1.0, 0.25):  # the residual is zero, so that the rates are those of any substep
        rates = local.rates(dt)
        assert rates.oscillation.X[0, 0] * lr == pytest.approx(sigma2, rel=1e-9)  # Sigma = lr X u u^T
        assert float((rates.w - expected).norm() / expected.norm()) < 1e-9


def test_a_substep_of_a_run_is_the_closed_form():
    """A13 in a run: w after a substep from the edge, with the run's own eigenpairs and dt, to 1e-8."""
    problem, w, _, _, values = start(GradientDescent(lr=1.0), 1)
    rule = GradientDescent(lr=2.0 / float(values[0]))
    settings = Settings(substeps=4, adaptive=False, tolerance=1e-10)
    flow = Central(problem, rule, settings, w, rule.init(w))
    flow.observe(0)
    sigma, rates = flow.oscillation, flow._rates
    H = dense_hessian(problem, w)
    u = torch.linalg.eigh(H)[1][:, -1]
    slope, g = problem.third(w, u, u), problem.gradient(w)
    expected = -rule.lr * (g - (g @ slope) / (slope @ slope) * slope)
    assert float((rates.w - expected).norm() / expected.norm()) < 1e-8
    assert rule.lr * sigma.X[0, 0] == pytest.approx(float(-2 * (g @ slope) / (slope @ slope)), rel=1e-8)


def test_nothing_critical_is_the_stable_flow():
    problem, w, state, U, values = start(GradientDescent(lr=1.0), 2)
    rule = GradientDescent(lr=1.9 / float(values[0]) / 1.0 * 0.5)
    local = local_flow(problem.at(w, 2), rule, rule.update(rule.init(w), problem.gradient(w)), U)
    rates = local.rates(0.25)
    assert rates.oscillation is None
    assert torch.allclose(rates.w, -rule.lr * problem.gradient(w))


def test_a_direction_that_nothing_holds_is_reported():
    """Quadratics have no third derivative: no oscillation can hold them at the edge."""
    from toys import quadratic

    problem = quadratic([1.0, 0.1], [1.0, 1.0])
    with pytest.warns(UserWarning, match="stopped"):
        run = gfm.central.run(problem, GradientDescent(lr=3.0), 5, processes=["central"])
    assert np.isnan(run["central"].loss[-1])
