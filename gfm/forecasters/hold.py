"""Hold the last observed weights: what every forecast must beat."""

from __future__ import annotations

import numpy as np

from gfm.forecasting.base import Forecaster, register
from gfm.trajectories import Trajectories

__all__ = ["Hold"]


@register
class Hold(Forecaster):
    """w_{n+k} = w_n."""

    name = "hold"
    title = "Hold"
    bounded = False

    def _forecast(self, prefix: Trajectories, horizon: int) -> np.ndarray:
        return np.repeat(prefix.weights[:, -1:], horizon, axis=1)
