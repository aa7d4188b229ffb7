"""What the central flow predicts about the oscillating optimizer.

The predictions are averages over w + delta with E delta delta^T = Sigma::

    E L(w + delta)     = L + c/2 <P, Sigma>                 (H = c P on the support of Sigma)
    E |grad L|^2       = |grad L|^2 + tr(H Sigma H)
    E F(w + delta)     = F + 1/2 <D^2 F, Sigma>             of any function F of the weights

Source: Central Flows (arXiv 2410.24206), sections on predictions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gfm.central.base import Observation, flat_value, to_numpy
from gfm.central.substep import Oscillation

__all__ = ["averages", "displacement", "expectation"]


def averages(
    seen: Observation, found: Oscillation | None, threshold: float, E: Tensor | float, chosen: Tensor
) -> Observation:
    """Predicted loss and squared gradient, and the oscillation itself.

    Args:
        seen: loss, gradient_norm2 and possibly gradient2_at of the flow.
        found: the oscillation, None if there is none.
        threshold: c, the edge of stability.
        E: the optimizer's ``edge``, P without weight decay: a number, 0-d or (p,).
        chosen: indices of the weights whose squared gradients are predicted one by one.

    Returns:
        The new entries; sigma (k,) are the eigenvalues of X, largest first.
    """
    coordinates = "gradient2_at" in seen
    if found is None:
        nothing = {
            "predicted_loss": seen["loss"],
            "predicted_gradient_norm2": seen["gradient_norm2"],
            "sigma": np.zeros(0),
            "critical": 0.0,
        }
        return nothing | ({"predicted_gradient2_at": seen["gradient2_at"]} if coordinates else {})
    HU = threshold * found.U * E
    squares = to_numpy(HU @ HU.T)
    extra = {}
    if coordinates:
        at = to_numpy(HU[:, chosen])
        extra["predicted_gradient2_at"] = seen["gradient2_at"] + np.einsum("ij,ic,jc->c", found.X, at, at)
    return extra | {
        "predicted_loss": seen["loss"] + 0.5 * threshold * found.trace(),
        "predicted_gradient_norm2": seen["gradient_norm2"] + float(np.sum(found.X * squares)),
        "sigma": np.linalg.eigvalsh(found.X)[::-1],
        "critical": float(len(found.X)),
        "complementarity_residual": found.solution.residual,
        "complementarity_gap": found.solution.gap,
    }


def expectation(function: Callable[[Tensor], Tensor], w: Tensor, found: Oscillation | None) -> np.ndarray:
    """E F(w + delta) of a function of the weights, by second differences along the eigenvectors of Sigma.

    Args:
        function: of the weights (p,).
        w: (p,) the flow's weights.
        found: the oscillation, None if there is none.

    Returns:
        The function's mean value, flattened.
    """
    center = flat_value(function, w)
    if found is None:
        return center
    variances, turn = np.linalg.eigh(found.X)
    h = torch.finfo(w.dtype).eps ** 0.25
    total = center.copy()
    for variance, column in zip(variances, turn.T, strict=True):
        if variance <= 0:
            continue
        weights = torch.tensor(column * np.sqrt(variance), dtype=w.dtype, device=w.device)
        d = h * (weights @ found.U)
        second = flat_value(function, w + d) - 2 * center + flat_value(function, w - d)
        total += 0.5 * second / h**2
    return total


def displacement(delta: Tensor, E: Tensor | float, found: Oscillation | None) -> np.ndarray:
    """u^T E delta along each eigenvector u of Sigma, largest variance first; its mean square is the variance.

    Args:
        delta: (p,) the optimizer's weights minus the flow's.
        E: the optimizer's ``edge``, a number, 0-d or (p,).
        found: the oscillation, None if there is none.

    Returns:
        (k,), empty if there is no oscillation.
    """
    if found is None:
        return np.zeros(0)
    delta = delta * E
    _, turn = np.linalg.eigh(found.X)
    return turn[:, ::-1].T @ to_numpy(found.U @ delta)
