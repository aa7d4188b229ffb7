"""Measurements on the flow's predictions: several eigenvalues, gradients, outputs.

Claim numbers are those of the register. A step is at the edge if the flow's top effective eigenvalue is at 2.
"""

from __future__ import annotations

import numpy as np

from gfm.central import Run
from gfm.measures.flow import AT_EDGE, BEYOND, at_edge, average, effective, median, smooth

__all__ = [
    "by_example", "edge_steps", "largest_gap", "locked", "loss_gap_share",
    "most_apart", "output_error", "own_gradient_share", "rank", "rank_agreement",
    "settled_excess", "variance_correlation", "variation_ratio",
]


def rank(run: Run) -> np.ndarray:
    """(steps + 1,) rank of Sigma: the number of eigenvalues above a millionth of the largest of the run."""
    sigma = np.nan_to_num(run["central"].sigma)
    if sigma.size == 0 or sigma.max() <= 0:
        return np.zeros(len(sigma), dtype=int)
    return (sigma > 1e-6 * sigma.max()).sum(1)


def locked(run: Run) -> np.ndarray:
    """(steps + 1,) how many effective eigenvalues of the flow are at the edge, as in ``at_edge``."""
    values = np.nan_to_num(effective(run, "central"))
    return ((values > AT_EDGE) & (values <= BEYOND)).sum(1)


def rank_agreement(run: Run) -> float:
    """A9: share of the steps at which the rank of Sigma equals the number of eigenvalues at the edge."""
    return float((rank(run) == locked(run)).mean())


def largest_gap(run: Run) -> float:
    """A9: largest complementarity gap of the run's problems, scaled so that their data have size 1."""
    gaps = run["central"].get("complementarity_gap", np.full(1, np.nan))
    return float(np.nanmax(gaps))


def variance_correlation(run: Run, window: float) -> float:
    """A8: correlation, over eigenvectors and steps, of smoothed squared swings and predicted variances."""
    sigma = run["central"].sigma
    seen = smooth(run["central"].displacement ** 2, window)
    good = np.isfinite(sigma) & np.isfinite(seen) & (sigma > 0)
    return float(np.corrcoef(sigma[good], seen[good])[0, 1]) if good.sum() > 2 else float("nan")


def edge_steps(run: Run, window: float) -> np.ndarray:
    """(m,) steps at the edge where the smoothed loss is known."""
    return np.flatnonzero(at_edge(run) & np.isfinite(smooth(run["discrete"].loss, window)))


def settled_excess(run: Run, after: int = 20) -> float:
    """A2, once settled: largest relative excess of the flow's top eigenvalue over the edge.

    It counts from ``after`` steps after the flow first reached the edge; 0 if there are no such steps.
    """
    edge = np.flatnonzero(at_edge(run))
    if len(edge) == 0:
        return 0.0
    top = run["central"].eigenvalues[edge[0] + after :, 0] / run.settings["threshold"]
    return float(max(np.nanmax(top) - 1.0, 0.0)) if len(top) else 0.0


def loss_gap_share(run: Run, window: float) -> float:
    """A5: share of the steps at the edge where the flow's own loss is below the optimizer's smoothed loss."""
    steps = edge_steps(run, window)
    below = run["central"].loss[steps] < smooth(run["discrete"].loss, window)[steps]
    return average(below)


def own_gradient_share(run: Run, window: float) -> float:
    """A6: squared gradient norm at the flow's own weights, divided by the optimizer's smoothed one.

    It is the median over the last half of the steps at the edge.
    """
    steps = edge_steps(run, window)
    late = steps[len(steps) // 2 :]
    actual = smooth(run["discrete"].gradient_norm2, window)[late]
    return median(run["central"].gradient_norm2[late] / actual)


def by_example(run: Run, examples: int) -> list[int]:
    """One column of the recorded outputs for each of the ``examples`` recorded.

    It is the output that is largest at the end of the flow.
    """
    last = run["central"].outputs[-1].reshape(examples, -1)
    return [i * last.shape[1] + int(np.argmax(row)) for i, row in enumerate(np.nan_to_num(last))]


def most_apart(run: Run, columns: list[int]) -> int:
    """The one of these ``columns`` of the recorded outputs where gradient flow and central flow end furthest apart."""
    apart = np.abs(run["stable"].outputs[-1] - run["central"].outputs[-1])
    return max(columns, key=lambda i: np.nan_to_num(apart[i], nan=-1.0))


def output_error(run: Run, window: float, predicted: bool = False) -> float:
    """A12: median, over outputs and steps at the edge, of ``|optimizer's smoothed output - flow's output|``.

    Args:
        run: with recorded outputs.
        window: standard deviation, in steps, of the Gaussian average.
        predicted: compare the time average that the flow predicts, not the output at the flow's own weights.
    """
    steps = edge_steps(run, window)
    actual = smooth(run["discrete"].outputs, window)[steps]
    flow = run["central"]["predicted_outputs" if predicted else "outputs"][steps]
    return median(np.abs(actual - flow))


def variation_ratio(run: Run, window: float) -> float:
    """A12: ratio of the total variations of the optimizer's and the flow's outputs at the edge, summed over outputs."""
    steps = edge_steps(run, window)
    steps = steps[steps > 0]

    def variation(process: str) -> float:
        outputs = run[process].outputs
        return float(np.abs(outputs[steps] - outputs[steps - 1]).sum())

    return variation("discrete") / variation("central") if len(steps) else float("nan")
