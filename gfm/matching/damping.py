"""A run that slows down faster than those fitted: its flow is damped to its own rate.

A field fitted to some runs carries the speed at which *they* end. Networks that are wider, or start from larger
weights, descend faster: what the fitted runs do in 200 steps they have done in fifty, and the flow carries them
past the end. How fast a run slows down is seen in its own prefix: the size of its gradients, |g_k|, declines as
exp(-r k). A descent at rate r that has speed v at the last observed step covers v (1 - exp(-r h)) / r in h more
steps. The flow's displacement is therefore multiplied by the ratio of these distances for r and for a rate r_0
of the fitted runs, where r is the larger. Slower runs are left as they are: no prefix shows how far they would
go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gfm.matching.selection import clearly_better

__all__ = ["DAMPINGS", "Damping", "choose_damping", "decline"]

DAMPINGS = ("none", "auto", "cautious")
SLOWEST = 1e-4
"""Smallest rate per step: below it a descent of some hundred steps is a straight line."""


def decline(squares: np.ndarray) -> np.ndarray:
    """(runs,) rate r per step at which the root of (runs, steps) squared sizes declines.

    The slope of a straight line through the logarithms, at least SLOWEST.
    """
    sizes = 0.5 * np.log(np.maximum(squares, np.finfo(np.float64).tiny))
    k = np.arange(sizes.shape[1]) - (sizes.shape[1] - 1) / 2
    return np.maximum(-(sizes @ k) / max(k @ k, 1.0), SLOWEST)


@dataclass(frozen=True)
class Damping:
    """rate: r_0 per step; runs that decline faster are damped."""

    rate: float

    def gains(self, rates: np.ndarray, horizon: int) -> np.ndarray:
        """(runs, horizon) factors in (0, 1] on the displacement from the last observed state."""
        h = np.arange(1, horizon + 1)
        r = np.maximum(rates, self.rate)[:, None]
        return (np.expm1(-r * h) / r) / (np.expm1(-self.rate * h) / self.rate)


def choose_damping(
    rates: np.ndarray, errors: Callable[[Damping | None], np.ndarray]
) -> tuple[str, Damping | None]:
    """The damping to use, and its name, given the fitted runs' rates and held-out errors under each.

    ``"fast"`` damps runs that slow faster than nine of ten fitted ones, which changes little where runs
    are alike and is kept unless it costs the held-out runs a twentieth; ``"all"`` those faster than the
    median, where that is clearly better; ``"none"`` none.
    """
    dampings: dict[str, Damping | None] = {"none": None}
    dampings |= {n: Damping(float(np.quantile(rates, q))) for n, q in (("fast", 0.9), ("all", 0.5))}
    found = {name: errors(damping) for name, damping in dampings.items()}
    chosen = "fast" if found["fast"].mean() <= 1.05 * found["none"].mean() else "none"
    if clearly_better(found["all"], found[chosen]):
        chosen = "all"
    return chosen, dampings[chosen]
