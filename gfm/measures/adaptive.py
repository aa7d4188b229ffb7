"""Measurements on runs of the adaptive optimizers: sharpness, second moments, single weights.

Claim numbers are those of the register (``book/elements.yml``).
"""

import numpy as np

from gfm.central import Run
from gfm.errors import InputError
from gfm.measures.comparison import Comparison, alike, held, smooth
from gfm.measures.edge import effective_top, measured_top
from gfm.measures.flow import average, edge_level, median, stopped

__all__ = [
    "arrivals", "at_equal_way", "at_loss", "averaged_at", "coordinate_error", "equal_way_error", "flow_sharpness",
    "level_offset", "loss_fall", "loss_lag", "oscillation_share", "spread_ratio", "step_excess", "upward_crossings",
]


def flow_sharpness(run: Run, process: str) -> np.ndarray:
    """(steps + 1,) the Hessian's top eigenvalue if P is one number: S = S_eff / effective step."""
    return effective_top(run, process) / run[process].effective_step


def level_offset(compared: Comparison, process: str = "discrete") -> float:
    """B1, C1: ``|edge_level / 2 - 1|``, the distance from the edge of the optimizer's eigenvalues in the time mean."""
    return abs(edge_level(compared, process) / 2.0 - 1.0)


def upward_crossings(run: Run) -> int:
    """How often the optimizer's effective sharpness crosses 2 from below."""
    _, top = measured_top(run)
    return int(np.sum((top[:-1] < 2.0) & (top[1:] >= 2.0)))


def arrivals(run: Run) -> list[int]:
    """Steps at which the flow's first, second, ... effective eigenvalues reach the edge, for those that do."""
    return [int(np.argmax(column)) for column in held(run).T if column.any()]


def step_excess(compared: Comparison) -> float:
    """Mean ratio of the optimizer's effective step to the flow's, both averaged, over the steps that count, minus 1.

    The optimizer's nu oscillates, and the mean of 1 / sqrt(nu) is larger than 1 / sqrt of the mean.
    """
    actual, flow = compared.pair("effective_step", predicted=False)
    return average(actual / flow) - 1.0


def loss_lag(compared: Comparison) -> float:
    """Median, over the steps that count, of the steps by which the flow's predicted loss lags the optimizer's."""
    run = compared.run
    actual, predicted = (np.log(x) for x in alike(run["discrete"].loss, run["central"].predicted_loss, compared.window))
    lag, slope = compared.during(np.stack([actual - predicted, np.gradient(predicted)], 1)).T
    return median((lag / slope)[slope < 0])


def loss_fall(compared: Comparison) -> float:
    """Share by which the flow's averaged predicted loss falls in a step, on average over the steps that count.

    A lag of one step makes an error of the loss of about this size (see ``loss_lag``).
    """
    _, predicted = alike(compared.run["discrete"].loss, compared.run["central"].predicted_loss, compared.window)
    return -average(compared.during(np.gradient(np.log(predicted))))


def at_equal_way(run: Run) -> np.ndarray:
    """(steps + 1,) the flow's predicted loss where its cumulated effective step is the optimizer's; NaN beyond."""
    ways = [np.concatenate([[0.0], np.cumsum(run[name].effective_step[:-1])]) for name in ("discrete", "central")]
    return np.interp(ways[0], ways[1], run["central"].predicted_loss, right=np.nan)


def equal_way_error(compared: Comparison) -> float:
    """Error of the predicted loss as in A4, but with the flow at equal cumulated effective step.

    Steps at which the flow's cumulated step never reaches the optimizer's do not count. Infinite if the flow stopped.
    """
    if stopped(compared.run):
        return float("inf")
    actual, predicted = compared.of(compared.run["discrete"].loss, at_equal_way(compared.run))
    return median(np.abs(actual - predicted) / actual)


def averaged_at(compared: Comparison, what: str, step: int) -> float:
    """C8: the optimizer's averaged ``what`` at a step.

    NaN if nothing is judged, or if the step lies within two windows of the run's ends.
    """
    return float(smooth(compared.run["discrete"][what], compared.window)[step]) if compared.judged else float("nan")


def at_loss(run: Run, level: float) -> int:
    """The first step at which the central flow's loss is at or below ``level``.

    Raises:
        InputError: The loss stays above ``level``.
    """
    below = np.flatnonzero(run["central"].loss <= level)
    if len(below) == 0:
        raise InputError(f"The loss of the central process never comes down to {level:g}; run more steps.")
    return int(below[0])


# --- single weights ------------------------------------------------------------------------------


def coordinate_error(compared: Comparison, name: str) -> float:
    """C2 ("gradient2"), C3 ("nu"): median of ``|optimizer - flow| / optimizer``, both averaged, over recorded weights.

    Weights whose gradient is always zero are left out.
    """
    run = compared.run
    flow = run["central"][f"predicted_{name}_at" if name == "gradient2" else f"{name}_at"]
    actual, predicted = compared.of(run["discrete"][f"{name}_at"], flow)
    moving = actual > 0
    return median(np.abs(actual - predicted)[moving] / actual[moving])


def oscillation_share(compared: Comparison) -> float:
    """C2: median over recorded weights and the steps that count of 1 - (grad_i L)^2 / E g_i^2, both of the flow."""
    flow = compared.run["central"]
    whole, own = compared.during(np.stack([flow.predicted_gradient2_at, flow.gradient2_at], -1)).T
    known = whole > 0
    return median(1.0 - own[known] / whole[known])


def spread_ratio(compared: Comparison) -> float:
    """R2: relative standard deviation in time of nu_i over that of g_i^2, the median over weights.

    Both are divided by the flow's values, so that slow drift does not count as a swing.
    """
    if not compared.judged:
        return float("nan")
    seen, flow = compared.run["discrete"], compared.run["central"]
    with np.errstate(invalid="ignore", divide="ignore"):
        swings = np.stack([seen.nu_at / flow.nu_at, seen.gradient2_at / flow.predicted_gradient2_at], -1)
    alive = np.isfinite(swings[compared.counts]).all((0, 2))
    nu, squares = (part.std(0) / part.mean(0) for part in np.moveaxis(compared.during(swings[:, alive]), -1, 0))
    return median(nu / squares)
