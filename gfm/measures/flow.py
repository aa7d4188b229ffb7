"""Measurements on a lockstep run: the quantities that the claims on central flows bound.

Claim numbers are those of the register (``book/elements.yml``). Smoothing is Gaussian in time, as
on the plots of the Central Flows paper; ``window`` is its standard deviation in steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gfm.central import Run
from gfm.central.control import ROUGH

__all__ = [
    "AT_EDGE", "BEYOND", "apart_before_edge", "at_edge", "average", "distance_ratio", "edge_level", "effective",
    "effective_top", "flow_excess", "furthest", "largest_rise", "median", "prediction_error", "smooth", "stopped",
    "upright", "variance_ratio",
]

#: A flow that starts beyond the edge has arrived when it is this close (relative), within its band above the edge.
ARRIVED = 1e-3
#: An effective eigenvalue above this has arrived at the edge: within 0.05 % of 2.
AT_EDGE = 1.999
#: An effective eigenvalue above this has left the edge: the most by which the step-size control lets a flow exceed it.
BEYOND = 2.0 * (1.0 + ROUGH)


def median(values: np.ndarray) -> float:
    """The median; NaN if there are no values."""
    return float(np.median(values)) if np.size(values) else float("nan")


def average(values: np.ndarray) -> float:
    """The mean; NaN if there are no values."""
    return float(np.mean(values)) if np.size(values) else float("nan")


def furthest(ratios: Iterable[float]) -> float:
    """The ratio that differs from 1 by the largest factor; NaN if none could be measured."""
    known = [ratio for ratio in ratios if not np.isnan(ratio)]
    return float(max(known, key=lambda ratio: abs(np.log(ratio)))) if known else float("nan")


def upright(swing: np.ndarray) -> np.ndarray:
    """(steps + 1,) a swing along an eigenvector, with the sign that makes the largest swing positive.

    Which of the two signs a solver finds depends on the machine.
    """
    known = swing[np.isfinite(swing)]
    return -swing if len(known) and known.max() < -known.min() else swing


def smooth(values: np.ndarray, window: float) -> np.ndarray:
    """Gaussian average over time (axis 0); NaN in the first and last 2 windows, where it would be one-sided."""
    if window <= 0:
        return np.array(values, dtype=float)
    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    weight = gaussian_filter1d(known.astype(float), window, axis=0, mode="constant", truncate=3)
    total = gaussian_filter1d(np.where(known, values, 0.0), window, axis=0, mode="constant", truncate=3)
    with np.errstate(invalid="ignore", divide="ignore"):
        smoothed = total / weight
    edge = min(int(round(2 * window)), len(values) // 3)
    smoothed[:edge] = np.nan
    smoothed[len(values) - edge :] = np.nan
    return smoothed


def effective(run: Run, process: str) -> np.ndarray:
    """(steps + 1, k) eigenvalues of P^{-1} H, largest first, scaled so that the edge is at 2."""
    return run[process].eigenvalues * 2.0 / run.settings["threshold"]


def effective_top(run: Run, process: str) -> np.ndarray:
    """(steps + 1,) the largest of the ``effective`` eigenvalues."""
    return effective(run, process)[:, 0]


def at_edge(run: Run) -> np.ndarray:
    """(steps + 1,) whether the central flow is at the edge of stability: at most 0.05 % below and 2 % above it."""
    top = effective_top(run, "central")
    return (top > AT_EDGE) & (top <= BEYOND)


def stopped(run: Run, process: str = "central") -> bool:
    """Whether a process stopped before the run's end."""
    return not bool(np.isfinite(run[process].loss[-1]))


def largest_rise(run: Run) -> float:
    """A1: the largest rise of the central flow's loss between two steps; infinite if the flow stopped."""
    return float("inf") if stopped(run) else float(np.nanmax(np.diff(run["central"].loss)))


def apart_before_edge(run: Run) -> float:
    """A10: largest distance of the central flow from gradient flow and from gradient descent before the edge.

    It is taken up to the step at which the flow reaches the edge, relative to the length of its path until then (lr
    times the sum of gradient norms). NaN if the flow starts at the edge or never reaches it.
    """
    edge = np.flatnonzero(at_edge(run))
    if len(edge) == 0 or edge[0] < 2:
        return float("nan")
    first = int(edge[0])
    length = run.settings["lr"] * np.sqrt(run["central"].gradient_norm2[:first]).sum()
    return float(max(run.distance(q, "central")[:first].max() for q in ("stable", "discrete")) / length)


def flow_excess(run: Run) -> tuple[float, float]:
    """A2: the largest relative excess of the flow's top eigenvalue over the edge, and ``|mean - 2|`` at the edge.

    The excess counts once the flow has come to the edge or below it (within ``ARRIVED``). Infinite and NaN if the
    flow stopped or never got there.
    """
    top = effective_top(run, "central")
    arrived = np.flatnonzero(top <= 2.0 * (1.0 + ARRIVED))
    if stopped(run) or len(arrived) == 0:
        return float("inf"), float("nan")
    excess = float(np.nanmax(top[arrived[0] :]) / 2.0 - 1.0)
    edge = at_edge(run)
    return max(excess, 0.0), float(abs(np.nanmean(top[edge]) - 2.0)) if edge.any() else float("nan")


def edge_level(run: Run) -> float:
    """A3: time mean of the optimizer's own top effective eigenvalue while the flow is at the edge."""
    edge = at_edge(run)
    return float(np.nanmean(effective_top(run, "discrete")[edge])) if edge.any() else float("nan")


def prediction_error(run: Run, window: float, what: str = "loss", predicted: bool = True) -> float:
    """A4, A6, B8: median at the edge of ``|smoothed optimizer - flow| / smoothed optimizer``.

    Infinite if the flow stopped; NaN if it never reached the edge, or too late for a time average.

    Args:
        run: with processes discrete and central.
        window: standard deviation, in steps, of the Gaussian average.
        what: "loss", "gradient_norm2", ...
        predicted: compare the time average that the flow predicts, not the value at the flow's own weights.
    """
    if stopped(run):
        return float("inf")
    actual = smooth(run["discrete"][what], window)
    flow = run["central"][f"predicted_{what}" if predicted else what]
    error = np.abs(actual - flow) / actual
    return median(error[at_edge(run) & np.isfinite(error)])


def distance_ratio(run: Run) -> float:
    """A7: final distance of the optimizer to the central flow, divided by that to the stable flow."""
    return float(run.distance("discrete", "central")[-1] / run.distance("discrete", "stable")[-1])


def variance_ratio(run: Run, window: float) -> np.ndarray:
    """A8: for each eigenvector of Sigma, mean smoothed squared displacement divided by mean predicted variance.

    Squared displacements are (u^T P delta)^2 with U^T P U = 1, in the unit of Sigma's generalised eigenvalues.
    Only steps count at which both are known and the prediction exceeds 1 % of the first eigenvector's maximum;
    eigenvectors with few such steps are left out.
    """
    sigma = run["central"].sigma
    seen = smooth(run["central"].displacement ** 2, window)
    ratios = []
    for i in range(sigma.shape[1]):
        good = np.isfinite(sigma[:, i]) & np.isfinite(seen[:, i])
        good &= sigma[:, i] > 0.01 * np.nanmax(sigma[:, 0])
        if good.sum() > 4 * window:
            ratios.append(float(np.mean(seen[good, i]) / np.mean(sigma[good, i])))
    return np.array(ratios)
