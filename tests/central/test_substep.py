"""The derivatives of one substep, for every optimizer, against the dense Hessian and closed forms."""

import numpy as np
import pytest
import torch

import gfm
from gfm.central.substep import local_flow
from gfm.curvature import dense_hessian
from gfm.optimizers import Adam, GradientDescent, HeavyBall, RMSProp, ScalarRMSProp
from toys import tiny_problem

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
    problem = tiny_problem()
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(40):
        g = problem.gradient(w)
        state = rule.update(state, g)
        w = w - 0.3 * g
    state = rule.update(state, problem.gradient(w))
    U, values = rows(problem, rule, w, state, k)
    return problem, w, state, U, values


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
    """c P - H in the basis of U, from the dense Hessian."""
    P = rule.preconditioner(state)
    H = dense_hessian(problem, w)
    return (rule.threshold * (U * P) @ U.T - U @ H @ U.T).numpy()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_residual_after_a_substep_is_the_one_that_was_solved_for(name, k):
    """The linear prediction A + B[X] meets the dense Hessian to second order in dt, for every rule.

    This holds every derivative at once: the gradient of <H, Sigma>, the preconditioner's drift,
    and the oscillation's share in the second moments (whose B takes H u = c P u).
    """
    problem, w, state, U, values = start(RULES[name], k)
    rule = at_threshold(RULES[name], values, k - 1)
    # Beyond the edge in every row but the last, so that X is not zero.
    local = local_flow(problem.at(w, k), rule, state, U, critical_share=0.2)
    errors = []
    for dt in (2e-3, 1e-3):
        rates = local.rates(dt)
        found = rates.oscillation
        after = residual(problem, rule, w + dt * rates.w, state.moved(rates.state, dt), U)
        errors.append(np.abs(after - found.slack).max())
    if k == 1:  # here H u = c P u holds exactly
        assert errors[1] < 0.3 * errors[0] + 1e-12
    else:
        assert errors[1] < 0.5 * np.abs(local.residual).max() + 1e-9


@pytest.mark.parametrize("name", [n for n in RULES if "rmsprop" not in n and n != "adam"])
def test_without_memory_the_prediction_is_second_order_for_many_directions(name):
    problem, w, state, U, values = start(RULES[name], 3)
    rule = at_threshold(RULES[name], values, 2)
    local = local_flow(problem.at(w, 3), rule, state, U, critical_share=0.2)
    errors = []
    for dt in (1e-3, 5e-4):
        rates = local.rates(dt)
        after = residual(problem, rule, w + dt * rates.w, state.moved(rates.state, dt), U)
        moved = float((dt * rates.w).norm())
        errors.append(np.abs(after - rates.oscillation.slack).max() / moved**2)
    # Second order in the distance moved: the ratio stays bounded (first order would grow as 1 / moved).
    assert max(errors) < 50 and errors[1] < 3 * errors[0]


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
    """A13: at S = 2 / lr, sigma^2 = 2 <-g, grad S> / |grad S|^2, and the flow is -lr times the
    gradient without its component along grad S."""
    problem, w, _, U, values = start(GradientDescent(lr=1.0), 1)
    lr = 2.0 / float(values[0])
    rule = GradientDescent(lr=lr)
    u = U[0] / U[0].norm()
    slope = problem.third(w, u, u)
    g = problem.gradient(w)
    sigma2 = float(2 * (-g @ slope) / (slope @ slope))
    if sigma2 < 0:  # take the other side: climb the loss, where the sharpness rises
        pytest.fail("the test point must have rising sharpness")
    local = local_flow(problem.at(w, 1), rule, rule.update(rule.init(w), g), lr**0.5 * u[None])
    rates = local.rates(1e-6)
    assert rates.oscillation.X[0, 0] * lr == pytest.approx(sigma2, rel=1e-6)  # Sigma = lr X u u^T
    expected = -lr * (g - (g @ slope) / (slope @ slope) * slope)
    assert torch.allclose(rates.w, expected, atol=1e-8)


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
