"""Measurements on the optimizer alone at the edge of stability: crossings, cycles, sharpening.

Effective eigenvalues are those of P^{-1} H, scaled so that the edge is at 2.
"""

from typing import NamedTuple

import numpy as np

from gfm.central import Run

__all__ = ["Cycle", "crossings", "curvature_met", "cycle_length", "cycles", "effective", "effective_top", "first_cycle",
           "measured_top", "sharpening"]

#: Smaller departures from the edge, relative to it, are not part of a cycle.
CALM = 0.01


class Cycle(NamedTuple):
    """One cycle at the edge, in steps: the sharpness rises above the edge, falls below it, and rises above again."""

    above: int
    below: int
    again: int


def effective(run: Run, process: str) -> np.ndarray:
    """(steps + 1, k) eigenvalues of P^{-1} H, largest first, scaled so that the edge is at 2."""
    return run[process].eigenvalues * 2.0 / run.settings["threshold"]


def effective_top(run: Run, process: str) -> np.ndarray:
    """(steps + 1,) the largest of the ``effective`` eigenvalues."""
    return effective(run, process)[:, 0]


def measured_top(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Steps (m,) at which the optimizer's top effective eigenvalue was measured, and its values (m,), edge at 2."""
    top = effective_top(run, "discrete")
    steps = np.flatnonzero(np.isfinite(top))
    return steps, top[steps]


def crossings(run: Run) -> np.ndarray:
    """(m,) steps at which the top effective eigenvalue crosses 2, up or down.

    Neighbouring measurements are averaged in pairs, because the sharpness fluctuates with the weights'
    oscillation of period two.
    """
    steps, top = measured_top(run)
    calm = (top[1:] + top[:-1]) / 2
    return steps[1:][np.flatnonzero(np.diff(calm > 2.0)) + 1]


def cycles(run: Run) -> list[Cycle]:
    """The run's complete cycles around the edge, in order.

    Each departs from the edge by at least ``CALM`` on both sides: smaller fluctuations around 2 end no cycle. In a run
    that starts beyond the edge, the first cycle begins with the first crossing from below. Measurements are averaged in
    pairs, as in ``crossings``.
    """
    steps, top = measured_top(run)
    calm = (top[1:] + top[:-1]) / 2
    away = np.flatnonzero(np.abs(calm / 2.0 - 1.0) > CALM)
    above = calm > 2.0
    turns: list[int] = []  # alternately up and down
    for before, after in zip(away, away[1:], strict=False):
        if above[before] != above[after] and (turns or above[after]):
            same = above[before:after] == above[after]
            turns.append(int(steps[1 + before + 1 + np.flatnonzero(~same)[-1]]))
    return [Cycle(*turns[i : i + 3]) for i in range(0, len(turns) - 2, 2)]


def first_cycle(run: Run) -> Cycle | None:
    """The first cycle, or None if the run has no complete one."""
    return next(iter(cycles(run)), None)


def cycle_length(run: Run) -> float:
    """Median number of steps from one crossing from below to the next; NaN if the run has no complete cycle.

    The first cycle, in which the swing grows from almost nothing, is longer than the others; it counts only if there is
    no other.
    """
    lengths = [cycle.again - cycle.above for cycle in cycles(run)]
    return float(np.median(lengths[1:] or lengths)) if lengths else float("nan")


def sharpening(run: Run) -> float:
    """Largest sharpness before the edge is crossed (or in the whole run), divided by the initial sharpness."""
    steps, top = measured_top(run)
    passed = np.flatnonzero(top > 2.0)
    before = top[: passed[0] + 1] if len(passed) else top
    return float(before.max() / top[0])


def curvature_met(run: Run, counts: np.ndarray) -> float:
    """Mean curvature along the steps of gradient descent, over the steps (steps + 1,) that count; the edge is at 2.

    A step w -> w - lr g changes the loss by -lr g^2 + curvature (lr g)^2 / 2, where the curvature is averaged along the
    step. Its mean, weighted by the squared length of the step, needs losses and gradients only. A swing that neither
    grows nor dies out meets 2/lr, whatever the sharpness at its points. NaN for fewer than two steps in a row.
    """
    losses, squares, lr = run["discrete"].loss, run["discrete"].gradient_norm2, run.settings["lr"]
    both = counts[:-1] & counts[1:]
    if not both.any():
        return float("nan")
    return float(2.0 + 2.0 * np.diff(losses)[both].sum() / (lr * squares[:-1][both].sum()))
