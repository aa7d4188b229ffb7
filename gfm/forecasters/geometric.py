"""Geometric extrapolation: Aitken's delta-squared process on three observed states."""

from __future__ import annotations

import numpy as np

from gfm.errors import InputError
from gfm.forecasting.base import Forecaster, register
from gfm.trajectories import Trajectories

__all__ = ["Geometric"]


@register
class Geometric(Forecaster):
    """A geometric series through the states 0, n/2 and n.

    With d1 = w_{n/2} - w_0, d2 = w_n - w_{n/2} and r = d2/d1 in [0, 0.999] it is
    w_{n+k} = w_n + d2 r (1 - r^q) / (1 - r), q = k / (n/2). Exact for one exponential.
    """

    name = "geometric"
    title = "Geometric (Aitken)"
    source = "Aitken 1926"
    bounded = False

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        w = prefix.weights
        half = (w.shape[1] - 1) // 2
        if half < 1:
            raise InputError("'geometric' needs at least three observed states.")
        last = w[:, -1]
        d1, d2 = w[:, -1 - half] - w[:, -1 - 2 * half], last - w[:, -1 - half]
        ratio = np.divide(d2, d1, out=np.zeros_like(d2), where=d1 != 0)
        ratio = np.clip(ratio, 0.0, 0.999)[:, None]
        q = np.arange(1, horizon + 1)[None, :, None] / half
        return last[:, None] + d2[:, None] * ratio * (1 - ratio**q) / (1 - ratio)
