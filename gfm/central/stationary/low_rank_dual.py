"""The dual of the stationary preconditioner with a multiplier of low rank, which needs only Hessian products.

With rows ``v_i = u_i / sqrt(2 (1 + |u_i|^2))`` of V (p, r), Lambda = V V^T satisfies 2 Lambda_ii < 1 for every
U (p, r), so the dual

    maximise  <H, V V^T> + 2 sum_i ratio_i sqrt(1 - 2 Lambda_ii)

is unconstrained. Its value converges quickly. P = ratio / sqrt(1 - 2 diag Lambda) would be
ill-conditioned; complementary slackness, P_i = (H Lambda)_ii / (2 Lambda_ii), is not.

Source: low rank as in Burer and Monteiro (2003), Math. Program. 95; this parametrisation is ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize

__all__ = ["ascend"]


def ascend(
    product: Callable[[np.ndarray], np.ndarray], ratio: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Maximise the dual by L-BFGS.

    Args:
        product: V (p, r) -> H V.
        ratio: (p,) ``|g| / lr``, positive.
        start: (p, r) rows v_i with ``2 |v_i|^2 < 1``.

    Returns:
        V (p, r); P (p,) from complementary slackness, which may be slightly infeasible; number of products.
    """
    shape = start.shape
    evaluations = 0

    def unpack(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        U = x.reshape(shape)
        room = 1 + np.sum(U * U, axis=1)
        return U, room, U / np.sqrt(2 * room)[:, None]

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal evaluations
        evaluations += 1
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
    return V, np.maximum(slackness, ratio), (evaluations + 1) * shape[1]
