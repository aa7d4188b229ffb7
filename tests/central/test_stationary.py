"""The stationary preconditioner: against a general cone solver, its certificate, its limits, its flow."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from toys import tiny_problem

from gfm.central.stationary.flow import penalty_gradient, stationary_flow
from gfm.central.stationary.program import first_term, optimisation_speed, stationary
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.optimizers import RMSProp, State
from gfm.problem import Costs


def random_problem(p, seed):
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((p, 2 * p))
    return G @ G.T / p - 0.2 * np.eye(p), 0.1 * rng.standard_normal(p)


def by_cone_solver(H, ratio):
    P = cp.Variable(len(H), nonneg=True)
    penalty = sum(cp.quad_over_lin(r, P[i]) for i, r in enumerate(ratio) if r != 0)
    program = cp.Problem(cp.Minimize(cp.sum(P) + penalty), [2 * cp.diag(P) - H >> 0])
    program.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11)
    return P.value, program.value


@pytest.mark.parametrize("lr", [0.02, 0.5, 5.0])
@pytest.mark.parametrize(("p", "seed"), [(2, 0), (7, 1), (12, 2)])
def test_a_cone_solver_finds_the_same(p, seed, lr):
    H, g = random_problem(p, seed)
    found = stationary(H, g, lr)
    P, value = by_cone_solver(H, g / lr)
    assert found.value == pytest.approx(value, rel=1e-6)
    assert found.P == pytest.approx(P, rel=2e-3, abs=1e-4)  # the value is flat around its minimum


@pytest.mark.parametrize(("p", "seed"), [(3, 3), (9, 4)])
def test_the_first_term_alone(p, seed):
    H, _ = random_problem(p, seed)
    P, value = by_cone_solver(H, np.zeros(p))
    assert first_term(H).value == pytest.approx(value, rel=1e-6)
    assert first_term(H).P == pytest.approx(P, rel=2e-3, abs=1e-4)


@pytest.fixture(scope="module")
def network():
    """A tiny network after some RMSProp steps: problem, weights, Hessian, gradient."""
    problem = tiny_problem(width=8)
    rule = RMSProp(lr=2e-3, bias_correction=True)
    w, state = problem.w0, rule.init(problem.w0)
    for _ in range(200):
        g = problem.gradient(w)
        state = rule.update(state, g)
        w = rule.step(w, state, g)
    return problem, w, dense_hessian(problem, w).numpy(), problem.gradient(w).numpy()


@pytest.mark.parametrize("lr", [1e-3, 1e-2])
def test_the_certificate_of_a_network(network, lr):
    _, _, H, g = network
    found = stationary(H, g, lr)
    assert found.gap <= 1e-4 and found.residual <= 1e-6 and found.violation <= 1e-4
    # The same from the definitions, not from the solver's own report.
    P, Sigma = found.P, found.oscillation.T @ found.oscillation
    assert np.abs(g**2 + 4 * P**2 * np.diag(Sigma) - found.nu).max() <= 1e-6 * found.nu.max()
    assert np.linalg.eigvalsh(2 * np.diag(P) - H)[0] >= -1e-4 * np.linalg.eigvalsh(H)[-1]
    assert abs(np.sum((2 * np.diag(P) - H) * Sigma)) <= 1e-4 * np.sum(2 * P * np.diag(Sigma))


def test_a_larger_learning_rate_comes_nearer_to_the_first_term(network):
    _, _, H, g = network
    limit = first_term(H)
    gaps = [np.linalg.norm(stationary(H, g, lr).P - limit.P) / np.linalg.norm(limit.P) for lr in (1e-3, 1e-2, 1.0)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 1e-3


def test_a_start_nearby_ends_at_the_same_place(network):
    _, _, H, g = network
    start = stationary(H * 1.02, g * 0.9, 2e-3)
    assert stationary(H, g, 2e-3, start=start).value == pytest.approx(stationary(H, g, 2e-3).value, rel=1e-6)


def test_weights_without_influence_are_left_out():
    H, g = random_problem(5, 5)
    H[2], H[:, 2], g[2] = 0.0, 0.0, 0.0
    rest = [0, 1, 3, 4]
    found = stationary(H, g, 0.5)
    assert found.P[2] == 0
    assert found.P[rest] == pytest.approx(stationary(H[np.ix_(rest, rest)], g[rest], 0.5).P, rel=1e-4)
    assert optimisation_speed(found.P, g) == pytest.approx(np.sum(g[rest] ** 2 / found.P[rest]))


def test_far_from_the_edge_it_is_sign_descent():
    H, g = random_problem(6, 6)
    assert stationary(1e-6 * H, g, 0.1).P == pytest.approx(np.abs(g) / 0.1, rel=1e-3)


@pytest.mark.parametrize(
    ("H", "g", "lr"),
    [(np.eye(3), np.ones(2), 1.0), (np.eye(2), np.array([1.0, np.nan]), 1.0), (np.eye(2), np.ones(2), 0.0),
     (np.zeros((2, 2)), np.zeros(2), 1.0)],
)
def test_bad_input_is_refused(H, g, lr):
    with pytest.raises(InputError):
        stationary(H, g, lr)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: stationary(np.eye(2), np.ones(2), 0.1, tolerance=-1), "tolerance"),
    (lambda: stationary(np.eye(2), np.ones(2), "a"), "lr"),
    (lambda: stationary([["a"]], np.ones(1), 0.1), "H must be an array"),
    (lambda: first_term(3), "shape"), (lambda: first_term(np.ones(3)), "shape"),
])
def test_options_that_make_no_program_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize(("change", "words"), [
    ({"steps": 0}, "steps"), ({"steps": 1.5}, "steps"), ({"lr": -0.1}, "lr"),
    ({"lr": float("nan")}, "lr"), ({"curvature_penalty": 1}, "curvature_penalty"), ({"w": torch.zeros(3)}, "shape"),
    ({"w": torch.full((433,), float("inf"), dtype=torch.float64)}, "NaN"),
])
def test_a_stationary_flow_is_checked_before_any_work(change, words):
    problem = tiny_problem()
    given = {"w": problem.w0, "lr": 2e-3, "steps": 2, **change}
    with pytest.raises(InputError, match=words):
        stationary_flow(problem, **given)
    assert problem.costs == Costs()


def test_the_penalty_is_the_gradient_of_the_curvature(network):
    problem, w, H, g = network
    rows = stationary(H, g, 2e-3).oscillation[:2]
    direction = torch.randn(problem.p, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = 1e-4

    def curvature(v):
        U = torch.tensor(rows)
        return float((problem.hvp(v, U.T) * U.T).sum())

    slope = (curvature(w + h * direction) - curvature(w - h * direction)) / (2 * h)
    assert float(penalty_gradient(problem, w, rows, share=0.0) @ direction) == pytest.approx(slope, rel=1e-5)


def test_the_stationary_flow_stays_at_the_edge_and_descends(network):
    problem, w, _, _ = network
    path = stationary_flow(problem, w, 2e-3, 6)
    assert path.loss.shape == (7,) and (np.diff(path.loss) < 0).all() and path.gap <= 1e-5


@pytest.mark.parametrize("bias_correction", [False, True])
def test_the_edge_moves_as_the_second_moments_say(network, bias_correction):
    """d/dt (2P - H) on the critical rows, with epsilon and bias correction, against finite differences."""
    from gfm.central.substep import local_flow
    from gfm.linalg.symmetric import from_half, to_half

    problem, w, H, g = network
    rule = RMSProp(lr=2e-3, beta2=0.95, eps=1e-4, bias_correction=bias_correction)
    state = State(t=30.0, nu=torch.tensor(stationary(H, g, 2e-3).nu))
    P = rule.preconditioner(state)
    values, vectors = torch.linalg.eigh(torch.tensor(H) / (P.sqrt()[:, None] * P.sqrt()))
    U = (vectors[:, -2:] / P.sqrt()[:, None]).T.contiguous()
    local = local_flow(problem.at(w), rule, state, U, critical_share=0.0)
    assert np.abs(local.B - local.B.T).max() <= 1e-12 * np.abs(local.B).max()
    assert np.linalg.eigvalsh(local.B)[0] >= -1e-10 * np.abs(local.B).max()
    X = np.array([[0.3, 0.1], [0.1, 0.2]]) * 1e-3
    x = torch.tensor(to_half(X))
    w_rate = local.w_rate + x @ local.w_push
    nu_rate = local.state_rate.nu + x @ local.nu_push
    h = 1e-3

    def residual(s):
        moved = State(state.t + s, nu=state.nu + s * nu_rate)
        image = problem.hvp(w + s * w_rate, U.T)
        return (2 * (U * rule.preconditioner(moved)) @ U.T - U @ image).numpy()

    slope = (residual(h) - residual(-h)) / (2 * h)
    expected = local.alpha + from_half(local.B @ to_half(X))
    assert np.abs(slope - expected).max() <= 1e-4 * np.abs(slope).max()
