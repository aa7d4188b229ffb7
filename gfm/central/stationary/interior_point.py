"""A primal-dual interior-point method for the last digits of the stationary preconditioner.

It solves   minimise sum P + sum squares / P  over P >= 0 with 2 diag(P) - H >= 0   and finds its multiplier Lambda.
From a start near the solution it takes about ten iterations of a few dense factorisations each.

Source: the direction of Helmberg, Rendl, Vanderbei and Wolkowicz (1996), SIAM J. Optim. 6(2), with the
term squares / P linearised at each iterate.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from gfm.errors import NumericalError

__all__ = ["dual_value", "follow"]


def dual_value(multiplier: np.ndarray, H: np.ndarray, ratio: np.ndarray) -> float:
    """The lower bound <H, Lambda> + 2 sum ratio sqrt(1 - 2 Lambda_ii), after shrinking Lambda to 2 Lambda_ii <= 1."""
    shrink = 1 / np.maximum(1.0, np.sqrt(2 * np.diag(multiplier)))
    rest = np.maximum(0.0, 1 - 2 * shrink**2 * np.diag(multiplier))
    return float(shrink @ (H * multiplier) @ shrink + 2 * np.sum(ratio * np.sqrt(rest)))


def follow(
    H: np.ndarray, squares: np.ndarray, P: np.ndarray, multiplier: np.ndarray, s: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """P (m,), Lambda (m, m) and the number of iterations, from an interior start (s: multiplier of P >= 0).

    Newton's method on (2P - H) Lambda = mu, P s = mu and 1 - squares / P^2 - 2 diag Lambda - s = 0.

    Raises:
        NumericalError: The relative gap does not reach ``tolerance``.
    """
    m = len(P)
    centring = 0.3
    for step in range(1, 101):
        slack = 2 * np.diag(P) - H
        inverse = _inverse(slack)
        distance = (np.sum(slack * multiplier) + P @ s) / (2 * m)
        value = float(np.sum(P) + np.sum(squares / P))
        balance = np.abs(squares / P**2 + 2 * np.diag(multiplier) + s - 1) * P**2
        gap = (value - dual_value(multiplier, H, np.sqrt(squares))) / value
        if gap <= tolerance and balance.max() <= tolerance * (P**2).max():
            return P, multiplier, step
        mu = centring * distance
        bend = 4 * multiplier * inverse
        bend[np.diag_indices(m)] += 2 * squares / P**3 + s / P
        slope = 1 - squares / P**2 - 2 * mu * np.diag(inverse) - mu / P
        # The weights' scales differ by many orders of magnitude; after rescaling the system is well conditioned.
        scale = 1 / np.sqrt(np.diag(bend))
        move = -scale * linalg.solve(bend * np.outer(scale, scale), slope * scale, check_finite=False)
        turn = multiplier @ (2 * move[:, None] * inverse)
        turn = mu * inverse - multiplier - (turn + turn.T) / 2
        flow = mu / P - s - s * move / P
        primal = min(_reach(slack, np.diag(2 * move)), _reach_positive(P, move))
        dual = min(_reach(multiplier, turn), _reach_positive(s, flow))
        P, multiplier, s = P + primal * move, multiplier + dual * turn, s + dual * flow
        least = min(primal, dual)
        centring = 0.15 if least > 0.8 else 0.4 if least > 0.4 else 0.8
    raise NumericalError(
        f"the stationary preconditioner was not found to a relative gap of {tolerance:g}; is the Hessian sane?"
    )


def _reach(matrix: np.ndarray, move: np.ndarray) -> float:
    """A share of ``move`` (at most 1) that keeps ``matrix`` positive definite, with a margin."""
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
