"""Measurements on the optimizer alone at the edge of stability: crossings, cycles, plateaus."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gfm.central import Run
from gfm.measures.flow import effective_top

__all__ = ["Cycle", "crossings", "first_cycle", "measured_top", "plateau", "sharpening"]


class Cycle(NamedTuple):
    """One cycle at the edge, in steps: the sharpness rises above the edge, falls below it, and rises above again."""

    above: int
    below: int
    again: int


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


def first_cycle(run: Run) -> Cycle | None:
    """The first cycle, or None if the run has no complete one.

    In a run that starts beyond the edge, the cycle begins with the first crossing from below.
    """
    found = crossings(run).tolist()
    steps, top = measured_top(run)
    if top[:2].mean() > 2.0:
        found = found[1:]
    return Cycle(*found[:3]) if len(found) >= 3 else None


def plateau(run: Run, share: float = 1 / 3) -> float:
    """Mean of the top effective eigenvalue over the last ``share`` of the run; 2 is the edge."""
    steps, top = measured_top(run)
    return float(top[steps >= (1 - share) * run.steps].mean())


def sharpening(run: Run) -> float:
    """Largest sharpness before the edge is crossed (or in the whole run), divided by the initial sharpness."""
    steps, top = measured_top(run)
    passed = np.flatnonzero(top > 2.0)
    before = top[: passed[0] + 1] if len(passed) else top
    return float(before.max() / top[0])
