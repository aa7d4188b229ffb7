"""What is measured of runs of the adaptive optimizers: sharpness, second moments, single weights.

Claim numbers are those of the register (``book/elements.yml``).
"""

from __future__ import annotations

import numpy as np

from gfm.central import Run
from gfm.errors import InputError
from gfm.measures.flow import at_edge, effective_top, smooth

__all__ = [
    "at_loss",
    "coordinate_error",
    "crossings",
    "edge_steps",
    "flow_sharpness",
    "furthest_ratio",
    "level_offset",
    "loss_lag",
    "oscillation_share",
    "relative_error",
    "spread_ratio",
    "step_excess",
]


def flow_sharpness(run: Run, process: str) -> np.ndarray:
    """(steps + 1,) the Hessian's top eigenvalue, where P is one number: S = S_eff / effective step."""
    return effective_top(run, process) / run[process].effective_step


def level_offset(run: Run) -> float:
    """|time mean of the optimizer's effective sharpness / 2 - 1| at the edge (B1, C1)."""
    edge = at_edge(run)
    return float(abs(np.nanmean(effective_top(run, "discrete")[edge]) / 2.0 - 1.0)) if edge.any() else float("nan")


def crossings(run: Run) -> int:
    """Upward crossings of 2 by the optimizer's effective sharpness."""
    top = effective_top(run, "discrete")
    top = top[np.isfinite(top)]
    return int(np.sum((top[:-1] < 2.0) & (top[1:] >= 2.0)))


def edge_steps(run: Run) -> list[int]:
    """Steps at which the flow's first, second, ... effective eigenvalue reaches the edge; those that do."""
    values = run["central"].eigenvalues * 2.0 / run.settings["threshold"]
    return [int(np.argmax(column > 1.999)) for column in values.T if (column > 1.999).any()]


def relative_error(run: Run, window: float, what: str) -> float:
    """Median over the edge of |smoothed optimizer - flow| / smoothed optimizer, of a series both have (B8)."""
    actual = smooth(run["discrete"][what], window)
    error = np.abs(actual - run["central"][what]) / np.abs(actual)
    error = error[at_edge(run) & np.isfinite(error)]
    return float(np.median(error)) if len(error) else float("nan")


def step_excess(run: Run, window: float) -> float:
    """Mean over the edge of the optimizer's smoothed effective step over the flow's, minus 1.

    The optimizer's nu swings, and the mean of 1 / sqrt(nu) is larger than 1 / sqrt of the mean.
    """
    ratio = smooth(run["discrete"].effective_step, window) / run["central"].effective_step
    good = at_edge(run) & np.isfinite(ratio)
    return float(np.mean(ratio[good]) - 1.0) if good.any() else float("nan")


def loss_lag(run: Run, window: float) -> float:
    """By how many steps the flow's predicted loss trails the optimizer's smoothed loss, median at the edge."""
    actual = np.log(smooth(run["discrete"].loss, window))
    predicted = np.log(run["central"].predicted_loss)
    slope = smooth(np.gradient(predicted), window)
    good = at_edge(run) & np.isfinite(actual) & np.isfinite(slope) & (slope < 0)
    return float(np.median((actual - predicted)[good] / slope[good])) if good.any() else float("nan")


def furthest_ratio(ratios: np.ndarray) -> float:
    """The one of ``variance_ratio`` that is furthest from 1 (A8); NaN where there is none."""
    return float(ratios[np.argmax(np.abs(np.log(ratios)))]) if len(ratios) else float("nan")


def at_loss(run: Run, level: float, process: str = "central") -> int:
    """The first step at which the loss of a process is at or below ``level``.

    Raises:
        InputError: it never is.
    """
    below = np.flatnonzero(run[process].loss <= level)
    if len(below) == 0:
        raise InputError(f"the loss of the {process} process never comes down to {level:g}; run more steps")
    return int(below[0])


# --- single weights ------------------------------------------------------------------------------


def _coordinates(run: Run, name: str, window: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smoothed optimizer, flow's prediction (rows of time) and the steps at the edge at which both are known."""
    actual = smooth(run["discrete"][f"{name}_at"], window)
    predicted = run["central"][f"predicted_{name}_at" if name == "gradient2" else f"{name}_at"]
    return actual, predicted, at_edge(run) & np.isfinite(actual).all(1) & np.isfinite(predicted).all(1)


def coordinate_error(run: Run, window: float, name: str) -> float:
    """C2 ("gradient2"), C3 ("nu"): median over recorded weights and steps of |smoothed - flow| / smoothed.

    Weights whose gradient is zero throughout are left out.
    """
    actual, predicted, good = _coordinates(run, name, window)
    moving = actual[good] > 0
    error = np.abs(actual[good] - predicted[good])[moving] / actual[good][moving]
    return float(np.median(error)) if error.size else float("nan")


def oscillation_share(run: Run) -> float:
    """C2: median over recorded weights and edge steps of 1 - (grad_i L)^2 / E g_i^2, both the flow's."""
    edge = at_edge(run)
    whole, own = run["central"].predicted_gradient2_at[edge], run["central"].gradient2_at[edge]
    known = np.isfinite(whole) & np.isfinite(own) & (whole > 0)
    return float(np.median(1.0 - own[known] / whole[known])) if known.any() else float("nan")


def spread_ratio(run: Run) -> float:
    """R2: relative standard deviation in time of nu_i over that of g_i^2, at the edge, median weight."""
    edge = at_edge(run)
    nu, squares = run["discrete"].nu_at[edge], run["discrete"].gradient2_at[edge]
    moving = squares.mean(0) > 0
    spread = (nu.std(0) / nu.mean(0))[moving] / (squares.std(0) / squares.mean(0))[moving]
    return float(np.median(spread))
