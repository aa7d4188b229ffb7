"""Measurements on a lockstep run: the quantities that the claims on central flows bound.

Claim numbers are those of the register (``book/elements.yml``). Functions that compare the optimizer with its flow take
a :class:`~gfm.measures.comparison.Comparison`, and give NaN where that is not judged.
"""

from collections.abc import Iterable

import numpy as np

from gfm.central import Run
from gfm.errors import InputError
from gfm.measures.comparison import Comparison, at_edge, held, swinging, variances
from gfm.measures.edge import effective, effective_top

__all__ = [
    "apart_before_edge", "average", "distance_ratio", "distance_share", "edge_level", "flow_excess", "furthest",
    "largest_rise", "locked", "median", "offset_share", "prediction_error", "rank", "stopped", "together", "upright",
    "variance_ratio", "variance_total",
]

#: A flow that starts beyond the edge has arrived when it is this close (relative), within its band above the edge.
ARRIVED = 1e-3


def median(values: np.ndarray) -> float:
    """The median of an array of any shape; NaN if there are no values."""
    return float(np.median(values)) if np.size(values) else float("nan")


def average(values: np.ndarray) -> float:
    """The mean of an array of any shape; NaN if there are no values."""
    return float(np.mean(values)) if np.size(values) else float("nan")


def furthest(ratios: Iterable[float]) -> float:
    """The ratio that differs from 1 by the largest factor; NaN if none could be measured."""
    known = [ratio for ratio in ratios if not np.isnan(ratio)]
    return float(max(known, key=lambda ratio: abs(np.log(ratio)))) if known else float("nan")


def upright(swing: np.ndarray) -> np.ndarray:
    """(steps + 1,) a swing along an eigenvector, with the sign that makes the largest swing positive.

    The sign that a solver finds depends on the machine.
    """
    known = swing[np.isfinite(swing)]
    return -swing if len(known) and known.max() < -known.min() else swing


def stopped(run: Run) -> bool:
    """Whether the central flow stopped before the run's end."""
    return not bool(np.isfinite(run["central"].loss[-1]))


def rank(run: Run) -> np.ndarray:
    """(steps + 1,) rank of Sigma: the number of eigenvalues above a millionth of the largest of the run."""
    sigma = np.nan_to_num(run["central"].sigma)
    if sigma.size == 0 or sigma.max() <= 0:
        return np.zeros(len(sigma), dtype=int)
    return (sigma > 1e-6 * sigma.max()).sum(1)


def locked(run: Run) -> np.ndarray:
    """(steps + 1,) how many effective eigenvalues of the flow are at the edge, within its band."""
    return held(run).sum(1)


def together(run: Run, count: int) -> int:
    """A9: the most steps in a row at which at least ``count`` effective eigenvalues of the flow are at the edge."""
    longest = now = 0
    for many in locked(run) >= count:
        now = now + 1 if many else 0
        longest = max(longest, now)
    return longest


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
    """A2: the largest relative excess of the flow's top eigenvalue over the edge, and ``|mean - 2|`` while it swings.

    The excess counts once the flow has come to the edge or below it (within ``ARRIVED``). The mean is over the steps at
    which Sigma is not zero. Infinite and NaN if the flow stopped or never got there.
    """
    top = effective_top(run, "central")
    arrived = np.flatnonzero(top <= 2.0 * (1.0 + ARRIVED))
    if stopped(run) or len(arrived) == 0:
        return float("inf"), float("nan")
    excess = float(np.nanmax(top[arrived[0] :]) / 2.0 - 1.0)
    swings = (rank(run) > 0) & (np.arange(len(top)) >= arrived[0])
    return max(excess, 0.0), abs(average(top[swings]) - 2.0)


def edge_level(compared: Comparison, process: str = "discrete") -> float:
    """A3, B1, C1: time mean of the optimizer's own effective eigenvalues over the steps that count.

    At each step the mean is over as many eigenvalues as the flow has at the edge; without a flow, the largest is taken.

    Args:
        compared: of a run with ``process``.
        process: "discrete", or "midpoint" for the eigenvalues at midpoints of the optimizer's path.
    """
    values = effective(compared.run, process)
    if "central" not in compared.run.series:
        return average(compared.during(values[:, 0]))
    count = np.minimum(locked(compared.run), values.shape[1])
    means = np.array([row[:k].mean() if k else np.nan for row, k in zip(values, count, strict=True)])
    return average(compared.during(means))


def prediction_error(compared: Comparison, what: str = "loss", predicted: bool = True) -> float:
    """A4, A6, B8: median of ``|optimizer - flow| / optimizer``, both averaged, over the steps that count.

    Infinite if the flow stopped; ``what`` and ``predicted`` as for ``Comparison.pair``.
    """
    if stopped(compared.run):
        return float("inf")
    actual, flow = compared.pair(what, predicted)
    return median(np.abs(actual - flow) / actual)


def distance_ratio(run: Run) -> float:
    """A7: final distance of the optimizer to the central flow, divided by that to the stable flow.

    Where the stable flow stops early, because its curvature became too large, it is taken at its last step; infinite if
    the central flow stopped.
    """
    if stopped(run):
        return float("inf")
    near, far = run.distance("discrete", "central"), run.distance("discrete", "stable")
    last = np.flatnonzero(np.isfinite(far))[-1]
    return float(near[last] / far[last])


def distance_share(run: Run) -> float:
    """Final distance of the optimizer to the central flow, relative to the length of the flow's path.

    The length is that of the polygon through the flow's kept weights.

    Raises:
        InputError: Fewer than two weights of the flow were kept.
    """
    kept = run["central"].get("weights", np.zeros((0, 1)))
    if len(kept) < 2:
        raise InputError("The way travelled needs the flow's weights; run with keep_weights.")
    way = np.linalg.norm(np.diff(kept.astype(float), axis=0), axis=1).sum()
    return float(run.distance("discrete", "central")[-1] / way)


def variance_ratio(compared: Comparison) -> np.ndarray:
    """A8: mean squared displacement divided by mean predicted variance, for each direction that counts."""
    seen, predicted = variances(compared)
    known = np.isfinite(seen) & np.isfinite(predicted)
    return np.array([seen[good, i].mean() / predicted[good, i].mean() for i, good in enumerate(known.T) if good.any()])


def variance_total(compared: Comparison) -> tuple[float, float]:
    """A8, whatever the direction: the ratio of ``variance_ratio`` for the sum over the directions that count.

    Second, for how many windows the direction that is furthest off by itself is compared: a ratio of few bursts says
    little. Both NaN if nothing is judged.
    """
    seen, predicted = variances(compared)
    known = np.isfinite(seen) & np.isfinite(predicted)
    if not known.any():
        return float("nan"), float("nan")
    ratios = list(variance_ratio(compared))
    least = known.sum(0)[known.any(0)][ratios.index(furthest(ratios))] / compared.window
    return float(seen[known].sum() / predicted[known].sum()), float(least)


def offset_share(compared: Comparison) -> float:
    """Share of the squared displacement between optimizer and flow that does not alternate from step to step.

    It is near 0 where the optimizer swings about the flow, and near 1 where it swings about a place beside it, as after
    a burst that threw it there: the squared displacement then exceeds the variance of the swing. NaN if not judged.
    """
    displacement = np.where(swinging(compared), compared.run["central"].displacement, np.nan)
    offset = (displacement[:-2] + 2.0 * displacement[1:-1] + displacement[2:]) / 4.0
    both = np.isfinite(offset)
    if not both.any():
        return float("nan")
    return float(np.square(offset[both]).sum() / np.square(displacement[1:-1][both]).sum())
