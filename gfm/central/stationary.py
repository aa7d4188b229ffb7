"""The preconditioner at which RMSProp's second moments stand still, as a convex program.

Freeze the weights and let the central flow's second moments go on: they settle where
nu = g^2 + 4 P^2 diag(Sigma), P = sqrt(nu) / lr, with 0 <= Sigma perp 2P - H >= 0. That P is the solution of

    minimise  tr P + (1 / lr^2) g^T P^{-1} g    over diagonal P >= 0 with  2P - H >= 0,

whose multiplier Lambda is (2 / lr^2) Sigma. For large lr only tr P is left, and the solution is the
first-term preconditioner. Here with a stored Hessian, by an interior-point method: 2P - H stays
positive definite (its Cholesky factor exists), and Lambda gives a lower bound on the optimum.

Source: stationary second moments as in Central Flows (arXiv 2410.24206), section on RMSProp; multiplier
and dual derived from the optimality conditions. Epsilon and bias correction are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from gfm.errors import InputError, NumericalError

__all__ = ["Stationary", "first_term", "optimisation_speed", "stationary"]


@dataclass(frozen=True)
class Stationary:
    """A diagonal preconditioner with its certificate.

    P: (p,), 0 for weights that the loss does not depend on. factors: (r, p) rows with
    Lambda = factors^T factors. value: of the program. gap: (value - dual value) / value.
    violation: how far the least eigenvalue of 2P - H lies below 0, over the largest |eigenvalue| of H.
    residual: largest |g^2 + 4 P^2 diag Sigma - nu| over the largest nu. iterations: of the interior-point method.
    """

    P: np.ndarray
    factors: np.ndarray
    lr: float
    value: float
    gap: float
    violation: float
    residual: float
    iterations: int

    @property
    def nu(self) -> np.ndarray:
        """(p,) stationary second moments, (lr P)^2; meaningless for the first-term preconditioner."""
        return (self.lr * self.P) ** 2

    @property
    def oscillation(self) -> np.ndarray:
        """(r, p) rows whose outer products add up to Sigma."""
        return self.lr / math.sqrt(2.0) * self.factors


def stationary(
    H: np.ndarray, gradient: np.ndarray, lr: float, *, start: Stationary | None = None, tolerance: float = 1e-7
) -> Stationary:
    """The stationary preconditioner of RMSProp at a point.

    Args:
        H: (p, p) Hessian. gradient: (p,). lr: RMSProp's learning rate.
        start: the solution at a point close by, to start from.
        tolerance: relative duality gap.

    Raises:
        InputError: shapes that do not fit, entries that are not finite, lr or tolerance not positive.
        NumericalError: no convergence.
    """
    H, gradient = np.asarray(H, dtype=np.float64), np.asarray(gradient, dtype=np.float64)
    if H.ndim != 2 or H.shape[0] != H.shape[1] or gradient.shape != (len(H),):
        raise InputError(f"a Hessian of shape {H.shape} and a gradient of shape {gradient.shape} do not fit")
    if not (np.isfinite(H).all() and np.isfinite(gradient).all()):
        raise InputError("the Hessian or the gradient holds entries that are not finite")
    if not (lr > 0 and tolerance > 0):
        raise InputError(f"lr and tolerance must be positive, but they are {lr!r} and {tolerance!r}")
    return _solve((H + H.T) / 2, gradient / lr, lr, start, tolerance)


def first_term(H: np.ndarray, *, tolerance: float = 1e-7) -> Stationary:
    """The diagonal P of least trace with 2P - H >= 0: the limit of :func:`stationary` for large lr.

    Raises: as :func:`stationary`.
    """
    return stationary(H, np.zeros(len(H)), 1.0, tolerance=tolerance)


def optimisation_speed(P: np.ndarray | float, gradient: np.ndarray) -> float:
    """g^T P^{-1} g: by how much the loss falls a step, to first order. Weights with P = 0 do not count."""
    P = np.broadcast_to(P, np.shape(gradient))
    moves = P > 0
    return float(np.sum(np.asarray(gradient)[moves] ** 2 / P[moves]))


def _solve(
    H: np.ndarray, ratio: np.ndarray, lr: float, start: Stationary | None, tolerance: float
) -> Stationary:
    """ratio: g / lr. Works on the weights that matter, with H scaled to a largest |eigenvalue| of 2."""
    alive = (np.abs(H).max(axis=1) > 0) | (ratio != 0)
    if not alive.any():
        raise InputError("the loss depends on no weight here, so there is nothing to precondition")
    H, ratio = H[np.ix_(alive, alive)], ratio[alive]
    top = float(np.abs(linalg.eigvalsh(H)).max())
    size = top / 2 if top > 0 else float(np.abs(ratio).max())
    H, ratio = H / size, np.abs(ratio) / size
    P, multiplier = _interior(H, ratio, None if start is None else start.P[alive] / size,
                              None if start is None else start.factors[:, alive])
    P, multiplier, done = _follow(H, ratio**2, P, multiplier, tolerance)
    values, vectors = linalg.eigh(multiplier)
    keep = values > 1e-9 * values[-1]
    factors = (np.sqrt(values[keep]) * vectors[:, keep]).T[::-1]
    value = float(np.sum(P) + np.sum(ratio**2 / P))
    gap = (value - _dual(factors.T @ factors, H, ratio)) / value
    residual = np.abs(ratio**2 + 2 * P**2 * np.sum(factors**2, axis=0) - P**2).max() / (P**2).max()
    violation = max(0.0, -linalg.eigvalsh(2 * np.diag(P) - H, subset_by_index=[0, 0])[0]) / 2
    whole, rows = np.zeros(len(alive)), np.zeros((len(factors), len(alive)))
    whole[alive], rows[:, alive] = P * size, factors
    return Stationary(whole, rows, lr, value * size, float(gap), float(violation), float(residual), done)


def _interior(
    H: np.ndarray, ratio: np.ndarray, P: np.ndarray | None, factors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """A start well inside both cones; from a nearby solution, moved inwards."""
    if P is None:
        return 1.5 + ratio, 0.25 * np.eye(len(H))
    P = np.maximum(P, 1e-6)
    outside = max(0.0, -linalg.eigvalsh(2 * np.diag(P) - H, subset_by_index=[0, 0])[0])
    return P + outside + 1e-3, 0.99 * factors.T @ factors + 0.0025 * np.eye(len(H))


def _dual(multiplier: np.ndarray, H: np.ndarray, ratio: np.ndarray) -> float:
    """<H, Lambda> + (2 / lr) sum |g_i| sqrt(1 - 2 Lambda_ii), a lower bound once 2 diag Lambda <= 1."""
    shrink = 1 / np.maximum(1.0, np.sqrt(2 * np.diag(multiplier)))
    rest = np.maximum(0.0, 1 - 2 * shrink**2 * np.diag(multiplier))
    return float(shrink @ (H * multiplier) @ shrink + 2 * np.sum(ratio * np.sqrt(rest)))


def _follow(
    H: np.ndarray, squares: np.ndarray, P: np.ndarray, multiplier: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Primal-dual path following (the direction of Helmberg, Kojima and Monteiro) from an interior start.

    Newton's method on (2P - H) Lambda = mu, P s = mu and 1 - squares / P^2 - 2 diag Lambda - s = 0.
    """
    m = len(P)
    s = np.full(m, 0.25) if multiplier[0, 0] == 0.25 else np.full(m, 1e-3)
    centring = 0.2
    for step in range(1, 101):
        slack = 2 * np.diag(P) - H
        inverse = _inverse(slack)
        distance = (np.sum(slack * multiplier) + P @ s) / (2 * m)
        value = float(np.sum(P) + np.sum(squares / P))
        balance = np.abs(squares / P**2 + 2 * np.diag(multiplier) + s - 1) * P**2
        gap = (value - _dual(multiplier, H, np.sqrt(squares))) / value
        if gap <= tolerance and balance.max() <= tolerance * (P**2).max():
            return P, multiplier, step
        mu = centring * distance
        bend = 4 * multiplier * inverse
        bend[np.diag_indices(m)] += 2 * squares / P**3 + s / P
        slope = 1 - squares / P**2 - 2 * mu * np.diag(inverse) - mu / P
        # Weights differ in size by many orders; put on one scale, the system is well conditioned.
        scale = 1 / np.sqrt(np.diag(bend))
        move = -scale * linalg.solve(bend * np.outer(scale, scale), slope * scale, check_finite=False)
        turn = multiplier @ (2 * move[:, None] * inverse)
        turn = mu * inverse - multiplier - (turn + turn.T) / 2
        flow = mu / P - s - s * move / P
        primal = min(_reach(slack, np.diag(2 * move)), _reach_positive(P, move))
        dual = min(_reach(multiplier, turn), _reach_positive(s, flow))
        P, multiplier, s = P + primal * move, multiplier + dual * turn, s + dual * flow
        centring = 0.1 if min(primal, dual) > 0.8 else 0.3
    raise NumericalError(
        f"the stationary preconditioner was not found to a relative gap of {tolerance:g}; is the Hessian sane?"
    )


def _reach(matrix: np.ndarray, move: np.ndarray) -> float:
    """A share of ``move`` (at most 1) that keeps ``matrix`` positive definite, with something to spare."""
    share = 1.0
    while share > 1e-8:
        if linalg.lapack.dpotrf(matrix + share / 0.95 * move, lower=1)[1] == 0:
            return share
        share *= 0.8
    return 0.0


def _reach_positive(values: np.ndarray, move: np.ndarray) -> float:
    falling = move < 0
    return min(1.0, 0.95 * float(np.min(-values[falling] / move[falling]))) if falling.any() else 1.0


def _inverse(matrix: np.ndarray) -> np.ndarray:
    lower, info = linalg.lapack.dpotrf(matrix, lower=1)
    if info == 0:
        lower, info = linalg.lapack.dpotri(lower, lower=1)
    if info != 0:
        raise NumericalError("2P - H lost its definiteness; the Hessian may hold entries that are not sane")
    return np.tril(lower) + np.tril(lower, -1).T
