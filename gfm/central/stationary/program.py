"""The preconditioner at which RMSProp's second moments are stationary, as a convex program.

If the weights are frozen, the central flow's second moments converge to
nu = g^2 + 4 P^2 diag(Sigma), P = sqrt(nu) / lr, with 0 <= Sigma perp 2P - H >= 0. This P is the solution of

    minimise  tr P + (1 / lr^2) g^T P^{-1} g    over diagonal P >= 0 with  2P - H >= 0,

whose multiplier Lambda is (2 / lr^2) Sigma. For large lr only tr P remains, and the solution is the
first-term preconditioner. The Hessian is stored. The low-rank dual gives about five digits, and an
interior-point method the rest; it keeps 2P - H positive definite, and Lambda gives a lower bound.

Source: stationary second moments as in Central Flows (arXiv 2410.24206), section on RMSProp; multiplier
and dual derived from the optimality conditions. Epsilon and bias correction are left out.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from gfm.central.stationary.phases import ascend, dual_value, follow
from gfm.checks import number
from gfm.errors import InputError

__all__ = ["Stationary", "first_term", "optimisation_speed", "stationary"]

#: Rank of Lambda in the first phase; at least the number of critical directions.
_RANK = 3


@dataclass(frozen=True)
class Stationary:
    """A diagonal preconditioner with its certificate.

    Attributes:
        P: (p,), 0 for weights on which the loss does not depend.
        factors: (r, p) rows with Lambda = factors^T factors.
        lr: the learning rate.
        value: of the program.
        gap: (value - dual value) / value.
        violation: how far the least eigenvalue of 2P - H lies below 0, relative to the largest absolute
            eigenvalue of H.
        residual: largest ``|g^2 + 4 P^2 diag Sigma - nu|``, relative to the largest nu.
    """

    P: np.ndarray
    factors: np.ndarray
    lr: float
    value: float
    gap: float
    violation: float
    residual: float

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
        H: (p, p) Hessian.
        gradient: (p,) gradient of the loss.
        lr: RMSProp's learning rate.
        start: the solution at a nearby point, as a starting value.
        tolerance: relative duality gap.

    Raises:
        InputError: Shapes do not fit, an entry is not finite, or ``lr`` or ``tolerance`` is not positive.
        NumericalError: The interior-point method does not converge.
    """
    lr = number("lr", lr, lambda x: 0 < x < math.inf, "a positive number")
    tolerance = number("tolerance", tolerance, lambda x: 0 < x < 1, "a number in (0, 1)")
    H, gradient = _array("H", H), _array("gradient", gradient)
    if H.ndim != 2 or H.shape[0] != H.shape[1] or gradient.shape != (len(H),):
        raise InputError(f"A Hessian of shape {H.shape} and a gradient of shape {gradient.shape} do not fit.")
    if not (np.isfinite(H).all() and np.isfinite(gradient).all()):
        raise InputError("The Hessian or the gradient holds entries that are not finite.")
    return _solve((H + H.T) / 2, gradient / lr, lr, start, tolerance)


def first_term(H: np.ndarray, *, tolerance: float = 1e-7) -> Stationary:
    """The diagonal P of least trace with 2P - H >= 0: the limit of :func:`stationary` for large lr.

    Args:
        H: (p, p) Hessian.
        tolerance: relative duality gap.

    Raises:
        InputError: As in :func:`stationary`.
        NumericalError: As in :func:`stationary`.
    """
    H = _array("H", H)
    return stationary(H, np.zeros(H.shape[:1]), 1.0, tolerance=tolerance)


def _array(name: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as failure:
        raise InputError(f"{name} must be an array of numbers ({failure}).") from failure


def optimisation_speed(P: np.ndarray | float, gradient: np.ndarray) -> float:
    """g^T P^{-1} g for P and g (p,), the loss's decrease per step to first order; weights with P = 0 are ignored."""
    P = np.broadcast_to(P, np.shape(gradient))
    moves = P > 0
    return float(np.sum(np.asarray(gradient)[moves] ** 2 / P[moves]))


def _solve(H: np.ndarray, ratio: np.ndarray, lr: float, start: Stationary | None, tolerance: float) -> Stationary:
    """Solve for the weights that matter, with H scaled to a largest absolute eigenvalue of 2; ``ratio``: g / lr."""
    alive = (np.abs(H).max(axis=1) > 0) | (ratio != 0)
    if not alive.any():
        raise InputError("The loss depends on no weight here, so there is nothing to precondition.")
    H, ratio = H[np.ix_(alive, alive)], np.abs(ratio[alive])
    m = len(H)
    values, vectors = linalg.eigh(H)
    top = float(np.abs(values).max())
    size = top / 2 if top > 0 else float(ratio.max())
    H, ratio = H / size, ratio / size
    if start is None:
        V = vectors[:, -_RANK:] * np.sqrt(m)
        V = V / np.sqrt(2 * (1 + np.sum(V**2, axis=1)))[:, None]
    else:
        V = 0.999 * start.factors[:_RANK, alive].T
    V, P = ascend(lambda V: H @ V, np.maximum(ratio, 1e-4), V)
    P, multiplier = follow(H, ratio**2, *_inside(H, ratio, P, V), tolerance)
    values, vectors = linalg.eigh(multiplier)
    keep = values > 1e-9 * values[-1]
    factors = (np.sqrt(values[keep]) * vectors[:, keep]).T[::-1]
    value = float(np.sum(P) + np.sum(ratio**2 / P))
    gap = (value - dual_value(factors.T @ factors, H, ratio)) / value
    residual = np.abs(ratio**2 + 2 * P**2 * np.sum(factors**2, axis=0) - P**2).max() / (P**2).max()
    violation = max(0.0, -linalg.eigvalsh(2 * np.diag(P) - H, subset_by_index=[0, 0])[0]) / 2
    whole, rows = np.zeros(len(alive)), np.zeros((len(factors), len(alive)))
    whole[alive], rows[:, alive] = P * size, factors
    return Stationary(whole, rows, lr, value * size, float(gap), float(violation), float(residual))


def _inside(
    H: np.ndarray, ratio: np.ndarray, P: np.ndarray, V: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P scaled so that 2P - H >= 0 and moved slightly inwards, as are Lambda and the multiplier of P >= 0."""
    inset = 1e-4
    P = np.maximum(P, inset)
    root = P**-0.5
    largest = linalg.eigvalsh(root[:, None] * H * root, subset_by_index=[len(H) - 1, len(H) - 1])[0]
    P = P * (max(1.0, largest / 2) * (1 + inset))
    multiplier = (1 - inset) * V @ V.T + 0.25 * inset * np.eye(len(H))
    return P, multiplier, np.maximum(1 - (ratio / P) ** 2 - 2 * np.diag(multiplier), inset)
