"""Damping of the flow for runs that slow down faster than those to which it was fitted.

A field fitted to some runs reflects the rate at which *they* slow down. Networks that are wider, or start from larger
weights, descend faster: they may need 50 steps for what the fitted runs do in 200, and the flow then moves them too
far. How fast a run slows down is visible in its own prefix: the size of its gradients, ``|g_k|`` (of its increments,
where the optimizer's state is not used or states were recorded with gaps), declines as exp(-r k). A descent at rate r
with speed v at the last observed step covers v (1 - exp(-r h)) / r in h more steps. The flow's displacement is
therefore multiplied by the ratio of these distances for r and for a rate r_0 of the fitted runs, if r is larger.
Slower runs are left unchanged: no prefix shows how far they would continue.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gfm.matching.selection import clearly_better

__all__ = ["DAMPINGS", "Damping", "choose_damping", "decline"]

DAMPINGS = ("none", "auto", "cautious")
SLOWEST = 1e-4
"""Smallest rate per step; at lower rates a descent of some hundred steps is practically a straight line."""


def decline(squares: np.ndarray) -> np.ndarray:
    """(runs,) rate r per step at which the square root of the (runs, steps) squared sizes declines.

    It is minus the slope of a straight line fitted to the logarithms, at least SLOWEST; steps of size 0 (a learning
    rate that is still 0, say) are left out.
    """
    moving = squares > 0
    sizes = 0.5 * np.log(np.where(moving, squares, 1.0))
    k = np.arange(squares.shape[1]) * moving
    k = (k - (k.sum(axis=1) / np.maximum(moving.sum(axis=1), 1))[:, None]) * moving
    return np.maximum(-(sizes * k).sum(axis=1) / np.maximum(np.square(k).sum(axis=1), 1.0), SLOWEST)


@dataclass(frozen=True)
class Damping:
    """Damping of runs that decline faster than ``rate``, r_0 per step."""

    rate: float

    def gains(self, rates: np.ndarray, horizon: int) -> np.ndarray:
        """(runs, horizon) factors in (0, 1] on the displacement from the last observed state."""
        h = np.arange(1, horizon + 1)
        r = np.maximum(rates, self.rate)[:, None]
        return (np.expm1(-r * h) / r) / (np.expm1(-self.rate * h) / self.rate)


def choose_damping(rates: np.ndarray, errors: Callable[[Damping | None], np.ndarray]) -> tuple[str, Damping | None]:
    """The name of the damping to use and the damping, given the fitted runs' rates and the held-out errors under each.

    ``"fast"`` damps runs that slow down faster than nine in ten fitted ones; it changes little if runs are alike,
    and is used unless it raises the held-out error by more than 5 %. ``"all"`` damps those that slow down faster than
    the median, and is used if that is clearly better; ``"none"`` damps no run.
    """
    dampings: dict[str, Damping | None] = {"none": None}
    dampings |= {n: Damping(float(np.quantile(rates, q))) for n, q in (("fast", 0.9), ("all", 0.5))}
    found = {name: errors(damping) for name, damping in dampings.items()}
    chosen = "fast" if found["fast"].mean() <= 1.05 * found["none"].mean() else "none"
    if clearly_better(found["all"], found[chosen]):
        chosen = "all"
    return chosen, dampings[chosen]
