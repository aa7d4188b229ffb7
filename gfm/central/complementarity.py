"""The semidefinite complementarity problem that determines the oscillation covariance.

Given a symmetric A (k, k) and a symmetric positive semidefinite B that maps symmetric matrices to
symmetric matrices, find X with

    X >= 0,    S = A + B[X] >= 0,    <X, S> = 0        (>= in the semidefinite order)

These are the optimality conditions of min over X >= 0 of <X, B[X]> / 2 + <A, X>. X is of the size of A over B and has
no bound of its own: where B is small, only a large oscillation holds the edge, to first order. Whether it does is seen
after the substep, where the curvature is computed anew: a flow that stays beyond the edge says so.

Since k is small, everything is NumPy in float64: hundreds of tiny tensor operations would cost more than the
derivatives.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gfm.errors import InputError
from gfm.linalg.symmetric import from_half, half_size, to_half

__all__ = ["Solution", "solve"]

#: Residual of a solution that has converged.
TOLERANCE = 1e-10
MOST_ITERATIONS = 500
_GRADIENT_STEPS = 50


@dataclass(frozen=True)
class Solution:
    """X (k, k) with its certificate: residual, gap and violation of the problem scaled so that A has size 1.

    Attributes:
        X: the solution.
        residual: the largest entry of ``|X - proj(X - S)|``; zero exactly at a solution.
        gap: ``|<X, S>|``.
        violation: how far the least eigenvalue of S lies below 0.
        converged: whether the residual is within the tolerance.
    """

    X: np.ndarray
    residual: float
    gap: float
    violation: float
    converged: bool


def solve(A: np.ndarray, B: np.ndarray) -> Solution:
    """Solve the problem for A (k, k) and B (m, m), m = k(k+1)/2, acting on half vectors.

    There is a closed form for k = 1 and if all directions are active. Otherwise a semismooth Newton method
    is applied to the natural residual, with accelerated projected gradient steps where Newton's do not descend.

    Raises:
        InputError: Shapes do not fit, or an entry is not finite.

    Source: conditions as in Central Flows (arXiv 2410.24206); Newton's derivative of the
    projection as in Sun and Sun (2002), Math. Oper. Res. 27(1).
    """
    A = np.atleast_2d(np.asarray(A, dtype=np.float64))
    B = np.atleast_2d(np.asarray(B, dtype=np.float64))
    k = A.shape[0]
    m = half_size(k)
    if A.shape != (k, k) or B.shape != (m, m):
        raise InputError(f"A of shape {A.shape} needs B of shape ({m}, {m}), but it has shape {B.shape}.")
    if not (np.isfinite(A).all() and np.isfinite(B).all()):
        raise InputError("The complementarity problem has entries that are not finite.")
    if k == 1:
        solved = bool(A[0, 0] >= 0 or B[0, 0] > 0)
        X = np.maximum(-A / B, 0.0) if B[0, 0] > 0 else np.zeros((1, 1))
        return Solution(X, float(not solved), 0.0, float(not solved), solved)
    size_a, size_b = np.abs(A).max(), np.trace(B) / m
    if size_a == 0 or np.linalg.eigvalsh(A)[0] >= 0:
        return Solution(np.zeros((k, k)), 0.0, 0.0, 0.0, True)
    if size_b <= 0:
        return Solution(np.zeros((k, k)), 1.0, 0.0, float(-np.linalg.eigvalsh(A)[0] / size_a), False)
    a = to_half((A + A.T) / (2 * size_a))
    b = (B + B.T) / (2 * size_b)
    x = _active(a, b)
    x = _project(_newton(a, b) if x is None else x)
    residual, gap, violation = _certificate(x, a, b)
    return Solution(from_half(x) * (size_a / size_b), residual, gap, violation, residual <= TOLERANCE)


def _active(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """The solution with S = 0, if its X is positive semidefinite."""
    try:
        x = np.linalg.solve(b, -a)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(x).all() or np.abs(b @ x + a).max() > 1e-11 or np.linalg.eigvalsh(from_half(x))[0] < 0:
        return None
    return x


def _project(x: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(from_half(x))
    return to_half((vectors * np.maximum(values, 0)) @ vectors.T)


def _certificate(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    slack = a + b @ x
    residual = np.abs(x - _project(x - slack)).max()
    return float(residual), float(abs(x @ slack)), float(max(0.0, -np.linalg.eigvalsh(from_half(slack))[0]))


@lru_cache(maxsize=16)
def _basis(k: int) -> np.ndarray:
    """(m, k, k): the symmetric matrix of each unit half vector."""
    return from_half(np.eye(half_size(k)))


def _newton(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Semismooth Newton on F(x) = x - proj(x - step (a + B x)), globalised by gradient steps."""
    step = 1.0 / np.linalg.eigvalsh(b)[-1]
    x = np.zeros_like(a)
    value = x - _project(x - step * (a + b @ x))
    best = np.linalg.norm(value)
    iterations = 0
    while iterations < MOST_ITERATIONS and best > 0.1 * step * TOLERANCE:
        iterations += 1
        move = np.linalg.lstsq(_derivative(x - step * (a + b @ x), b, step), -value, rcond=1e-14)[0]
        for share in (1.0, 0.5, 0.25, 0.1):
            trial = x + share * move
            trial_value = trial - _project(trial - step * (a + b @ trial))
            length = np.linalg.norm(trial_value)
            if length < (1 - 1e-4 * share) * best:
                x, value, best = trial, trial_value, length
                break
        else:
            x = _accelerated(x, a, b, step)
            iterations += _GRADIENT_STEPS
            value = x - _project(x - step * (a + b @ x))
            length = np.linalg.norm(value)
            if length > 0.999999 * best and length < 1e-13:
                break
            best = length
    return x


def _derivative(z: np.ndarray, b: np.ndarray, step: float) -> np.ndarray:
    """An element of the generalised Jacobian of F: I - proj'(z) (I - step B)."""
    values, vectors = np.linalg.eigh(from_half(z))
    positive = np.maximum(values, 0)
    difference = values[:, None] - values[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = (positive[:, None] - positive[None, :]) / difference
    same = np.abs(difference) < 1e-14
    weights[same] = ((values[:, None] > 0) * np.ones_like(difference))[same]
    basis = _basis(len(values))
    turned = weights * (vectors.T @ basis @ vectors)
    projection = to_half(vectors @ turned @ vectors.T).T
    return np.eye(len(z)) - projection @ (np.eye(len(z)) - step * b)


def _accelerated(x: np.ndarray, a: np.ndarray, b: np.ndarray, step: float) -> np.ndarray:
    """Accelerated projected gradient with restarts (O'Donoghue and Candes, 2015)."""
    x = _project(x)
    y, momentum = x, 1.0
    for _ in range(_GRADIENT_STEPS):
        new = _project(y - step * (a + b @ y))
        if (y - new) @ (new - x) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = new + (momentum - 1) / following * (new - x)
        x, momentum = new, following
    return x
