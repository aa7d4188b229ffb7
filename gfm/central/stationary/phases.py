"""The two phases by which the stationary preconditioner's program is solved.

*The dual with a multiplier of low rank*, which needs only Hessian products. With rows
``v_i = u_i / sqrt(2 (1 + |u_i|^2))`` of V (p, r), Lambda = V V^T satisfies 2 Lambda_ii < 1 for every U (p, r), so the
dual

    maximise  <H, V V^T> + 2 sum_i ratio_i sqrt(1 - 2 Lambda_ii)

is unconstrained. Its value converges quickly. P = ratio / sqrt(1 - 2 diag Lambda) would be
ill-conditioned; complementary slackness, P_i = (H Lambda)_ii / (2 Lambda_ii), is not.

*A primal-dual interior-point method* for the last digits. It solves

    minimise  sum P + sum squares / P  over P >= 0 with 2 diag(P) - H >= 0

and finds its multiplier Lambda. From a start near the solution it takes about ten iterations of a few dense
factorisations each.

Source: low rank as in Burer and Monteiro (2003), Math. Program. 95; its parametrisation is ours. The direction of
Helmberg, Rendl, Vanderbei and Wolkowicz (1996), SIAM J. Optim. 6(2), with squares / P linearised at each iterate.
"""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import linalg, optimize

from gfm.errors import NumericalError

__all__ = ["ascend", "dual_value", "follow"]


def ascend(
    product: Callable[[np.ndarray], np.ndarray], ratio: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise the dual by L-BFGS.

    Args:
        product: V (p, r) -> H V.
        ratio: (p,) ``|g| / lr``, positive.
        start: (p, r) rows v_i with ``2 |v_i|^2 < 1``.

    Returns:
        V (p, r); P (p,) from complementary slackness, which may be slightly infeasible.
    """
    shape = start.shape

    def unpack(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        U = x.reshape(shape)
        room = 1 + np.sum(U * U, axis=1)
        return U, room, U / np.sqrt(2 * room)[:, None]

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        U, room, V = unpack(x)
        slope = 2 * product(V)
        value = 0.5 * np.sum(V * slope) + 2 * np.sum(ratio / np.sqrt(room))
        inward = np.sum(slope * U, axis=1) / np.sqrt(2) + 2 * ratio
        gradient = slope / np.sqrt(2 * room)[:, None] - (inward / room**1.5)[:, None] * U
        return -float(value), -gradient.ravel()

    room = 1 / np.maximum(1e-12, 1 - 2 * np.sum(start**2, axis=1))
    found = optimize.minimize(
        negative, (start * np.sqrt(2 * room)[:, None]).ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": 300, "maxfun": 600, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-12},
    )
    V = unpack(found.x)[2]
    weight = np.sum(V * V, axis=1)
    slackness = np.sum(product(V) * V, axis=1) / np.maximum(2 * weight, 1e-300)
    return V, np.maximum(slackness, ratio)


def dual_value(multiplier: np.ndarray, H: np.ndarray, ratio: np.ndarray) -> float:
    """The lower bound <H, Lambda> + 2 sum ratio sqrt(1 - 2 Lambda_ii), after shrinking Lambda to 2 Lambda_ii <= 1.

    Lambda (``multiplier``) and H are (p, p), ``ratio`` is (p,).
    """
    shrink = 1 / np.maximum(1.0, np.sqrt(2 * np.diag(multiplier)))
    rest = np.maximum(0.0, 1 - 2 * shrink**2 * np.diag(multiplier))
    return float(shrink @ (H * multiplier) @ shrink + 2 * np.sum(ratio * np.sqrt(rest)))


def follow(
    H: np.ndarray, squares: np.ndarray, P: np.ndarray, multiplier: np.ndarray, s: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """P (m,) and Lambda (m, m), from an interior start (s: multiplier of P >= 0).

    Newton's method on (2P - H) Lambda = mu, P s = mu and 1 - squares / P^2 - 2 diag Lambda - s = 0.

    Raises:
        NumericalError: The relative gap does not reach ``tolerance``.
    """
    m = len(P)
    centring = 0.3
    for _ in range(100):
        slack = 2 * np.diag(P) - H
        inverse = _inverse(slack)
        distance = (np.sum(slack * multiplier) + P @ s) / (2 * m)
        value = float(np.sum(P) + np.sum(squares / P))
        balance = np.abs(squares / P**2 + 2 * np.diag(multiplier) + s - 1) * P**2
        gap = (value - dual_value(multiplier, H, np.sqrt(squares))) / value
        if gap <= tolerance and balance.max() <= tolerance * (P**2).max():
            return P, multiplier
        mu = centring * distance
        bend = 4 * multiplier * inverse
        bend[np.diag_indices(m)] += 2 * squares / P**3 + s / P
        slope = 1 - squares / P**2 - 2 * mu * np.diag(inverse) - mu / P
        # The weights' scales differ by many orders of magnitude; after rescaling the system is well conditioned.
        scale = 1 / np.sqrt(np.diag(bend))
        with warnings.catch_warnings(action="ignore", category=linalg.LinAlgWarning):  # the gap decides
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
        f"The stationary preconditioner was not found to a relative gap of {tolerance:g}; is the Hessian sane?"
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
        raise NumericalError("2P - H lost its definiteness; the Hessian may hold entries that are not sane.")
    return np.tril(lower) + np.tril(lower, -1).T
