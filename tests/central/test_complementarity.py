"""The complementarity problem: closed forms, random problems, a general cone solver."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfm.central import complementarity
from gfm.central.complementarity import solve
from gfm.errors import InputError
from gfm.linalg.symmetric import from_half, half_size, scale, to_half


def random_problem(k, seed, definite=1e-3):
    rng = np.random.default_rng(seed)
    m = half_size(k)
    G = rng.standard_normal((m, m + 2))
    B = G @ G.T / m + definite * np.eye(m)
    A = rng.standard_normal((k, k))
    return (A + A.T) * 10 ** rng.uniform(-3, 3), B * 10 ** rng.uniform(-3, 3)


def assert_solves(solution, A, B, tolerance=1e-8):
    X, S = solution.X, A + from_half(B @ to_half(solution.X))
    size_a, size_x = np.abs(A).max(), max(np.abs(solution.X).max(), 1e-300)
    assert np.linalg.eigvalsh(X)[0] >= -tolerance * size_x
    assert np.linalg.eigvalsh(S)[0] >= -tolerance * size_a
    assert abs(np.sum(X * S)) <= tolerance * size_a * size_x * len(A)


@pytest.mark.parametrize(("a", "b", "x"), [(-3.0, 2.0, 1.5), (1.0, 2.0, 0.0), (0.0, 2.0, 0.0), (-1e-9, 1e-3, 1e-6)])
def test_one_direction_has_the_closed_form(a, b, x):
    assert solve([[a]], [[b]]).X[0, 0] == pytest.approx(x, rel=1e-14)


def test_diagonal_problems_split_into_scalar_ones():
    A, weights = np.diag([-1.0, 2.0, -3.0]), np.array([1.0, 2.0, 4.0])
    B = np.diag(to_half(np.ones((3, 3))) * 0 + 1.0)
    diagonal = [0, 3, 5]
    B[diagonal, diagonal] = weights
    assert np.allclose(solve(A, B).X, np.diag([1.0, 0.0, 0.75]), atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(k=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_random_problems_are_solved_and_certified(k, seed):
    A, B = random_problem(k, seed)
    solution = solve(A, B)
    assert solution.converged
    assert_solves(solution, A, B)


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_a_general_cone_solver(k, seed):
    A, B = random_problem(k, seed, definite=0.1)
    A, B = A / np.abs(A).max(), B / np.trace(B)
    X = cp.Variable((k, k), symmetric=True)
    i, j = np.triu_indices(k)
    half = cp.multiply(scale(k), cp.hstack([X[a, b] for a, b in zip(i, j, strict=True)]))
    root = np.linalg.cholesky(B).T
    objective = 0.5 * cp.sum_squares(root @ half) + cp.trace(A @ X)
    value = cp.Problem(cp.Minimize(objective), [X >> 0]).solve(solver=cp.CLARABEL)
    found = solve(A, B).X
    h = to_half(found)
    ours = 0.5 * h @ B @ h + np.sum(A * found)
    assert ours <= value + 1e-6 * max(1, abs(value))  # a feasible point cannot lie below the least value
    assert np.allclose(found, X.value, atol=2e-3 * max(1, np.abs(found).max()))


def test_an_unsolvable_problem_is_not_called_solved():
    """B does not act in the direction in which A is negative: nothing can hold it."""
    assert not solve([[-1.0]], [[0.0]]).converged
    B = np.zeros((3, 3))
    B[2, 2] = 1.0
    assert not solve(np.diag([-1.0, -1.0]), B).converged


def test_bad_shapes_and_numbers_are_refused():
    with pytest.raises(InputError):
        solve(np.eye(2), np.eye(2))
    with pytest.raises(InputError):
        solve(np.eye(2) * np.nan, np.eye(3))


@pytest.mark.parametrize("seed", range(4))
def test_the_certificate_is_that_of_the_matrix_returned(monkeypatch, seed):
    """Stopped early, so that the last iterate lies outside the cone."""
    A, B = random_problem(4, seed)
    monkeypatch.setattr(complementarity, "MOST_ITERATIONS", 1)
    found = solve(A, B)
    size_a, size_b = np.abs(A).max(), np.trace(B) / len(B)
    X = found.X * size_b / size_a
    S = A / size_a + from_half((B / size_b) @ to_half(X))
    values, vectors = np.linalg.eigh(X - S)
    nearest = (vectors * np.maximum(values, 0)) @ vectors.T
    assert np.linalg.eigvalsh(X)[0] > -1e-12
    assert found.residual == pytest.approx(np.abs(to_half(X - nearest)).max(), abs=1e-12)
    assert found.violation == pytest.approx(max(0.0, -np.linalg.eigvalsh(S)[0]), abs=1e-12)
    assert found.gap == pytest.approx(abs(np.sum(X * S)), abs=1e-12)


def test_without_any_response_an_excess_stays_and_is_told():
    found = solve(np.diag([-2.0, 1.0]), np.zeros((3, 3)))
    assert not found.converged and (found.X == 0).all()
    assert (found.residual, found.violation) == pytest.approx((1.0, 1.0))


def test_only_the_symmetric_part_counts():
    A, skew = np.array([[-1.0, 0.3], [0.3, -0.5]]), np.array([[0.0, 0.2], [-0.2, 0.0]])
    B = np.diag([1.0, 2.0, 3.0])
    assert np.allclose(solve(A + skew, B).X, solve(A, B).X, atol=1e-12)
