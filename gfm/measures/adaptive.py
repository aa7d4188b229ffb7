"""Measurements on runs of the adaptive optimizers: sharpness, second moments, single weights.

Claim numbers are those of the register (``book/elements.yml``).
"""

from __future__ import annotations

import numpy as np

from gfm.central import Run
from gfm.errors import InputError
from gfm.measures.edge import measured_top
from gfm.measures.flow import AT_EDGE, at_edge, average, edge_level, effective, effective_top, median, smooth

__all__ = [
    "arrivals", "at_loss", "coordinate_error", "flow_sharpness", "level_offset", "loss_lag", "oscillation_share",
    "spread_ratio", "step_excess", "upward_crossings",
]


def flow_sharpness(run: Run, process: str) -> np.ndarray:
    """(steps + 1,) the Hessian's top eigenvalue if P is one number: S = S_eff / effective step."""
    return effective_top(run, process) / run[process].effective_step


def level_offset(run: Run) -> float:
    """``|time mean of the optimizer's effective sharpness / 2 - 1|`` at the edge (B1, C1)."""
    return abs(edge_level(run) / 2.0 - 1.0)


def upward_crossings(run: Run) -> int:
    """How often the optimizer's effective sharpness crosses 2 from below."""
    _, top = measured_top(run)
    return int(np.sum((top[:-1] < 2.0) & (top[1:] >= 2.0)))


def arrivals(run: Run) -> list[int]:
    """Steps at which the flow's first, second, ... effective eigenvalues reach the edge, for those that do."""
    return [int(np.argmax(column > AT_EDGE)) for column in effective(run, "central").T if (column > AT_EDGE).any()]


def step_excess(run: Run, window: float) -> float:
    """Mean, at the edge, of the optimizer's smoothed effective step divided by the flow's, minus 1.

    The optimizer's nu oscillates, and the mean of 1 / sqrt(nu) is larger than 1 / sqrt of the mean.
    """
    ratio = smooth(run["discrete"].effective_step, window) / run["central"].effective_step
    return average(ratio[at_edge(run) & np.isfinite(ratio)]) - 1.0


def loss_lag(run: Run, window: float) -> float:
    """Median, at the edge, of the steps by which the flow's predicted loss lags the optimizer's smoothed loss."""
    actual = np.log(smooth(run["discrete"].loss, window))
    predicted = np.log(run["central"].predicted_loss)
    slope = smooth(np.gradient(predicted), window)
    good = at_edge(run) & np.isfinite(actual) & np.isfinite(slope) & (slope < 0)
    return median((actual - predicted)[good] / slope[good])


def at_loss(run: Run, level: float) -> int:
    """The first step at which the central flow's loss is at or below ``level``.

    Raises:
        InputError: It never is.
    """
    below = np.flatnonzero(run["central"].loss <= level)
    if len(below) == 0:
        raise InputError(f"the loss of the central process never comes down to {level:g}; run more steps")
    return int(below[0])


# --- single weights ------------------------------------------------------------------------------


def coordinate_error(run: Run, window: float, name: str) -> float:
    """C2 ("gradient2"), C3 ("nu"): median of ``|smoothed - flow| / smoothed`` over recorded weights and steps.

    Weights whose gradient is always zero are left out.
    """
    actual = smooth(run["discrete"][f"{name}_at"], window)
    predicted = run["central"][f"predicted_{name}_at" if name == "gradient2" else f"{name}_at"]
    good = at_edge(run) & np.isfinite(actual).all(1) & np.isfinite(predicted).all(1)
    moving = actual[good] > 0
    return median(np.abs(actual[good] - predicted[good])[moving] / actual[good][moving])


def oscillation_share(run: Run) -> float:
    """C2: median over recorded weights and edge steps of 1 - (grad_i L)^2 / E g_i^2, both of the flow."""
    edge = at_edge(run)
    whole, own = run["central"].predicted_gradient2_at[edge], run["central"].gradient2_at[edge]
    known = np.isfinite(whole) & np.isfinite(own) & (whole > 0)
    return median(1.0 - own[known] / whole[known])


def spread_ratio(run: Run) -> float:
    """R2: ratio of the relative standard deviations in time of nu_i and g_i^2 at the edge; median over weights."""
    edge = at_edge(run)
    nu, squares = run["discrete"].nu_at[edge], run["discrete"].gradient2_at[edge]
    moving = squares.mean(0) > 0
    spread = (nu.std(0) / nu.mean(0))[moving] / (squares.std(0) / squares.mean(0))[moving]
    return float(np.median(spread))
