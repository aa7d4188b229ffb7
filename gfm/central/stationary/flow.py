"""The stationary flow: RMSProp's central flow with its second moments always stationary.

    dw/dt = -Pbar(w)^{-1} [ grad L + 1/2 grad <H, Sigma_bar(w)> ]

Pbar and Sigma_bar are those of :func:`gfm.central.stationary.stationary` at w, so the state consists of the
weights only. The flow describes RMSProp at the edge of stability once nu has caught up with the weights.

Source: Central Flows (arXiv 2410.24206), section on RMSProp; that Sigma_bar is the program's multiplier
is derived. Forward Euler steps of one unit of time, with a dense Hessian at each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gfm.central.stationary.program import Stationary, stationary
from gfm.checks import flag, number, whole
from gfm.curvature import dense_hessian
from gfm.errors import InputError
from gfm.problem import Problem

__all__ = ["StationaryPath", "penalty_gradient", "stationary_flow"]


@dataclass(frozen=True)
class StationaryPath:
    """The flow at every step: loss and nu_sum (steps + 1,), weights (steps + 1, p), and the largest gap."""

    loss: np.ndarray
    nu_sum: np.ndarray
    weights: np.ndarray
    gap: float


def penalty_gradient(problem: Problem, w: Tensor, oscillation: np.ndarray, share: float = 1e-4) -> Tensor:
    """The gradient of <H, Sigma> (p,) for Sigma = sum of outer products of the rows (r, p) of ``oscillation``.

    Rows whose squared length is at most ``share`` of the largest are left out.
    """
    sizes = np.sum(oscillation**2, axis=1)
    rows = torch.tensor(oscillation[sizes > share * sizes.max()], dtype=w.dtype, device=w.device)
    found = problem.at(w, len(rows)).expand(rows).against({i: row for i, row in enumerate(rows)})
    problem.costs.thirds += len(rows)
    return torch.stack(list(found.values())).sum(0)


def stationary_flow(
    problem: Problem, w: Tensor, lr: float, steps: int, *, curvature_penalty: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> StationaryPath:
    """Follow the stationary flow.

    Args:
        problem: the training problem; its Hessian must fit in memory.
        w: (p,) the start.
        lr: RMSProp's learning rate.
        steps: number of Euler steps, each one optimizer step long.
        curvature_penalty: False leaves out grad <H, Sigma_bar> (the ablated flow).
        progress: called with (steps done, steps).

    Raises:
        InputError: ``steps`` is below 1, ``lr`` is not positive, or the weights do not fit or are not finite.
        NumericalError: As in :func:`stationary`.
    """
    steps = whole("steps", steps, 1)
    lr = number("lr", lr, lambda x: 0 < x < math.inf, "a positive number")
    curvature_penalty = flag("curvature_penalty", curvature_penalty)
    problem.check(w)
    if not torch.isfinite(w).all():
        raise InputError("The weights at the start contain NaN or infinity.")
    loss, nu_sum, weights, gap = [], [], [], 0.0
    found: Stationary | None = None
    for t in range(steps + 1):
        push = problem.gradient(w)
        H = dense_hessian(problem, w).cpu().numpy()
        found = stationary(H, push.cpu().numpy(), lr, start=found, tolerance=1e-6)
        loss.append(float(problem.loss(w)))
        nu_sum.append(float(found.nu.sum()))
        weights.append(w.cpu().numpy())
        gap = max(gap, found.gap)
        if t < steps:
            if curvature_penalty:
                push = push + 0.5 * penalty_gradient(problem, w, found.oscillation)
            P = torch.tensor(found.P, dtype=w.dtype, device=w.device)
            w = w - torch.where(P > 0, push / P.clamp(min=torch.finfo(P.dtype).tiny), 0.0)
        if progress is not None:
            progress(t, steps)
    return StationaryPath(np.array(loss), np.array(nu_sum), np.array(weights), gap)
