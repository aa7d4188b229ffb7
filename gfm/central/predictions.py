"""What the central flow predicts about the oscillating optimizer.

The predictions are averages over w + delta with E delta delta^T = Sigma::

    E L(w + delta)     = L + c/2 <P, Sigma>                 (H = c P on the support of Sigma)
    E |grad L|^2       = |grad L|^2 + tr(H Sigma H)
    E F(w + delta)     = F + 1/2 <D^2 F, Sigma>             of any function F of the weights

In the functions ``found`` is the oscillation, None if there is none, and E the optimizer's ``edge``, P without weight
decay: a number, 0-d or (p,).

Source: Central Flows (arXiv 2410.24206), sections on predictions.
"""

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
        found: the oscillation.
        threshold: c, the edge of stability.
        E: the optimizer's ``edge``.
        chosen: indices of the weights whose squared gradients are predicted one by one.

    Returns:
        The new entries; sigma (k,) are the eigenvalues of X, largest first.
    """
    if found is None:
        same = {f"predicted_{name}": seen[name] for name in ("loss", "gradient_norm2", "gradient2_at") if name in seen}
        return same | {"sigma": np.zeros(0), "critical": 0.0}
    HU = threshold * found.U * E
    squares = to_numpy(HU @ HU.T)
    extra = {}
    if "gradient2_at" in seen:
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
    """E F(w + delta), flattened, of a function at the flow's weights (p,), by second differences along Sigma's axes."""
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
    """(k,) u^T E delta along each eigenvector u of Sigma, largest variance first; its mean square is the variance.

    ``delta`` (p,) is the optimizer's weights minus the flow's; without an oscillation k is 0.
    """
    if found is None:
        return np.zeros(0)
    _, turn = np.linalg.eigh(found.X)
    return turn[:, ::-1].T @ to_numpy(found.U @ (delta * E))
