"""Measurements on the flow's predictions: several eigenvalues, gradients, outputs.

Claim numbers are those of the register. Functions that compare the optimizer with its flow take a
:class:`~gfm.measures.comparison.Comparison`, and give NaN where that is not judged.
"""

import numpy as np

from gfm.central import Run
from gfm.checks import whole
from gfm.measures.comparison import Comparison, at_edge, variances
from gfm.measures.flow import average, locked, median, rank, stopped

__all__ = [
    "by_example", "fall_ratio", "largest_gap", "loss_gap_share", "most_apart", "output_error", "own_gradient_share",
    "rank_agreement", "settled_excess", "variance_correlation", "variation_ratio",
]

#: Steps after a drop of the learning rate in which the swing dies out.
SOON = 5


def rank_agreement(run: Run) -> float:
    """A9: share of the steps at which the rank of Sigma equals the number of eigenvalues at the edge."""
    return float((rank(run) == locked(run)).mean())


def largest_gap(run: Run) -> float:
    """A9: largest complementarity gap of the run's problems, scaled so that their data have size 1."""
    gaps = run["central"].get("complementarity_gap", np.full(1, np.nan))
    return float(np.nanmax(gaps))


def variance_correlation(compared: Comparison) -> float:
    """A8: correlation of squared swings and predicted variances, averaged alike, over directions and steps."""
    seen, predicted = variances(compared)
    good = np.isfinite(seen) & np.isfinite(predicted)
    return float(np.corrcoef(predicted[good], seen[good])[0, 1]) if good.sum() > 2 else float("nan")


def settled_excess(run: Run, after: int = 20) -> float:
    """A2, once settled: largest relative excess of the flow's top eigenvalue over the edge.

    It counts from ``after`` steps after the flow first reached the edge; 0 if there are no such steps.
    """
    edge = np.flatnonzero(at_edge(run))
    if len(edge) == 0:
        return 0.0
    top = run["central"].eigenvalues[edge[0] + after :, 0] / run.settings["threshold"]
    return float(max(np.nanmax(top) - 1.0, 0.0)) if len(top) else 0.0


def fall_ratio(compared: Comparison, drop: int) -> float:
    """A5-drop: the fall of the loss when the learning rate drops, divided by the predicted fall.

    A fall is the mean over the last window before the drop minus the mean over ten steps soon after it. The flow's
    learning rate changes linearly between two steps, so its swing vanishes from the step before the drop on; the window
    ends before that step. NaN if the run is not judged, has too few steps on either side, or no fall is predicted;
    infinite if the flow stopped. ``drop`` is the first step with the lower rate, counted from the run's start.

    Raises:
        InputError: ``drop`` is not a whole number of at least 0.
    """
    drop, run = whole("drop", drop, 0), compared.run
    if stopped(run):
        return float("inf")
    before, after = slice(drop - 1 - round(compared.window), drop - 1), slice(drop + SOON, drop + SOON + 10)
    if not compared.judged or before.start < 0 or after.stop > run.steps + 1:
        return float("nan")
    fell, predicted = (loss[before].mean() - loss[after].mean()
                       for loss in (run["discrete"].loss, run["central"].predicted_loss))
    return float(fell / predicted) if predicted > 0 else float("nan")


def loss_gap_share(compared: Comparison) -> float:
    """A5: share of the steps that count where the flow's own loss is below the optimizer's, both averaged."""
    actual, own = compared.pair("loss", predicted=False)
    return average(own < actual)


def own_gradient_share(compared: Comparison) -> float:
    """A6: squared gradient norm at the flow's own weights, divided by the optimizer's, both averaged.

    It is the median over the last half of the steps that count.
    """
    actual, own = compared.pair("gradient_norm2", predicted=False)
    late = len(actual) // 2
    return median(own[late:] / actual[late:])


def by_example(run: Run, examples: int) -> list[int]:
    """For each of the ``examples``, the column of the recorded outputs that is largest at the end of the flow."""
    last = run["central"].outputs[-1].reshape(examples, -1)
    return [i * last.shape[1] + int(np.argmax(row)) for i, row in enumerate(np.nan_to_num(last))]


def most_apart(run: Run, columns: list[int]) -> int:
    """The one of these ``columns`` of the recorded outputs where gradient flow and central flow end furthest apart."""
    apart = np.abs(run["stable"].outputs[-1] - run["central"].outputs[-1])
    return max(columns, key=lambda i: np.nan_to_num(apart[i], nan=-1.0))


def output_error(compared: Comparison, predicted: bool = False) -> float:
    """A12: median, over outputs and the steps that count, of ``|optimizer's output - flow's output|``, both averaged.

    ``predicted`` as for ``Comparison.pair``.
    """
    actual, flow = compared.pair("outputs", predicted)
    return median(np.abs(actual - flow))


def variation_ratio(compared: Comparison) -> float:
    """A12: ratio of the total variations of the optimizer's and the flow's outputs, over the steps that count."""
    moves = [
        np.abs(compared.during(np.diff(compared.run[process].outputs, axis=0, prepend=np.nan))).sum()
        for process in ("discrete", "central")
    ]
    return float(moves[0] / moves[1]) if moves[1] > 0 else float("nan")
